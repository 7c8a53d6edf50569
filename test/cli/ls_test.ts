import { assert, assertEquals, assertMatch } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";
import { command } from "./in_process.ts";

const needs = {
  tools: ["unshare", "nsenter", "mount", "umount"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
};

/** The cells of the lines below the head, by two spaces or more, without the test's directory. */
async function rows(t: KernelContext, ...args: string[]): Promise<string[][]> {
  const { code, out, err } = await command(["ls", ...args]);
  assertEquals([code, err], [0, ""]);
  const [head = "", ...lines] = out.trimEnd().split("\n");
  assertMatch(head, /^MOUNTPOINT +TYPE +SOURCE/);
  return lines.map((line) => line.replaceAll(t.dir, "").split(/ {2,}/));
}

async function mountpoints(t: KernelContext, ...args: string[]): Promise<string[]> {
  const { code, out, err } = await command(["ls", "--json", ...args]);
  assertEquals([code, err], [0, ""]);
  return JSON.parse(out).map(({ mountpoint }: { mountpoint: string }) => mountpoint.replace(t.dir, ""));
}

kernelTest(
  "ls prints the mounts at and below PATH, of each --type, as a table or with --json",
  needs,
  async (t) => {
    t.make("a", "a-not", "b");
    Deno.symlinkSync(`${t.dir}/a`, `${t.dir}/link`);
    for (const name of ["a", "a-not"]) {
      await run(
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=64k",
        "t",
        `${t.dir}/${name}`,
      );
    }
    await run("mkdir", `${t.dir}/a/inner`);
    await run("mount", "-t", "ramfs", "odd\x1bsource", `${t.dir}/a/inner`);
    await run("mount", "--bind", `${t.dir}/b`, `${t.dir}/b`);
    assertEquals(await mountpoints(t, t.dir), ["/a", "/a-not", "/a/inner", "/b"]);
    assertEquals(await mountpoints(t, `${t.dir}/a`), ["/a", "/a/inner"]);
    assertEquals(await mountpoints(t, `${t.dir}/link`), ["/a", "/a/inner"]);
    assertEquals(await mountpoints(t, "--type", "tmpfs", t.dir), ["/a", "/a-not"]);
    assertEquals(await mountpoints(t, "-t", "ramfs", "-t", "tmpfs", `${t.dir}/a`), ["/a", "/a/inner"]);
    assertEquals(await mountpoints(t, "--type", "tmpfs,ramfs", t.dir), ["/a", "/a-not", "/a/inner"]);
    assert((await mountpoints(t)).includes("/proc"));
    assertEquals(await rows(t, `${t.dir}/a`), [
      ["/a", "tmpfs", "t", "rw,relatime"],
      ["/a/inner", "ramfs", "odd\\033source", "rw,relatime"],
    ]);
    await run("umount", "-R", `${t.dir}/a`, `${t.dir}/a-not`, `${t.dir}/b`);
  },
);

kernelTest(
  "ls --tree puts each mount below its parent, with its source, use and options",
  needs,
  async (t) => {
    t.make("a", "b", "c");
    const { dir } = t;
    const mount = async (target: string, ...args: string[]) => {
      await run("mount", ...args, target);
      await run("mount", "--make-private", target); // the directory may be shared
    };
    await mount(`${dir}/a`, "-t", "tmpfs", "-o", "size=1m", "t");
    await run("mkdir", `${dir}/a/in`, `${dir}/a/in2`);
    await run("sh", "-c", `head -c 262144 /dev/zero > ${dir}/a/in2/file`);
    await mount(`${dir}/a/in`, "-t", "ramfs", "odd\x1b");
    await mount(`${dir}/b`, "--bind", `${dir}/a/in2`);
    await run("mount", "-o", "remount,bind,ro,nosuid", `${dir}/b`);
    await run("mount", "--make-shared", `${dir}/b`);
    await mount(`${dir}/c`, "-t", "tmpfs", "-o", "size=64k", "below");
    await mount(`${dir}/c`, "-t", "tmpfs", "-o", "size=128k", "top");
    const found = await rows(t, "--tree", dir);
    const shared = found.find(([name]) => name?.endsWith("/b"))?.[4];
    assertMatch(shared ?? "", /^ro nosuid shared:\d+$/);
    assertEquals(found, [
      ["├─ /a", "tmpfs", "t", "256 KiB of 1.0 MiB"],
      ["│", "└─ /a/in", "ramfs", "odd\\033"],
      ["├─ /b", "tmpfs", "t[/in2]", "256 KiB of 1.0 MiB", shared ?? ""],
      ["└─ /c", "tmpfs", "below"], // another mount covers it
      ["", "└─ /c", "tmpfs", "top", "0 B of 128 KiB"],
    ]);
    await run("umount", "-R", `${dir}/a`);
    await run("umount", `${dir}/b`, `${dir}/c`);
    await run("umount", `${dir}/c`);
  },
);

kernelTest("ls --namespace prints the table of that namespace, with the sizes there", needs, async (t) => {
  t.make("a", "b");
  const { dir } = t;
  await using namespace = await MountNamespace.start();
  await namespace.run("mount", "-t", "tmpfs", "-o", "size=512k", "there", `${dir}/a`);
  await run("mount", "-t", "tmpfs", "-o", "size=64k", "here", `${dir}/a`);
  await run("mount", "-t", "tmpfs", "-o", "size=64k", "here", `${dir}/b`);
  const inNamespace = ["--namespace", `${namespace.pid}`];
  assertEquals(await mountpoints(t, ...inNamespace, dir), ["/a"]);
  assertEquals(await rows(t, ...inNamespace, dir), [["/a", "tmpfs", "there", "rw,relatime"]]);
  assertEquals(await rows(t, "--tree", ...inNamespace, dir), [["└─ /a", "tmpfs", "there", "0 B of 512 KiB"]]);
  assertEquals(await mountpoints(t, dir), ["/a", "/b"]);
  await run("umount", `${dir}/a`, `${dir}/b`);
});
