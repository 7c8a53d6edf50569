import { assert, assertEquals, assertStringIncludes } from "../assert.ts";
import { hasRoot, type KernelContext, kernelTest } from "../harness.ts";
import type { Row } from "../kernel.ts";
import { command } from "./in_process.ts";

/** Words that are given to mount(8) and to the command; `{}` stands for the test's directory. */
interface Case {
  /** What is mounted before, by mount(8). */
  before?: string[];
  words: string;
}

const cases: Case[] = [
  { words: "-t tmpfs scratch {}/a" },
  { words: "-t tmpfs -o size=64M,mode=0700,nosuid,nodev scratch {}/a" },
  { words: "-t tmpfs -o size=1M -o noexec -r scratch {}/a" },
  { words: "-t tmpfs -o noatime,strictatime scratch {}/a" },
  { words: "-t tmpfs none {}/a --make-shared" },
  { words: "-t overlay -o lowerdir={}/low:{}/src overlay {}/a" },
  { words: "-t ramfs r {}/a" },
  { words: "--bind {}/src {}/a" },
  { words: "--bind {}/src {}/a -r" },
  { words: "-o bind,ro,nosuid {}/src {}/a" },
  { words: "--rbind {}/src {}/a", before: ["-t tmpfs below {}/src/sub"] },
  { words: "--bind {}/src {}/a", before: ["-t tmpfs below {}/src/sub"] },
  { words: "--make-shared {}/a", before: ["-t tmpfs t {}/a"] },
  {
    words: "--make-rslave {}/a",
    before: ["-t tmpfs t {}/a --make-shared", "-t tmpfs t {}/a/sub -o X-mount.mkdir"],
  },
  { words: "--make-unbindable {}/a", before: ["-t tmpfs t {}/a"] },
  { words: "-o remount,ro {}/a", before: ["-t tmpfs t {}/a -o nosuid"] },
  { words: "-o remount,bind,ro {}/a", before: ["-t tmpfs t {}/a -o nosuid"] },
  { words: "-o remount,size=8M {}/a", before: ["-t tmpfs t {}/a -o noexec"] },
  { words: "--move {}/a {}/b", before: ["-t tmpfs t {}/a", "-t tmpfs u {}/a/sub -o X-mount.mkdir"] },
  { words: "-t tmpfs t {}/new/place -m" },
  { words: "-t tmpfs t {}/new/place -o X-mount.mkdir=0700,noexec" },
];

const images: Case[] = [
  { words: "{}/ext4 {}/a" },
  { words: "-t auto {}/ext4 {}/a -r" },
  { words: "-t ext4 {}/ext4 {}/a -o noatime" },
  { words: "-o loop,ro {}/ext4 {}/a" },
  { words: "{}/squashfs {}/a" }, // can't be written: read-only, with a warning
  { words: "-o offset=1048576,sizelimit=4194304 {}/disk {}/a" },
];

/** What the kernel shows, without ids and the number of a loop device. */
function shown(rows: readonly Row[]): unknown[] {
  return rows.map(({ mountpoint, root, fsType, source, options, optional, superOptions }) => ({
    mountpoint,
    root,
    fsType,
    source: source.replace(/loop\d+/, "loop"),
    options,
    optional: optional.replace(/\d+/g, "N"),
    // mount(8) 2.38 gives the layers in one word.
    superOptions: superOptions.replace("lowerdir+=", "lowerdir=").replaceAll(",lowerdir+=", ":"),
  }));
}

async function mount8(program: "mount" | "umount", ...args: string[]): Promise<number> {
  return (await new Deno.Command(program, { args, stdout: "null", stderr: "null" }).output()).code;
}

const words = (t: KernelContext, line: string) => line.replaceAll("{}", t.dir).split(" ");

async function assertSame(t: KernelContext, { words: line, before = [] }: Case): Promise<void> {
  const views: unknown[] = [];
  for (const way of ["mount(8)", "denomount"]) {
    t.make("a", "b");
    for (const each of before) assertEquals(await mount8("mount", ...words(t, each)), 0, each);
    if (way === "mount(8)") assertEquals(await mount8("mount", ...words(t, line)), 0, line);
    else {
      const { code, err } = await command(["mount", ...words(t, line)]);
      assertEquals(code, 0, line + err);
    }
    views.push({ line, rows: shown(t.mounts()) });
    for (const { mountpoint } of t.mounts().reverse()) await mount8("umount", `${t.dir}${mountpoint}`);
    assertEquals(t.mounts(), []);
    for (const name of ["a", "b", "new"]) Deno.removeSync(`${t.make(name)}`, { recursive: true });
  }
  assertEquals(views[1], views[0]);
}

const needs = {
  tools: ["mount", "umount"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
  privateDirectory: true,
};

kernelTest("each word of mount(8) shows the kernel's same mounts", needs, async (t) => {
  t.make("src/sub", "low");
  for (const each of cases) {
    if (!hasRoot && /ramfs/.test(each.words)) continue;
    await assertSame(t, each);
  }
});

const withImages = {
  ...needs,
  root: true,
  tools: [...needs.tools, "mkfs.ext4", "mksquashfs", "blkid", "partx"],
};

/** An ext4 image, one that can't be written, a squashfs image, and a disk with a partition at 1 MiB. */
async function makeImages(t: KernelContext): Promise<void> {
  const run = async (program: string, ...args: string[]) => {
    const { success, stderr } = await new Deno.Command(program, { args, stdout: "null" }).output();
    assert(success, new TextDecoder().decode(stderr));
  };
  Deno.writeFileSync(`${t.dir}/ext4`, new Uint8Array());
  Deno.truncateSync(`${t.dir}/ext4`, 4 << 20);
  await run("mkfs.ext4", "-q", "-L", "my, label", "-U", UUID, `${t.dir}/ext4`);
  await run("mksquashfs", t.make("low"), `${t.dir}/squashfs`, "-quiet", "-no-progress");
  const image = Deno.readFileSync(`${t.dir}/ext4`);
  const disk = new Uint8Array(8 << 20);
  disk.set(image, 1 << 20);
  const view = new DataView(disk.buffer);
  view.setUint8(446 + 4, 0x83); // the type, of the first of four entries of 16 bytes
  view.setUint32(446 + 8, 2048, true);
  view.setUint32(446 + 12, 8192, true);
  view.setUint16(510, 0xaa55, true);
  Deno.writeFileSync(`${t.dir}/disk`, disk);
}

const UUID = "e88f6080-b06d-49b9-9aeb-a3e63a5cf72a";

/** A loop device that can't be written. */
async function readonlyDevice(file: string): Promise<AsyncDisposable & { path: string }> {
  const { out } = await command(["loop", "attach", "--readonly", file]);
  const path = out.trim();
  return {
    path,
    async [Symbol.asyncDispose]() {
      assertEquals((await command(["loop", "detach", path])).code, 0);
    },
  };
}

kernelTest("an image, its type found out, is mounted as mount(8) does", withImages, async (t) => {
  await makeImages(t);
  for (const each of images) {
    await assertSame(t, each);
  }
});

kernelTest(
  "a write-protected source is mounted read-only with a warning, and refused with -w",
  withImages,
  async (t) => {
    await makeImages(t);
    t.make("a");
    await using device = await readonlyDevice(`${t.dir}/ext4`);
    const { code, err } = await command(["mount", device.path, `${t.dir}/a`]);
    assertEquals([code, err], [
      0,
      `denomount: ${t.dir}/a: the source is write-protected, mounted read-only\n`,
    ]);
    assertEquals(t.mounts().map(({ options }) => options.join()), ["ro,relatime"]);
    assertEquals((await command(["umount", device.path])).code, 0);
    assertEquals(t.mounts(), []);
    const refused = await command(["mount", "-w", device.path, `${t.dir}/a`]);
    assertEquals([refused.code, t.mounts()], [32, []]);
    assertStringIncludes(refused.err, "write-protected");
  },
);

kernelTest("partition=N mounts that partition of an image", withImages, async (t) => {
  await makeImages(t);
  t.make("a");
  const { code, err } = await command(["mount", "-o", "partition=1,ro", `${t.dir}/disk`, `${t.dir}/a`]);
  assertEquals(code, 0, err);
  const [row] = t.mounts();
  assertEquals([row?.fsType, row?.options.join()], ["ext4", "ro,relatime"]);
  assert([...Deno.readDirSync(`${t.dir}/a`)].some(({ name }) => name === "lost+found"));
  assertEquals((await command(["umount", `${t.dir}/disk`])).code, 0);
  const cases: [words: string, error: string][] = [
    ["-o partition=7 {}/disk {}/a", "has no partition 7; it has 1"],
    ["-o partition=x {}/disk {}/a", "partition=x is not the number of a partition"],
    ["{}/disk {}/a", "add -o partition=1"],
    ["{}/low {}/a", "is a directory: add --bind"],
    ["{}/none {}/a", "does not exist"],
    ["LABEL=no-such-label {}/a", "no block device has LABEL=no-such-label"],
    ["{}/a", "/etc/fstab is not read"],
    ["--bind {}/a", "a bind needs SOURCE and TARGET"],
    ["--move {}/low {}/a", "is not a mountpoint"],
    ["--beneath -t tmpfs t {}/a", "nothing is mounted on"],
    ["-o X-mount.auto-fstypes=xfs {}/ext4 {}/a", "it is ext4, which X-mount.auto-fstypes=xfs does not allow"],
  ];
  for (const [line, error] of cases) {
    const { code, err } = await command(["mount", ...words(t, line)]);
    assertEquals([code, t.mounts(), err.trimEnd().split("\n").length], [32, [], 1], err);
    assertStringIncludes(err, error);
  }
});

kernelTest("a device is found by its label and UUID", withImages, async (t) => {
  await makeImages(t);
  t.make("a");
  await using device = await readonlyDevice(`${t.dir}/ext4`);
  for (const tag of ["LABEL=my, label", `UUID=${UUID}`, `UUID="${UUID}"`]) {
    const { code, err } = await command(["mount", "-r", tag, `${t.dir}/a`]);
    assertEquals([code, t.mounts().map(({ source }) => source)], [0, [device.path]], err);
    assertEquals((await command(["umount", device.path])).code, 0);
  }
});

kernelTest(
  "--beneath mounts under what is there, also by --move",
  { ...needs, features: ["mountBeneath"] },
  async (t) => {
    t.make("a", "b");
    for (const args of [["-t", "tmpfs", "top", `${t.dir}/a`], ["-t", "tmpfs", "moved", `${t.dir}/b`]]) {
      assertEquals((await command(["mount", ...args])).code, 0);
    }
    Deno.writeTextFileSync(`${t.dir}/a/top`, "");
    const beneath = await command(["mount", "--beneath", "-t", "tmpfs", "under", `${t.dir}/a`]);
    assertEquals(beneath, { code: 0, out: "", err: "" });
    assert(
      [...Deno.readDirSync(`${t.dir}/a`)].some(({ name }) => name === "top"),
      "the old mount stays on top",
    );
    const moved = await command(["mount", "--move", "--beneath", `${t.dir}/b`, `${t.dir}/a`]);
    assertEquals(moved, { code: 0, out: "", err: "" });
    const found: string[] = [];
    for (let left = t.mounts(); left.length > 0; left = t.mounts()) {
      const { source } = JSON.parse((await command(["lookup", "--json", `${t.dir}/a`])).out);
      found.push(source);
      assertEquals((await command(["umount", `${t.dir}/a`])).code, 0);
    }
    assertEquals(found, ["top", "moved", "under"]);
  },
);

kernelTest(
  "umount takes several targets, goes on after a failure, and exits as umount(8)",
  withImages,
  async (t) => {
    await makeImages(t);
    const [a, b, c] = ["a", "b", "c"].map((name) => t.make(name)) as [string, string, string];
    const mountTmpfs = async (...targets: string[]) => {
      for (const target of targets) assertEquals(await mount8("mount", "-t", "tmpfs", "t", target), 0);
    };
    await mountTmpfs(a, c);
    const some = await command(["umount", a, b, c]);
    assertEquals([some.code, some.err, t.mounts()], [64, `denomount: ${b} is not mounted\n`, []]);
    const none = await command(["umount", b, `${t.dir}/none`]);
    assertEquals([none.code, none.err], [
      32,
      `denomount: ${b} is not mounted\ndenomount: ${t.dir}/none does not exist (realpath: ENOENT)\n`,
    ]);
    for (const flags of [[], ["-R"], ["-a"], ["-l"]]) {
      assertEquals(await command(["umount", "-q", ...flags, b]), { code: 32, out: "", err: "" });
    }
    assertEquals(await mount8("umount", "-q", b), 32);
    await mountTmpfs(a, b);
    assertEquals(await command(["umount", "-q", a, b]), { code: 0, out: "", err: "" });
    // The image is mounted twice; the last mount comes first, as umount(8) does.
    for (const target of [a, b]) assertEquals((await command(["mount", `${t.dir}/ext4`, target])).code, 0);
    assertEquals((await command(["umount", `${t.dir}/ext4`])).code, 0);
    assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/a"]);
    assertEquals((await command(["umount", t.mounts()[0]?.source ?? ""])).code, 0);
    assertEquals(t.mounts(), []);
  },
);

/** Makes programs in a directory that is first in PATH. */
function withPrograms(t: KernelContext, programs: Record<string, string>): Disposable {
  const path = Deno.env.get("PATH") ?? "";
  for (const [name, script] of Object.entries(programs)) {
    Deno.writeTextFileSync(`${t.make("bin")}/${name}`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  Deno.env.set("PATH", `${t.dir}/bin:${path}`);
  return { [Symbol.dispose]: () => Deno.env.set("PATH", path) };
}

const helping = { ...needs, tools: [...needs.tools, "sh"] };

kernelTest(
  "a type that the kernel does not know, and nfs, are mounted by the program mount.TYPE",
  helping,
  async (t) => {
    t.make("a");
    const record = `printf '%s\\n' "$0" "$@" > ${t.dir}/args`;
    using _programs = withPrograms(t, {
      "mount.s3ql": `${record}; exec mount -t tmpfs -o size=64k helped "$2"`,
      "mount.nfs": `${record}; echo "mount.nfs: access denied by server" >&2; exit 32`,
    });
    const args = () => Deno.readTextFileSync(`${t.dir}/args`).trimEnd().split("\n");
    const mounted = await command([
      "mount",
      "-t",
      "s3ql",
      "-o",
      "cache=1",
      "-o",
      "nosymfollow,ro",
      "bucket",
      `${t.dir}/a`,
    ]);
    assertEquals(mounted, { code: 0, out: "", err: "" });
    const [program, source, target, flag, options, ...more] = args();
    assertEquals(program, `${t.dir}/bin/mount.s3ql`);
    assertEquals([source, flag, options, more], ["bucket", "-o", "cache=1,ro", []]);
    assert(target !== undefined && target.endsWith("/a"), target);
    assertEquals(t.mounts().map(({ source, options }) => [source, options.includes("nosymfollow")]), [[
      "helped",
      true,
    ]]);
    assertEquals((await command(["umount", `${t.dir}/a`])).code, 0);
    for (const type of [["-t", "nfs"], []]) {
      const denied = await command(["mount", ...type, "server:/export", `${t.dir}/a`]);
      assertEquals([denied.code, t.mounts()], [32, []]);
      assertStringIncludes(
        denied.err,
        "mount.nfs failed with exit status 32: mount.nfs: access denied by server",
      );
      assertEquals(args().slice(1, 2), ["server:/export"]);
    }
  },
);

kernelTest(
  "a helper in the working directory is not found, nor in a relative entry of PATH",
  helping,
  async (t) => {
    t.make("a");
    using _programs = withPrograms(t, { "mount.s3ql": `touch ${t.dir}/ran` });
    const before = Deno.cwd();
    const path = Deno.env.get("PATH") ?? "";
    try {
      Deno.chdir(`${t.dir}/bin`);
      for (const relative of [":.", "", `${t.dir}/bin`, "../bin"]) {
        Deno.env.set("PATH", `${relative}:/usr/bin:/bin`);
        const { code, err } = await command(["mount", "-t", "s3ql", "bucket", `${t.dir}/a`]);
        assertEquals([code, t.mounts()], [32, []], err);
      }
    } finally {
      Deno.chdir(before);
      Deno.env.set("PATH", path);
    }
    assertEquals([...Deno.readDirSync(t.dir)].some(({ name }) => name === "ran"), false);
  },
);

kernelTest("a NTFS image is mounted by ntfs-3g", {
  ...needs,
  root: true,
  tools: [...needs.tools, "mkntfs", "mount.ntfs-3g"],
  privateDirectory: false, // the server keeps it busy for a moment
}, async (t) => {
  t.make("a");
  Deno.writeFileSync(`${t.dir}/ntfs`, new Uint8Array());
  Deno.truncateSync(`${t.dir}/ntfs`, 4 << 20);
  const made = await new Deno.Command("mkntfs", { args: ["-q", "-F", `${t.dir}/ntfs`], stdout: "null" })
    .output();
  assert(made.success, new TextDecoder().decode(made.stderr));
  for (const type of [["-t", "ntfs-3g"], []]) {
    const { code, err } = await command(["mount", ...type, `${t.dir}/ntfs`, `${t.dir}/a`]);
    assertEquals(code, 0, err);
    assertEquals(t.mounts().map(({ fsType }) => /^fuse(blk)?$/.test(fsType)), [true]);
    Deno.writeTextFileSync(`${t.dir}/a/file`, "text");
    assertEquals((await command(["umount", `${t.dir}/a`])).code, 0);
    assertEquals(t.mounts(), []);
  }
});
