import { attachLoop, detachLoop, mount, MountError, setupLoop, SyscallError } from "../../mod.ts";
import { flock, LOCK_EX, O_RDONLY, O_RDWR, open } from "../../linux/mod.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { isEmulated, kernelTest } from "../harness.ts";
import { loopDevices, readText } from "../kernel.ts";

async function run(program: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args }).output();
  if (!success) throw new Error(`${program}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout).trim();
}

/** A file of zeros. */
function file(path: string, megabytes: number): string {
  Deno.writeFileSync(path, new Uint8Array());
  Deno.truncateSync(path, megabytes << 20);
  return path;
}

async function ext4(path: string): Promise<string> {
  await run("mkfs.ext4", "-q", file(path, 16));
  return path;
}

/** The names of the devices that a file is attached to. */
const devicesOf = (image: string) =>
  loopDevices(image).filter((line) => line.endsWith(` ${image}`)).map((line) => line.split(" ")[0] ?? "");

/** A device may stay attached for a moment after its last user, while udev has it open. */
async function untilDetached(image: string): Promise<void> {
  for (let i = 0; i < 100 && devicesOf(image).length > 0; i++) {
    await new Promise((done) => setTimeout(done, 20));
  }
  assertEquals(devicesOf(image), []);
}

const root = { root: true, tools: ["mkfs.ext4", "e2fsck"] };
const loop = (source: string, ...options: string[]) => ({
  type: "ext4",
  source,
  options: ["loop", ...options],
});

kernelTest(
  "an image that is mounted twice has one loop device, and both mounts see each file",
  root,
  async (t) => {
    t.make("one", "two");
    const image = await ext4(`${t.dir}/image`);
    Deno.linkSync(image, `${t.dir}/other name`);
    Deno.symlinkSync("image", `${t.dir}/link`);
    {
      await using _one = await mount(loop(image), `${t.dir}/one`);
      for (const name of ["image", "other name", "link"]) {
        await using _two = await mount(loop(`${t.dir}/${name}`), `${t.dir}/two`);
        assertEquals(loopDevices(t.dir).length, 1, name);
        Deno.writeTextFileSync(`${t.dir}/one/first ${name}`, "1");
        Deno.writeTextFileSync(`${t.dir}/two/second ${name}`, "2");
        assertEquals(Deno.readTextFileSync(`${t.dir}/two/first ${name}`), "1");
        assertEquals(Deno.readTextFileSync(`${t.dir}/one/second ${name}`), "2");
      }
      Deno.writeTextFileSync(`${t.dir}/one/last`, "3");
    }
    await untilDetached(image);
    await run("e2fsck", "-fn", image);
  },
);

kernelTest("two read-only mounts of an image have one loop device", root, async (t) => {
  t.make("one", "two");
  const image = await ext4(`${t.dir}/image`);
  await using _one = await mount(loop(image, "ro"), `${t.dir}/one`);
  await using _two = await mount(loop(image, "ro"), `${t.dir}/two`);
  assertEquals(devicesOf(image).length, 1);
});

kernelTest("an image can be mounted on its own mount", { ...root, features: ["mountApi"] }, async (t) => {
  const target = t.make("target");
  const image = await ext4(`${t.dir}/image`);
  await using _one = await mount(loop(image), target);
  await using _two = await mount(loop(image), target);
  assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/target", "/target"]);
  assertEquals(devicesOf(image).length, 1);
});

kernelTest(
  "a loop device that overlaps is refused by name if one of the two is writable",
  root,
  async (t) => {
    t.make("one", "two");
    const image = await ext4(`${t.dir}/image`);
    await using _one = await mount(loop(image), `${t.dir}/one`);
    const [device] = devicesOf(image);
    for (const options of [["ro"], ["offset=1M"], ["sizelimit=8M"], ["ro", "offset=1M", "sizelimit=1M"]]) {
      const error = await assertRejects(() => mount(loop(image, ...options), `${t.dir}/two`), MountError);
      assertEquals(error.code, "EBUSY");
      assertStringIncludes(
        error.message,
        `${image} is attached to /dev/${device} already, from byte 0, writable`,
      );
    }
    const error = await assertRejects(() => setupLoop(image), SyscallError);
    assertEquals(error.code, "EBUSY");
    assertStringIncludes(error.message, `/dev/${device}`);
    assertEquals((await assertRejects(() => attachLoop(image), SyscallError)).code, "EBUSY");
    assertEquals(devicesOf(image), [device]);
  },
);

kernelTest("a writable mount is refused while a device without autoclear has its image", {
  ...root,
  tools: [...root.tools, "losetup"],
}, async (t) => {
  t.make("target");
  const image = await ext4(`${t.dir}/image`);
  const device = await run("losetup", "--find", "--show", "--read-only", "--offset", "4096", image);
  try {
    const error = await assertRejects(() => mount(loop(image), `${t.dir}/target`), MountError);
    assertEquals(error.code, "EBUSY");
    assertStringIncludes(error.message, `is attached to ${device} already, from byte 4096, read-only`);
    await using _mount = await mount(loop(image, "ro"), `${t.dir}/target`);
    assertEquals(devicesOf(image).length, 2);
  } finally {
    await run("losetup", "--detach", device);
  }
  await untilDetached(image);
});

kernelTest("ranges that do not overlap have a device each", { root: true }, async (t) => {
  const image = file(`${t.dir}/image`, 4);
  const megabyte = 1 << 20;
  using _first = await setupLoop(image, { sizeLimit: megabyte });
  using _second = await setupLoop(image, { offset: megabyte, sizeLimit: megabyte, autoclear: true });
  using _rest = await setupLoop(image, { offset: 2 * megabyte });
  assertEquals(devicesOf(image).length, 3);
});

kernelTest("setupLoop() shares only devices with autoclear, and detach() keeps a shared one attached", {
  root: true,
}, async (t) => {
  const image = file(`${t.dir}/image`, 1);
  const first = await setupLoop(image, { autoclear: true });
  const second = await setupLoop(image, { autoclear: true });
  assertEquals(second.path, first.path);
  second.detach();
  assertEquals(readText(`/sys/block/loop${first.number}/loop/backing_file`)?.trim(), image);
  const third = await setupLoop(image, { autoclear: true });
  first.detach();
  assertEquals(devicesOf(image), [`loop${third.number}`]);
  third.detach();
  await untilDetached(image);

  using one = await setupLoop(image, { readonly: true });
  using two = await setupLoop(image, { readonly: true });
  using clearing = await setupLoop(image, { readonly: true, autoclear: true });
  assertEquals(new Set([one.path, two.path, clearing.path]).size, 3);
});

kernelTest("a shared device has the block size that was asked for", { root: true }, async (t) => {
  const image = file(`${t.dir}/image`, 1);
  using _first = await setupLoop(image, { autoclear: true, blockSize: 512 });
  using same = await setupLoop(image, { autoclear: true, blockSize: 512 });
  assertEquals(devicesOf(image), [`loop${same.number}`]);
  await assertRejects(() => setupLoop(image, { autoclear: true, blockSize: 4096 }), SyscallError, "EBUSY");
});

kernelTest("twenty mounts of an image at once have one loop device", root, async (t) => {
  const image = await ext4(`${t.dir}/image`);
  const targets = Array.from({ length: 20 }, (_, index) => t.make(`target/${index}`));
  const handles = await Promise.all(targets.map((target) => mount(loop(image), target)));
  assertEquals(devicesOf(image).length, 1);
  await Promise.all(handles.map((handle) => handle.unmount()));
  await untilDetached(image);
  await run("e2fsck", "-fn", image);
});

kernelTest("processes that mount an image at the same time share one loop device", {
  ...root,
  permissions: { run: true },
}, async (t) => {
  const image = await ext4(`${t.dir}/image`);
  const program = `${t.dir}/program.ts`;
  Deno.writeTextFileSync(
    program,
    `import { mount } from "${new URL("../../mod.ts", import.meta.url).href}";
    const [target, start] = Deno.args;
    while (Date.now() < Number(start));
    const handle = await mount(${JSON.stringify(loop(image))}, target);
    console.log("mounted");
    await Deno.stdin.read(new Uint8Array(1));
    await handle.unmount();`,
  );
  const start = Date.now() + 2000;
  // In an emulated machine six would wait for /dev/loop-control longer than the library does.
  const children = Array.from({ length: isEmulated ? 2 : 6 }, (_, index) => {
    const args = ["run", "--quiet", "-A", "--no-config", program, t.make(`target/${index}`), `${start}`];
    return new Deno.Command(Deno.execPath(), { args, stdin: "piped", stdout: "piped" }).spawn();
  });
  try {
    for (const { stdout } of children) {
      const reader = stdout.getReader();
      assertEquals(new TextDecoder().decode((await reader.read()).value), "mounted\n");
      await reader.cancel();
    }
    assertEquals(devicesOf(image).length, 1);
  } finally {
    for (const { stdin } of children) await stdin.close();
    assertEquals(
      await Promise.all(children.map(async ({ status }) => (await status).code)),
      children.map(() => 0),
    );
  }
  await untilDetached(image);
  await run("e2fsck", "-fn", image);
});

kernelTest("a lock of another program on the image holds up no mount", { root: true }, async (t) => {
  const image = file(`${t.dir}/image`, 1);
  using locked = open(image, O_RDWR);
  flock(locked.fd, LOCK_EX);
  (await setupLoop(image, { autoclear: true })).close();
});

kernelTest("a lock of another program on /dev/loop-control ends in an error, or by the signal", {
  root: true,
  tools: ["unshare"],
  permissions: { run: true },
}, async (t) => {
  const image = file(`${t.dir}/image`, 1);
  Deno.writeTextFileSync(
    `${t.dir}/program.ts`,
    `import { setupLoop } from "${new URL("../../mod.ts", import.meta.url).href}";
    import { flock, LOCK_EX, O_RDWR, open } from "${new URL("../../linux/mod.ts", import.meta.url).href}";
    using control = open("/dev/loop-control", O_RDWR);
    flock(control.fd, LOCK_EX);
    setTimeout(() => Deno.exit(9), 20_000); // for a call that waits for ever
    const { code, syscall, path } = await setupLoop("${image}").catch((error) => error);
    const signal = AbortSignal.timeout(10);
    const reason = await setupLoop("${image}", { signal, timeout: 30_000 }).catch((error) => error);
    console.log(code, syscall, path, reason === signal.reason);
    Deno.exit();`,
  );
  // A node of its own, so that the lock keeps no other program of this machine waiting.
  const script = `mknod ${t.dir}/control c 10 237 && mount --bind ${t.dir}/control /dev/loop-control &&
    exec ${Deno.execPath()} run --quiet -A --no-config ${t.dir}/program.ts`;
  assertEquals(await run("unshare", "--mount", "sh", "-c", script), "ETIMEDOUT flock /dev/loop-control true");
});

kernelTest("an image can be mounted for writing as soon as its read-only mount is gone", root, async (t) => {
  t.make("target");
  const image = await ext4(`${t.dir}/image`);
  for (let round = 0; round < 5; round++) {
    const readonly = await mount(loop(image, "ro"), `${t.dir}/target`);
    const [device] = devicesOf(image);
    using user = open(`/dev/${device}`, O_RDONLY); // as udev does
    await readonly.unmount();
    setTimeout(() => user.close(), 30);
    await (await mount(loop(image), `${t.dir}/target`)).unmount();
  }
  await untilDetached(image);
});

kernelTest("a device whose FUSE server does not answer keeps no other image waiting", {
  root: true,
  tools: ["mount.fuse3", "bindfs"],
  permissions: { run: true },
}, async (t) => {
  t.make("source", "served");
  file(`${t.dir}/source/image`, 1);
  const child = new Deno.Command("bindfs", {
    args: ["-f", "-o", "attr_timeout=0", `${t.dir}/source`, `${t.dir}/served`],
    stdout: "null",
    stderr: "null",
  }).spawn();
  while (t.mounts().length === 0) await new Promise((done) => setTimeout(done, 20));
  // Another process that asks the same device holds the lock of /dev/loop-control meanwhile.
  const timeout = 30_000;
  // It is asked before the one of the server, because its number is lower.
  const lowest = file(`${t.dir}/lowest`, 1);
  const lower = await setupLoop(lowest, { autoclear: true, timeout });
  const served = await attachLoop(`${t.dir}/served/image`);
  lower.detach();
  try {
    const first = await setupLoop(lowest, { autoclear: true, timeout });
    child.kill("SIGSTOP");
    const image = file(`${t.dir}/image`, 1);
    // The wait for the server is long enough to detach the device that is to be shared.
    let isAnswered = false;
    const answer = setTimeout(() => isAnswered = (child.kill("SIGCONT"), true), 20_000);
    const second = setupLoop(lowest, { autoclear: true, timeout });
    setTimeout(() => first.detach(), 500);
    (await second).detach();
    clearTimeout(answer);
    assert(!isAnswered, "a device that does not answer is waited for without an end");
    await untilDetached(lowest);
    const waits: number[] = [];
    for (let count = 0; count < 3; count++) {
      const start = performance.now();
      (await setupLoop(image, { timeout })).detach();
      waits.push(performance.now() - start);
    }
    assert(Math.min(...waits) < 2500, "a device that does not answer is waited for once");
    child.kill("SIGCONT");
    Deno.statSync(`${t.dir}/served/image`);
    await new Promise((done) => setTimeout(done, 300)); // the kernel's answer is on its way
    await assertRejects(() => setupLoop(`${t.dir}/served/image`), SyscallError, "EBUSY");
  } finally {
    child.kill("SIGCONT");
    await detachLoop(served);
    await untilDetached(`${t.dir}/served/image`);
    await run("umount", `${t.dir}/served`);
    await child.status;
  }
});
