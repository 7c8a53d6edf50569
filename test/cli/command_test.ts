import { assert, assertEquals, assertMatch, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { cli, denomount, exitCode, start, startWatch } from "./command.ts";
import { names, readText } from "../kernel.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";

const needs = { tools: ["unshare"], permissions: { run: true } as Deno.PermissionOptionsObject };

function rootfs(t: KernelContext): string {
  t.make("lower", "skeleton/tmp", "skeleton/proc");
  return JSON.stringify([
    { type: "overlay", source: "root", options: [`lowerdir=${t.dir}/skeleton:/usr:/etc`] },
    { type: "tmpfs", source: "tmp", target: "/tmp" },
  ]);
}

kernelTest(
  "run starts the command in the mount, exits with its status, and leaves nothing mounted",
  needs,
  async (t) => {
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
  },
);

function killIfRunning(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

kernelTest("Ctrl-C ends the command of run, which then unmounts its mounts", needs, async (t) => {
  const child = start(["run", "-", "sh", "-c", "echo up; exec sleep 60"], t.dir);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(rootfs(t)));
  await writer.close();
  const reader = child.stdout.getReader();
  await reader.read();
  // A terminal sends SIGINT to the whole foreground process group: here to its two members.
  const children = (readText(`/proc/${child.pid}/task/${child.pid}/children`) ?? "").trim().split(" ").map(
    Number,
  );
  child.kill("SIGINT"); // without a terminal the command forwards it, so the children may already have exited
  for (const pid of children) killIfRunning(pid, "SIGINT");
  assertEquals(await exitCode(child), 130);
  await reader.cancel();
  await child.stderr.cancel();
});

kernelTest("Ctrl-C at any time leaves no temporary directory", needs, async (t) => {
  const input = new TextEncoder().encode(rootfs(t));
  for (let after = 20; after < 200; after += 10) {
    const child = start(["run", "-", "sleep", "0.3"], t.dir);
    const writer = child.stdin.getWriter();
    await writer.write(input);
    await writer.close();
    await new Promise((resolve) => setTimeout(resolve, after));
    child.kill("SIGINT");
    await child.output();
    assertEquals(names("/tmp").filter((name) => /^denomount-\w{6}$/.test(name)), [], `after ${after} ms`);
  }
});

kernelTest("ls --tree prints loop files, id maps, propagation and sizes, without colors in a pipe", {
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
      options: ["bind", "shared", "uidmap=0:7:1", "gidmap=0:7:1"],
    },
  ]);
  assertEquals((await denomount(["up", "-", t.dir], { input: list })).code, 0);
  const { code, out, err } = await denomount(["ls", "--tree", t.dir]);
  assertEquals([code, err], [0, ""]);
  const [head = "", a = "", b = ""] = out.trim().split("\n");
  assertMatch(head, /^MOUNTPOINT +TYPE +SOURCE +USED +OPTIONS$/);
  assertMatch(a, new RegExp(`├─ ${t.dir}/a +ext4 +/dev/loop\\d+ \\(${t.dir}/image\\) +.* of .* +ro`));
  assertMatch(b, new RegExp(`└─ ${t.dir}/b .*\\[/.*/source\\].* idmapped shared:\\d+$`));
  assertEquals((await denomount(["down", "-", t.dir], { input: list })).code, 0);
});

kernelTest(
  "idmap makes an id-mapped mount, and loop attaches, lists and detaches",
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

kernelTest("explain prints the calls without making them, and doctor prints what works", needs, async (t) => {
  const input = JSON.stringify([{ type: "tmpfs", source: "t", options: ["size=1m"] }]);
  const { code, out } = await denomount(["explain", "-", t.make("target")], { input });
  assertEquals(code, 0);
  assertMatch(out, /^fsopen\("tmpfs"\) .*\n[\s\S]*^move_mount\(mount, ".*\/target"\)/m);
  assertEquals(t.mounts(), []);
  const found = JSON.parse((await denomount(["doctor", "--json"])).out);
  assert(found.findings.length > 8);
});

kernelTest(
  "completions and the manual cover the help, in the syntax of their readers",
  needs,
  async () => {
    const bash = (await denomount(["completions", "bash"])).out;
    const script =
      `${bash}\nCOMP_WORDS=(denomount loop at) COMP_CWORD=2; _denomount; echo "\${COMPREPLY[@]}"`;
    const { stdout } = await new Deno.Command("bash", { args: ["-c", script] }).output();
    assertStringIncludes(new TextDecoder().decode(stdout), "attach");
    assertMatch((await denomount(["completions", "zsh"])).out, /^#compdef denomount/);
    const fish = (await denomount(["completions", "fish"])).out;
    assertMatch(fish, /^complete -c denomount .* -a run /m);
    assertMatch(fish, /^complete -c denomount .* \\'watch\\'' -r -f -l namespace /m);
    assertEquals((await denomount(["completions", "tcsh"])).code, 2);
    const manual = (await denomount(["manual"])).out;
    for (
      const part of [
        ".TH DENOMOUNT 1",
        ".SH COMMANDS",
        '.SS "denomount run',
        ".B \\-\\-chroot",
        '.SS "denomount watch',
        ".B \\-\\-namespace <PID>",
        ".B \\-\\-containerd",
        "Prints with \\-\\-containerd the snapshots",
        ".B 130\nended by Ctrl\\-C",
      ]
    ) {
      assertStringIncludes(manual, part);
    }
  },
);

kernelTest("an operation of more than a second prints progress, on a terminal only", {
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
    assertEquals([plain.code, plain.err.split("\n").length], [32, 3]); // the error and its holder
    const command = [Deno.execPath(), "run", "--quiet", "-A", cli, ...args].join(" ");
    const { stdout } = await new Deno.Command("script", { args: ["-qec", command, "/dev/null"] }).output();
    assertStringIncludes(new TextDecoder().decode(stdout), `unmounting ${t.dir}/busy, 1 s`);
  }
  assertEquals((await denomount(["umount", `${t.dir}/busy`])).code, 0);
});

const watching = { ...needs, tools: ["unshare", "nsenter", "mount", "umount"] };

kernelTest(
  "watch prints mounts, moves and unmounts as text, and Ctrl-C ends it",
  { ...watching, privateDirectory: true },
  async (t) => {
    t.make("a", "b");
    const { child, lines, close } = await startWatch([t.dir], t.dir);
    await run("mount", "-t", "tmpfs", "new", `${t.dir}/a`);
    await lines(1);
    await run("mount", "--move", `${t.dir}/a`, `${t.dir}/b`);
    await lines(2);
    await run("umount", `${t.dir}/b`);
    const printed = (await lines(3)).map((line) => line.replaceAll(t.dir, "").replace(/^[\d:]{8} /, ""));
    assertEquals(printed, [
      "+ /a  tmpfs  new  rw,relatime",
      "> /a -> /b  tmpfs  new  rw,relatime",
      "- /b  tmpfs  new  rw,relatime",
    ]);
    child.kill("SIGINT");
    assertEquals(await exitCode(child), 130);
    await close();
  },
);

kernelTest("watch --json prints one line per event, of the given types only", watching, async (t) => {
  t.make("a");
  const { child, lines, close } = await startWatch(["--json", "--changes", "--type", "tmpfs", t.dir], t.dir);
  await run("mount", "-t", "ramfs", "other", `${t.dir}/a`);
  await run("umount", `${t.dir}/a`);
  await run("mount", "-t", "tmpfs", "new", `${t.dir}/a`);
  await lines(1); // watch reads the mount before it changes
  await run("mount", "-o", "remount,ro", `${t.dir}/a`);
  const events = (await lines(2)).map((line) => JSON.parse(line));
  assertEquals(
    events.map(({ kind, mount, before }) => [kind, mount.mountpoint, mount.source, before?.options]),
    [["mounted", `${t.dir}/a`, "new", undefined], ["changed", `${t.dir}/a`, "new", "rw,relatime"]],
  );
  assert(Math.abs(Date.parse(events[0].time) - Date.now()) < 60_000);
  await run("umount", `${t.dir}/a`);
  child.kill("SIGTERM");
  assertEquals(await exitCode(child), 143);
  await close();
});

kernelTest(
  "watch ends when its reader closes, and when the process of --namespace exits",
  watching,
  async (t) => {
    const { child, close } = await startWatch([], t.dir);
    await close();
    assertEquals(await exitCode(child), 0);

    const namespace = await MountNamespace.start();
    const other = await startWatch(["--namespace", `${namespace.pid}`], t.dir);
    await namespace.run("mount", "-t", "tmpfs", "inside", t.dir);
    assertStringIncludes((await other.lines(1)).join(), `+ ${t.dir}  tmpfs  inside`);
    await namespace[Symbol.asyncDispose]();
    assertEquals(await exitCode(other.child), 0);
    await other.close();
  },
);

kernelTest(
  "up, ls and down work in another process's mount namespace with --namespace",
  watching,
  async (t) => {
    t.make("source", "target");
    Deno.writeTextFileSync(`${t.dir}/source/file`, "from here");
    await using namespace = await MountNamespace.start();
    const input = JSON.stringify([
      { type: "tmpfs", source: "scratch", options: ["size=1m"] },
      { type: "bind", source: `${t.dir}/source`, options: ["bind", "ro"] },
    ]);
    const target = `${t.dir}/target`;
    const inNamespace = ["--namespace", `${namespace.pid}`];
    assertEquals(await denomount(["up", ...inNamespace, "-", target], { input }), {
      code: 0,
      out: `${target}\n${target}\n`,
      err: "",
    });
    assertEquals(await namespace.run("cat", `${target}/file`), "from here");
    assertEquals(t.mounts(), []);
    const { out } = await denomount(["ls", "--tree", ...inNamespace, target]);
    const [, below = "", top = ""] = out.trimEnd().split("\n");
    assertMatch(below, /└─ \S+\/target +tmpfs +scratch +size=1024k$/); // another mount covers it, so its size can't be read
    assertMatch(top, /└─ \S+\/target .*\[.*\/source\] .* of .* +ro( master:\d+)?$/);
    assertEquals(JSON.parse((await denomount(["ls", "--json", target])).out), []);
    assertEquals(await denomount(["down", ...inNamespace, "-", target], { input }), {
      code: 0,
      out: "",
      err: "",
    });
    assertEquals(JSON.parse((await denomount(["ls", "--json", ...inNamespace, target])).out), []);
    assertEquals((await denomount(["up", ...inNamespace, "-", target], { input })).code, 0);
    assertEquals((await denomount(["umount", "--recursive", ...inNamespace, t.dir])).code, 0);

    for (const args of [["up", "-", target], ["down", "-", target], ["ls"], ["watch"], ["umount", target]]) {
      const missing = await denomount([...args, "--namespace", "1073741824"], { input });
      const status = args[0] === "umount" ? 32 : 1;
      assertEquals([missing.code, missing.err.trimEnd().split("\n").length], [status, 1], missing.err);
      assertStringIncludes(missing.err, "there is no process 1073741824");
      assertEquals((await denomount([...args, "--namespace", "x"], { input })).code, 2);
    }
  },
);
