import { assert, assertEquals, assertMatch, assertStringIncludes } from "./assert.ts";
import { type KernelContext, kernelTest } from "./harness.ts";
import { names, readText } from "./kernel.ts";

const cli = new URL("../cli.ts", import.meta.url).pathname;

interface Output {
  code: number;
  out: string;
  err: string;
}

function start(args: string[], cwd: string): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", cli, ...args],
    cwd,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function denomount(args: string[], { cwd = "/", input = "" } = {}): Promise<Output> {
  const child = start(args, cwd);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input)).catch(() => {}); // not everything reads it
  await writer.close().catch(() => {});
  const { code, stdout, stderr } = await child.output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

const needs = { tools: ["unshare"], permissions: { run: true } as Deno.PermissionOptionsObject };
const text = (path: string) => Deno.readTextFileSync(path);

function rootfs(t: KernelContext): string {
  t.make("lower", "skeleton/tmp", "skeleton/proc");
  return JSON.stringify([
    { type: "overlay", source: "root", options: [`lowerdir=${t.dir}/skeleton:/usr:/etc`] },
    { type: "tmpfs", source: "tmp", target: "/tmp" },
  ]);
}

kernelTest("run has the command in the mount, ends with its status, and leaves nothing", needs, async (t) => {
  const input = rootfs(t);
  const inside = await denomount([
    "run",
    "-",
    "--",
    "sh",
    "-c",
    "pwd; ls -d bin; echo $DENOMOUNT_ROOT; exit 7",
  ], { input });
  const [directory = "", found, root] = inside.out.trim().split("\n");
  assertEquals([inside.code, found, root, inside.err], [7, "bin", directory, ""]);
  const chroot = await denomount([
    "run",
    "--chroot",
    "-",
    "/bin/sh",
    "-c",
    "echo in > /tmp/x; cat /tmp/x; ls /",
  ], { input });
  assertEquals(chroot.code, 0);
  assertMatch(chroot.out, /^in\n[\s\S]*^tmp$/m);
  const isolated = await denomount(["run", "--private", "-", "true"], { input });
  assertEquals(isolated, { code: 0, out: "", err: "" });
  assertEquals((await denomount(["run", "-", "/no/such/program"], { input })).code, 1);
});

kernelTest("Ctrl-C ends the command of run, and then its mounts", needs, async (t) => {
  const child = start(["run", "-", "sh", "-c", "echo up; exec sleep 60"], t.dir);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(rootfs(t)));
  await writer.close();
  const reader = child.stdout.getReader();
  await reader.read();
  // What a terminal does: the whole foreground group gets the signal; here its two members do.
  const children = (readText(`/proc/${child.pid}/task/${child.pid}/children`) ?? "").trim().split(" ").map(
    Number,
  );
  child.kill("SIGINT");
  for (const pid of children) Deno.kill(pid, "SIGINT");
  assertEquals((await child.status).code, 130);
  await reader.cancel();
  await child.stderr.cancel();
});

kernelTest("try shows what a command changes, and changes nothing", {
  ...needs,
  features: ["marksOnTmpfs"],
}, async (t) => {
  t.make("deleted/in");
  Deno.writeTextFileSync(`${t.dir}/changed`, "old");
  Deno.writeTextFileSync(`${t.dir}/gone`, "old");
  const script =
    "echo new > changed; rm gone; mkdir -p added/deep; echo 12345 > added/deep/file; rm -r deleted; exit 3";
  const { code, out, err } = await denomount(["try", "--", "sh", "-c", script], { cwd: t.dir });
  assertEquals([code, out], [3, ""]);
  const lines = err.trim().split("\n").map((line) => line.replace(/^[ │├└─]+/, ""));
  const from = lines.indexOf(t.dir.split("/").at(-1) ?? "");
  assertEquals(lines.slice(from + 1, -1), [
    "+ added/",
    "+ deep/",
    "+ file  6 B",
    "~ changed  4 B",
    "- deleted/",
    "- gone",
  ]);
  assertEquals(lines.at(-1), "3 added, 1 changed, 2 deleted");
  assertEquals([text(`${t.dir}/changed`), text(`${t.dir}/gone`), names(t.dir)], ["old", "old", [
    "changed",
    "deleted",
    "gone",
  ]]);
});

kernelTest("try --apply makes the changes for real, --keep copies them", needs, async (t) => {
  t.make("deleted/in", "kept");
  Deno.writeTextFileSync(`${t.dir}/changed`, "old");
  const script =
    "echo new > changed; chmod 640 changed; mkdir added; ln -s x added/link; rm -r deleted; mkdir deleted; " +
    "chmod 711 deleted";
  const kept = await denomount(["try", "--keep", `${t.dir}/kept`, "sh", "-c", script], { cwd: t.dir });
  assertEquals(kept.code, 0, kept.err);
  assertEquals(text(`${t.dir}/kept${t.dir}/changed`), "new\n");
  assertStringIncludes(text(`${t.dir}/kept/.deleted`), `${t.dir}/deleted/in`);
  assertEquals(text(`${t.dir}/changed`), "old");

  const applied = await denomount(["try", "--apply", "sh", "-c", script], { cwd: t.dir });
  assertEquals(applied.code, 0, applied.err);
  assertEquals(text(`${t.dir}/changed`), "new\n");
  assertEquals((Deno.statSync(`${t.dir}/changed`).mode ?? 0) & 0o777, 0o640);
  assertEquals(Deno.readLinkSync(`${t.dir}/added/link`), "x");
  assertEquals(names(`${t.dir}/deleted`), []);
  assertEquals((Deno.statSync(`${t.dir}/deleted`).mode ?? 0) & 0o777, 0o711);
});

kernelTest("ls --tree shows loop files, id maps and sizes, without colours in a pipe", {
  ...needs,
  root: true,
  tools: ["mkfs.ext4"],
}, async (t) => {
  t.make("a", "b", "source");
  await new Deno.Command("mkfs.ext4", { args: ["-q", `${t.dir}/image`, "1M"] }).output();
  const list = JSON.stringify([
    { type: "ext4", source: `${t.dir}/image`, target: "a", options: ["loop", "ro"] },
    {
      type: "bind",
      source: `${t.dir}/source`,
      target: "b",
      options: ["bind", "uidmap=0:7:1", "gidmap=0:7:1"],
    },
  ]);
  assertEquals((await denomount(["up", "-", t.dir], { input: list })).code, 0);
  const { code, out, err } = await denomount(["ls", "--tree", t.dir]);
  assertEquals([code, err], [0, ""]);
  const [head = "", a = "", b = ""] = out.trim().split("\n");
  assertMatch(head, /^MOUNTPOINT +TYPE +SOURCE +USED +OPTIONS$/);
  assertMatch(a, new RegExp(`├─ ${t.dir}/a +ext4 +/dev/loop\\d+ \\(${t.dir}/image\\) +.* of .* +ro`));
  assertMatch(b, new RegExp(`└─ ${t.dir}/b .*\\[/.*/source\\].* idmapped`));
  assertEquals((await denomount(["down", "-", t.dir], { input: list })).code, 0);
});

kernelTest(
  "idmap mounts with owners mapped, and loop attaches, lists and detaches",
  { ...needs, root: true },
  async (t) => {
    t.make("source", "target");
    const { dir } = t;
    assertEquals(
      await denomount(["idmap", "--uid", "0:5000:10", "--readonly", `${dir}/source`, `${dir}/target`]),
      {
        code: 0,
        out: "",
        err: "",
      },
    );
    assertEquals([Deno.statSync(`${dir}/target`).uid, Deno.statSync(`${dir}/target`).gid], [5000, 5000]);
    assertEquals((await denomount(["umount", `${dir}/target`])).code, 0);
    const bad = await denomount(["idmap", "--uid", "0:x", `${dir}/source`, `${dir}/target`]);
    assertEquals([bad.code, bad.err], [
      1,
      'denomount: "0:x" is no id map: it is written container:host:size, such as 0:100000:65536\n',
    ]);

    Deno.writeFileSync(`${dir}/image`, new Uint8Array(1 << 16));
    const device = (await denomount(["loop", "attach", "--readonly", `${dir}/image`])).out.trim();
    assertMatch(device, /^\/dev\/loop\d+$/);
    const listed = JSON.parse((await denomount(["loop", "ls", "--json"])).out);
    const own = listed.find((each: { device: string }) => each.device === device);
    assertEquals([own.backingFile, own.readonly, own.autoclear], [`${dir}/image`, true, false]);
    assertEquals((await denomount(["loop", "detach", device])).code, 0);
  },
);

kernelTest("explain prints the calls and makes none of them; doctor says what works", needs, async (t) => {
  const input = JSON.stringify([{ type: "tmpfs", source: "t", options: ["size=1m"] }]);
  const { code, out } = await denomount(["explain", "-", t.make("target")], { input });
  assertEquals(code, 0);
  assertMatch(out, /^fsopen\("tmpfs"\) .*\n[\s\S]*^move_mount\(mount, ".*\/target"\)/m);
  assertEquals(t.mounts(), []);
  const found = JSON.parse((await denomount(["doctor", "--json"])).out);
  assert(found.findings.length > 8);
});

kernelTest(
  "completions and the manual come from the help, and are what their programs read",
  needs,
  async () => {
    const bash = (await denomount(["completions", "bash"])).out;
    const asked = `${bash}\nCOMP_WORDS=(denomount loop at) COMP_CWORD=2; _denomount; echo "\${COMPREPLY[@]}"`;
    const { stdout } = await new Deno.Command("bash", { args: ["-c", asked] }).output();
    assertStringIncludes(new TextDecoder().decode(stdout), "attach");
    assertMatch((await denomount(["completions", "zsh"])).out, /^#compdef denomount/);
    assertMatch((await denomount(["completions", "fish"])).out, /^complete -c denomount .* -a try /m);
    assertEquals((await denomount(["completions", "tcsh"])).code, 2);
    const manual = (await denomount(["manual"])).out;
    for (
      const part of [
        ".TH DENOMOUNT 1",
        ".SH COMMANDS",
        '.SS "denomount try',
        ".B \\-\\-apply",
        "130  ended by Ctrl\\-C",
      ]
    ) {
      assertStringIncludes(manual, part);
    }
  },
);

kernelTest("what takes over a second says so on a terminal, and only there", {
  ...needs,
  tools: ["script", "unshare"],
}, async (t) => {
  t.make("busy");
  const list = JSON.stringify([{ type: "tmpfs", source: "t", target: "busy" }]);
  assertEquals((await denomount(["up", "-", t.dir], { input: list })).code, 0);
  {
    using _held = await Deno.open(`${t.dir}/busy`);
    const args = ["umount", "--timeout", "1500", `${t.dir}/busy`];
    const plain = await denomount(args);
    assertEquals([plain.code, plain.err.split("\n").length], [1, 2]);
    const command = [Deno.execPath(), "run", "--quiet", "-A", cli, ...args].join(" ");
    const { stdout } = await new Deno.Command("script", { args: ["-qec", command, "/dev/null"] }).output();
    assertStringIncludes(new TextDecoder().decode(stdout), `unmounting ${t.dir}/busy, 1 s`);
  }
  assertEquals((await denomount(["umount", `${t.dir}/busy`])).code, 0);
});
