import { attachLoop, detachLoop, mount, MountError, setupLoop, SyscallError } from "../../mod.ts";
import { assertEquals, assertRejects } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { loopDevices, loopDevicesLeft, readText } from "../kernel.ts";

async function run(program: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(program, { args, stdout: "null", stderr: "piped" })
    .output();
  if (!success) throw new Error(`${program}: ${new TextDecoder().decode(stderr)}`);
}

function image(path: string, megabytes: number): string {
  Deno.writeFileSync(path, new Uint8Array());
  Deno.truncateSync(path, megabytes << 20);
  return path;
}

const writable: [string, string, string[], number][] = [
  ["ext4", "mkfs.ext4", ["-q"], 16],
  ["xfs", "mkfs.xfs", ["-q"], 320],
  ["btrfs", "mkfs.btrfs", ["-q"], 128],
];

for (const [type, mkfs, args, size] of writable) {
  kernelTest(`an ${type} image keeps written files, and its loop device is detached with the unmount`, {
    root: true,
    tools: [mkfs],
  }, async (t) => {
    t.make("target");
    const file = image(`${t.dir}/image`, size);
    await run(mkfs, ...args, file);
    const m = { type, source: file, options: ["loop"] };
    {
      await using _stack = await mount(m, `${t.dir}/target`);
      Deno.writeTextFileSync(`${t.dir}/target/file`, type);
      assertEquals(t.mounts().map((row) => row.fsType), [type]);
      assertEquals(loopDevices(t.dir).filter((line) => line.endsWith(file)).length, 1);
    }
    assertEquals(await loopDevicesLeft(t.dir), []);
    {
      await using _stack = await mount({ ...m, options: ["loop", "ro"] }, `${t.dir}/target`);
      assertEquals(Deno.readTextFileSync(`${t.dir}/target/file`), type);
      const [device] = loopDevices(t.dir).filter((line) => line.endsWith(file));
      assertEquals(readText(`/sys/block/${device?.split(" ")[0]}/ro`)?.trim(), "1");
    }
    assertEquals(await loopDevicesLeft(t.dir), []);
  });
}

for (const [type, mkfs] of [["squashfs", "mksquashfs"], ["erofs", "mkfs.erofs"]] as const) {
  kernelTest(`a ${type} image shows its files`, { root: true, tools: [mkfs] }, async (t) => {
    t.make("target", "tree");
    Deno.writeTextFileSync(`${t.dir}/tree/file`, type);
    const [tree, file] = [`${t.dir}/tree`, `${t.dir}/image`];
    await run(mkfs, ...(type === "erofs" ? [file, tree] : [tree, file, "-quiet", "-no-progress"]));
    await using _stack = await mount({ type, source: file, options: ["loop", "ro"] }, `${t.dir}/target`);
    assertEquals(Deno.readTextFileSync(`${t.dir}/target/file`), type);
  });
}

kernelTest("a mount that fails leaves no loop device attached", { root: true }, async (t) => {
  t.make("target");
  const file = image(`${t.dir}/image`, 1);
  await assertRejects(
    () => mount({ type: "ext4", source: file, options: ["loop"] }, `${t.dir}/target`),
    MountError,
  );
  await assertRejects(
    () => mount({ type: "nofs", source: file, options: ["loop"] }, `${t.dir}/target`),
    MountError,
  );
  assertEquals(await loopDevicesLeft(t.dir), []);
});

kernelTest(
  "setupLoop() sets offset, size limit, block size, direct I/O and autoclear",
  { root: true },
  async (t) => {
    const file = image(`${t.dir}/image`, 8);
    using device = await setupLoop(file, { offset: 8192, sizeLimit: 1 << 20, blockSize: 4096, direct: true });
    const sys = `/sys/block/loop${device.number}`;
    assertEquals(readText(`${sys}/loop/offset`)?.trim(), "8192");
    assertEquals(readText(`${sys}/loop/sizelimit`)?.trim(), "1048576");
    assertEquals(readText(`${sys}/size`)?.trim(), "2048");
    assertEquals(readText(`${sys}/queue/logical_block_size`)?.trim(), "4096");
    assertEquals(readText(`${sys}/loop/autoclear`)?.trim(), "0");
    device.setAutoclear(true);
    assertEquals(readText(`${sys}/loop/autoclear`)?.trim(), "1");
  },
);

kernelTest("forty concurrent attachLoop() get forty devices", { root: true }, async (t) => {
  const files = Array.from({ length: 40 }, (_, index) => image(`${t.dir}/image-${index}`, 1));
  const devices = await Promise.all(files.map((file) => attachLoop(file)));
  try {
    assertEquals(new Set(devices).size, 40);
    for (const [index, device] of devices.entries()) {
      assertEquals(readText(`/sys/block/${device.slice(5)}/loop/backing_file`)?.trim(), files[index]);
    }
  } finally {
    await detachLoop(...devices);
  }
  assertEquals(await loopDevicesLeft(t.dir), []);
});

kernelTest(
  "the options direct-io, offset= and sizelimit= of a mount set up its loop device",
  { root: true, tools: ["mkfs.ext4"] },
  async (t) => {
    t.make("target");
    const file = image(`${t.dir}/image`, 17);
    await run("mkfs.ext4", "-q", "-E", "offset=1048576", file, "16M");
    const options = ["loop", "direct-io", "offset=1M", "sizelimit=16M"];
    await using _stack = await mount({ type: "ext4", source: file, options }, `${t.dir}/target`);
    const name = loopDevices(t.dir).find((line) => line.endsWith(file))?.split(" ")[0];
    assertEquals(readText(`/sys/block/${name}/loop/offset`)?.trim(), "1048576");
    assertEquals(readText(`/sys/block/${name}/loop/dio`)?.trim(), "1");
  },
);

kernelTest("detachLoop() opens nothing but a loop device", {
  root: true,
  tools: ["mkfifo", "mknod"],
  deadline: 10,
}, async (t) => {
  t.make("directory");
  await run("mkfifo", `${t.dir}/fifo`); // whose open(2) would wait for a writer
  await run("mknod", `${t.dir}/ram`, "b", "1", "0");
  await run("mknod", `${t.dir}/zero`, "c", "1", "5");
  const kinds = {
    [image(`${t.dir}/image`, 1)]: "a regular file",
    [`${t.dir}/directory`]: "a directory",
    [`${t.dir}/fifo`]: "a FIFO",
    [`${t.dir}/ram`]: "another block device",
    [`${t.dir}/zero`]: "a character device",
  };
  for (const [path, kind] of Object.entries(kinds)) {
    const error = await assertRejects(() => detachLoop(path), TypeError);
    assertEquals(error.message, `${path} is ${kind}, not a loop device`);
  }
  const free = await attachLoop(`${t.dir}/image`);
  await detachLoop(free);
  const error = await assertRejects(() => detachLoop(free), SyscallError);
  assertEquals([error.code, error.path], ["ENXIO", free]);
});

kernelTest("setupLoop() refuses invalid sizes before any system call", {}, async () => {
  for (const params of [{ offset: -1 }, { sizeLimit: 0.5 }, { blockSize: 1000 }]) {
    await assertRejects(() => setupLoop("/none", params), TypeError);
  }
});
