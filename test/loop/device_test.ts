import { attachLoop, detachLoop, setupLoop, SyscallError } from "../../mod.ts";
import {
  ioctlStruct,
  LOOP_CONFIGURE,
  LOOP_GET_STATUS64,
  O_RDONLY,
  O_RDWR,
  open,
  write,
} from "../../linux/mod.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { loopDevices, names, openFiles, readText } from "../kernel.ts";
import { otherMount } from "../other_mount.ts";
import { newDevice } from "./new_device.ts";

async function run(program: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args }).output();
  if (!success) throw new Error(`${program}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout).trim();
}

/** A file of zeros. */
function file(path: string): string {
  Deno.writeFileSync(path, new Uint8Array(1 << 20));
  return path;
}

const devicesOf = (image: string) =>
  loopDevices(image).filter((line) => line.endsWith(` ${image}`)).map((line) => line.split(" ")[0] ?? "");

const root = { root: true, tools: ["mknod"] };

kernelTest(
  "a file that the kernel attaches to no device fails, and the next call does not",
  root,
  async (t) => {
    using empty = await newDevice(t.dir); // LOOP_CONFIGURE of a loop device without a file is EINVAL
    const before = openFiles();
    const failing = setupLoop(empty.path).catch((error) => error);
    const next = setupLoop(file(`${t.dir}/image`));
    const error = await failing;
    assert(error instanceof SyscallError, `${error}`);
    assertEquals([error.syscall, error.code], ["ioctl", "EINVAL"]);
    (await next).detach();
    assertEquals(openFiles(), before);
  },
);

kernelTest("a block device with a minor number above 255 is attached once", root, async (t) => {
  using lower = await newDevice(t.dir);
  {
    using image = open(file(`${t.dir}/image`), O_RDWR);
    using device = open(lower.path, O_RDWR);
    const config = new DataView(new ArrayBuffer(304)); // struct loop_config of linux/loop.h
    config.setUint32(0, image.fd, true);
    ioctlStruct(device.fd, LOOP_CONFIGURE, new Uint8Array(config.buffer));
  }
  {
    using upper = await setupLoop(lower.path, { autoclear: true });
    using shared = await setupLoop(lower.path, { autoclear: true });
    assertEquals(shared.path, upper.path);
    const error = await assertRejects(() => setupLoop(lower.path, { offset: 4096 }), SyscallError);
    assertStringIncludes(error.message, `${lower.path} is attached to ${upper.path} already`);
  }
  await detachLoop(lower.path);
});

kernelTest("files with the same inode on two file systems have a device each", { root: true }, async (t) => {
  t.make("a", "b");
  await using _a = await otherMount(`${t.dir}/a`);
  await using _b = await otherMount(`${t.dir}/b`);
  const images = [file(`${t.dir}/a/image`), file(`${t.dir}/b/image`)];
  const [first, second] = images.map((path) => Deno.statSync(path).ino);
  if (first !== second) return; // before Linux 5.9, file systems share the numbers
  for (const options of [{ autoclear: true }, {}]) {
    using one = await setupLoop(images[0] ?? "", options);
    using two = await setupLoop(images[1] ?? "", options);
    assert(one.path !== two.path);
    assertEquals(readText(`/sys/block/loop${two.number}/loop/backing_file`)?.trim(), images[1]);
  }
});

kernelTest("the kernel keeps the first 63 bytes of the path", { root: true }, async (t) => {
  for (const path of [`${t.dir}/a`, `${t.dir}/${"long".repeat(50)}`]) {
    using device = await setupLoop(file(path));
    const info = new Uint8Array(232); // struct loop_info64; lo_file_name is at 56
    ioctlStruct(device.fd, LOOP_GET_STATUS64, info);
    assertEquals(new TextDecoder().decode(info.subarray(56, 120)).replace(/\0.*$/s, ""), path.slice(0, 63));
  }
});

kernelTest("setAutoclear(false) leaves a device to detach()", { root: true }, async (t) => {
  const image = file(`${t.dir}/image`);
  const device = await setupLoop(image, { autoclear: true });
  const autoclear = () => readText(`/sys/block/loop${device.number}/loop/autoclear`)?.trim();
  assertEquals(autoclear(), "1");
  device.setAutoclear(false);
  assertEquals(autoclear(), "0");
  {
    using user = open(device.path, O_RDONLY); // keeps it from being detached by its last close
    device.detach();
    assert(user.isOpen);
  }
  for (let i = 0; i < 100 && devicesOf(image).length > 0; i++) {
    await new Promise((done) => setTimeout(done, 20));
  }
  assertEquals(devicesOf(image), []);
});

kernelTest("detach() after close() leaves the device as it is", { root: true }, async (t) => {
  const image = file(`${t.dir}/image`);
  const device = await setupLoop(image);
  device.close();
  device.detach();
  assertEquals(devicesOf(image), [`loop${device.number}`]);
  await detachLoop(device.path);
});

kernelTest("a shared device can be written to through its descriptor", { root: true }, async (t) => {
  const image = file(`${t.dir}/image`);
  {
    using _first = await setupLoop(image, { autoclear: true });
    using second = await setupLoop(image, { autoclear: true });
    write(second.fd, new Uint8Array(512).fill(7));
  } // the last close writes to the file
  for (let i = 0; i < 100 && devicesOf(image).length > 0; i++) {
    await new Promise((done) => setTimeout(done, 20));
  }
  assertEquals(Deno.readFileSync(image).subarray(510, 514), new Uint8Array([7, 7, 0, 0]));
});

/**
 * Attaches a file in a process whose /dev has no nodes of loop devices, or the nodes of a device that is attached
 * already. After a moment, it has the right ones.
 */
async function attachInContainer(dir: string, taken: string | undefined): Promise<string> {
  const root = new URL("../../", import.meta.url).href;
  file(`${dir}/image`);
  const count = names("/sys/block").filter((name) => name.startsWith("loop")).length + 16;
  Deno.writeTextFileSync(
    `${dir}/program.ts`,
    `import { setupLoop } from "${root}mod.ts";
    const { symbols } = Deno.dlopen("libc.so.6", { mknod: { parameters: ["buffer", "u32", "u64"], result: "i32" } });
    const node = (name: string, type: number, major: number, minor: number) =>
      symbols.mknod(new TextEncoder().encode("/dev/" + name + "\\0"), type | 0o600,
        BigInt(minor & 0xff | major << 8) | BigInt(minor & ~0xff) << 12n);
    const nodes = (taken?: number) => {
      for (let number = 0; number < ${count}; number++) node("loop" + number, 0o60000, 7, taken ?? number);
    };
    node("loop-control", 0o20000, 10, 237);
    const taken = ${JSON.stringify(taken?.slice("/dev/loop".length) ?? null)};
    if (taken !== null) nodes(Number(taken));
    setTimeout(() => {
      for (const { name } of Deno.readDirSync("/dev")) if (/^loop\\d/.test(name)) Deno.removeSync("/dev/" + name);
      nodes();
    }, 500);
    using device = await setupLoop("${dir}/image");
    console.log(await Deno.readTextFile("/sys/block/loop" + device.number + "/loop/backing_file"));`,
  );
  const script =
    `mkdir ${dir}/dev && mount -t tmpfs -o dev t ${dir}/dev && cp -a /dev/null /dev/urandom ${dir}/dev &&
    mount --bind ${dir}/dev /dev && exec ${Deno.execPath()} run --quiet -A --no-config ${dir}/program.ts`;
  return await run("unshare", "--mount", "sh", "-c", script);
}

const container = {
  root: true,
  tools: ["unshare", "mount"],
  permissions: { run: true },
};

kernelTest(
  "a device without a node in this /dev is not asked, and the node of a new one is waited for",
  container,
  async (t) => {
    const other = await attachLoop(file(`${t.dir}/other`));
    try {
      assertEquals(await attachInContainer(t.dir, undefined), `${t.dir}/image`);
    } finally {
      await detachLoop(other);
    }
  },
);

kernelTest("a device that another process attaches first is no error", container, async (t) => {
  const other = await attachLoop(file(`${t.dir}/other`));
  try {
    assertEquals(await attachInContainer(t.dir, other), `${t.dir}/image`);
  } finally {
    await detachLoop(other);
  }
});
