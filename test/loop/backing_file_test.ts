import { mount, MountError, setupLoop, SyscallError } from "../../mod.ts";
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { loopDevices, openFiles, readText } from "../kernel.ts";

async function run(program: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(program, { args }).output();
  if (!success) throw new Error(`${program}: ${new TextDecoder().decode(stderr)}`);
}

kernelTest("a loop device takes a regular file or a block device, and nothing else is opened", {
  root: true,
  tools: ["mknod"],
}, async (t) => {
  t.make("target", "directory");
  await run("mknod", `${t.dir}/fifo`, "p");
  await run("mknod", `${t.dir}/device`, "c", "9", "9"); // no driver: open(2) fails with ENXIO or ENODEV
  const kinds = { fifo: "a FIFO", device: "a character device", directory: "a directory" };
  for (const [name, kind] of Object.entries(kinds)) {
    Deno.symlinkSync(name, `${t.dir}/link to ${name}`);
    for (const path of [`${t.dir}/${name}`, `${t.dir}/link to ${name}`]) {
      const sentence = `${path} is ${kind}; a loop device takes a regular file or a block device`;
      for (const readonly of [false, true]) {
        await assertRejects(() => setupLoop(path, { readonly }), TypeError, sentence);
      }
      const m = { type: "ext4", source: path, options: ["loop"] };
      await assertRejects(() => mount(m, `${t.dir}/target`), MountError, sentence);
    }
  }
  await assertRejects(() => setupLoop(`${t.dir}/none`), SyscallError, "ENOENT");
});

kernelTest("a loop device can be attached to another loop device", { root: true }, async (t) => {
  Deno.writeFileSync(`${t.dir}/image`, new Uint8Array(1 << 20));
  using lower = await setupLoop(`${t.dir}/image`);
  using upper = await setupLoop(lower.path, { offset: 4096 });
  assertEquals(readText(`/sys/block/loop${upper.number}/loop/backing_file`)?.trim(), lower.path);
  const error = await assertRejects(() => setupLoop(lower.path), SyscallError);
  assertStringIncludes(error.message, `${lower.path} is attached to ${upper.path} already, from byte 4096`);
});

kernelTest('an image on a read-only file system is mounted with "ro", and the error without it says so', {
  root: true,
  tools: ["mkfs.ext4"],
}, async (t) => {
  t.make("source", "readonly", "target");
  Deno.writeFileSync(`${t.dir}/source/image`, new Uint8Array(4 << 20));
  await run("mkfs.ext4", "-q", `${t.dir}/source/image`);
  Deno.chmodSync(`${t.dir}/source/image`, 0o444);
  const bind = { type: "bind", source: `${t.dir}/source`, options: ["bind", "ro"] };
  await using _readonly = await mount(bind, `${t.dir}/readonly`);
  const image = `${t.dir}/readonly/image`;
  const before = openFiles();
  const error = await assertRejects(
    () => mount({ type: "ext4", source: image, options: ["loop"] }, `${t.dir}/target`),
    MountError,
  );
  assertEquals(error.code, "EROFS");
  assertStringIncludes(error.message, `${image} can't be opened for writing; add the option "ro"`);
  const raw = await assertRejects(() => setupLoop(image), SyscallError);
  assertEquals([raw.code, raw.path], ["EROFS", image]);
  assertStringIncludes(raw.message, `${image} can't be opened for writing; attach it read-only`);
  assertEquals(openFiles(), before);
  await using _image = await mount(
    { type: "ext4", source: image, options: ["loop", "ro"] },
    `${t.dir}/target`,
  );
  const [device] = loopDevices(t.dir).map((line) => line.split(" ")[0]);
  assertEquals(readText(`/sys/block/${device}/ro`)?.trim(), "1");
});

kernelTest("an image on a server that is replaced between its check and its opening is refused", {
  root: true,
  tools: ["mount.fuse3", "bindfs"],
  permissions: { run: true },
}, async (t) => {
  t.make("source", "served");
  for (const name of ["one", "two"]) Deno.writeFileSync(`${t.dir}/source/${name}`, new Uint8Array(1 << 16));
  await using _served = await mount({ type: "fuse3.bindfs", source: `${t.dir}/source` }, `${t.dir}/served`);
  const image = `${t.dir}/image`;
  const lead = (name: string) => {
    Deno.symlinkSync(`served/${name}`, `${image} of ${name}`);
    Deno.renameSync(`${image} of ${name}`, image);
  };
  const outcomes = new Set<string>();
  for (let turns = 0; turns < 20; turns++) {
    lead("one");
    const attaching = setupLoop(image).then((device) => {
      using _device = device;
      return readText(`/sys/block/loop${device.number}/loop/backing_file`)?.trim() ?? "";
    }, (error) => error.message as string);
    for (let turn = 0; turn < turns; turn++) await undefined; // each step of the call is followed by a change
    lead("two");
    outcomes.add(await attaching);
  }
  const replaced = `${image} was replaced by another file while it was opened`;
  assert(outcomes.delete(replaced), [...outcomes].join());
  for (const file of outcomes) assertMatch(file, /\/served\/(one|two)$/);
});
