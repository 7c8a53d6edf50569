import { assert, assertEquals, assertMatch } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";
import { cli } from "./command.ts";
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
      ["/a", "tmpfs", "t", "rw,relatime,size=64k"],
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
    assertMatch(shared ?? "", /^ro nosuid shared:\d+ size=1024k$/);
    assertEquals(found, [
      ["├─ /a", "tmpfs", "t", "256 KiB of 1.0 MiB", "size=1024k"],
      ["│", "└─ /a/in", "ramfs", "odd\\033"],
      ["├─ /b", "tmpfs", "t[/in2]", "256 KiB of 1.0 MiB", shared ?? ""],
      ["└─ /c", "tmpfs", "below", "size=64k"], // another mount covers it
      ["", "└─ /c", "tmpfs", "top", "0 B of 128 KiB", "size=128k"],
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
  assertEquals(await rows(t, ...inNamespace, dir), [["/a", "tmpfs", "there", "rw,relatime,size=512k"]]);
  assertEquals(await rows(t, "--tree", ...inNamespace, dir), [[
    "└─ /a",
    "tmpfs",
    "there",
    "0 B of 512 KiB",
    "size=512k",
  ]]);
  assertEquals(await mountpoints(t, dir), ["/a", "/b"]);
  await run("umount", `${dir}/a`, `${dir}/b`);
});

/** Runs the command on a terminal of a width; returns its lines, as a user sees them. */
async function onTerminal(
  t: KernelContext,
  width: number,
  env: Record<string, string>,
  ...args: string[]
): Promise<string[]> {
  const line = [Deno.execPath(), "run", "--quiet", "-A", cli, ...args].join(" ");
  const { stdout } = await new Deno.Command("script", {
    args: ["-qec", `stty cols ${width}; ${line}`, "/dev/null"],
    cwd: t.dir,
    clearEnv: true,
    env: { PATH: "/usr/bin:/bin", HOME: Deno.env.get("HOME") ?? "/", TERM: "xterm", ...env },
  }).output();
  return new TextDecoder().decode(stdout).trimEnd().split("\r\n");
}

const escapes = new RegExp("\x1b\\[[\\d;]*m", "g");

kernelTest("a table fits a terminal of 40, 80 and 120 columns, and a pipe gets all of it", {
  ...needs,
  tools: [...needs.tools, "script"],
}, async (t) => {
  const long = "a-long-name-".repeat(6);
  t.make(long, `${long}ü`);
  for (const name of [long, `${long}ü`]) {
    await run("mount", "-t", "tmpfs", "-o", "size=64k,nosuid,nodev,noexec", "a-source", `${t.dir}/${name}`);
  }
  const wide = (await command(["ls", t.dir])).out.trimEnd().split("\n");
  assert(wide.slice(1).every((line) => line.includes(long) && line.includes("size=64k")), wide.join("\n"));
  for (const width of [40, 80, 120]) {
    for (const args of [["ls", t.dir], ["ls", "--tree", t.dir]]) {
      for (const locale of ["C.UTF-8", "C"]) {
        const lines = await onTerminal(t, width, { LC_ALL: locale, NO_COLOR: "1" }, ...args);
        assertEquals(lines.length, 3, lines.join("\n"));
        for (const line of lines) {
          assert([...line].length <= width, `${line.length} > ${width}: ${line}`);
          if (locale === "C") assertMatch(line, /^[\x20-\x7e]*$/); // NO_COLOR leaves out the colors too
        }
        assert(lines[1]?.slice(0, width / 2 - 5).includes("/tmp/") || !t.dir.startsWith("/tmp/"), lines[1]); // it is readable
        const cut = locale === "C" ? "..." : "…";
        assert(lines.slice(1).some((line) => line.includes(cut)), lines.join("\n"));
      }
    }
  }
  const colored = await onTerminal(t, 80, {}, "ls", "--tree", t.dir);
  assert(colored[1]?.includes("\x1b[1m"));
  for (const line of colored) assert([...line.replace(escapes, "")].length <= 80, line);
  await run("umount", `${t.dir}/${long}`, `${t.dir}/${long}ü`);
});

kernelTest("in the locale C, names and branches are ASCII", needs, async (t) => {
  t.make("ü");
  await run("mount", "-t", "tmpfs", "-o", "size=64k", "t", `${t.dir}/ü`);
  const before = Deno.env.get("LC_ALL");
  try {
    Deno.env.set("LC_ALL", "C");
    assertMatch((await command(["ls", "--tree", t.dir])).out, /\n`- \S+\/\\303\\274 +tmpfs/);
    Deno.env.set("LC_ALL", "de_DE.UTF-8");
    assertMatch((await command(["ls", "--tree", t.dir])).out, /\n└─ \S+\/ü +tmpfs/);
  } finally {
    if (before === undefined) Deno.env.delete("LC_ALL");
    else Deno.env.set("LC_ALL", before);
  }
  await run("umount", `${t.dir}/ü`);
});

kernelTest("ls prints the columns that are asked for, also as JSON, and the file of a loop device", {
  ...needs,
  root: true,
  tools: [...needs.tools, "mkfs.ext4"],
}, async (t) => {
  t.make("a");
  Deno.writeFileSync(`${t.dir}/image`, new Uint8Array());
  Deno.truncateSync(`${t.dir}/image`, 2 << 20);
  await run("mkfs.ext4", "-q", `${t.dir}/image`);
  await run("mount", "-o", "ro", `${t.dir}/image`, `${t.dir}/a`);
  const { out } = await command(["ls", "--columns", "type,FILE,propagation", `${t.dir}/a`]);
  assertMatch(out, /^TYPE +FILE +PROPAGATION\next4 +\S+\/image +(private|shared:\d+)\n$/);
  const [row] = JSON.parse((await command(["ls", "--json", "--columns", "file,used", `${t.dir}/a`])).out);
  assertEquals([Object.keys(row), row.file], [["file", "used"], `${t.dir}/image`]);
  const [all] = JSON.parse((await command(["ls", "--json", `${t.dir}/a`])).out);
  assertEquals(all.backingFile, `${t.dir}/image`);
  assertMatch((await command(["ls", `${t.dir}/a`])).out, /\/dev\/loop\d+ \(\S+\/image\)/);
  assertEquals((await command(["ls", "--columns", "bogus"])).code, 2);
  await run("umount", `${t.dir}/a`);
});

kernelTest("ls -t noTYPE prints all others, and without a match ls exits with status 1", needs, async (t) => {
  t.make("a", "b", "c");
  for (const [name, type] of [["a", "tmpfs"], ["b", "ramfs"], ["c", "tmpfs"]] as const) {
    await run("mount", "-t", type, "t", `${t.dir}/${name}`);
  }
  assertEquals(await mountpoints(t, "-t", "notmpfs", t.dir), ["/b"]);
  assertEquals(await mountpoints(t, "-t", "noramfs,ext4", t.dir), ["/a", "/c"]);
  assertEquals(await mountpoints(t, "-t", "noramfs,notmpfs", t.dir).catch(() => "failed"), "failed");
  for (const args of [["-t", "noramfs,notmpfs"], ["-t", "nosuchtype".slice(2)]]) {
    assertEquals(await command(["ls", ...args, t.dir]), { code: 1, out: "", err: "" });
  }
  assertEquals(await command(["ls", "--json", "-t", "xfs", t.dir]), { code: 1, out: "[]\n", err: "" });
  await run("umount", `${t.dir}/a`, `${t.dir}/b`, `${t.dir}/c`);
});
