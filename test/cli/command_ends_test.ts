import { assert, assertEquals, assertMatch, assertStringIncludes } from "../assert.ts";
import { cli, denomount, exitCode, start } from "./command.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { loopDevicesLeft } from "../kernel.ts";

const needs = { tools: ["unshare"], permissions: { run: true } as Deno.PermissionOptionsObject };

function listFile({ dir }: KernelContext): string {
  const file = `${dir}/list.json`;
  Deno.writeTextFileSync(file, JSON.stringify([{ type: "tmpfs", source: "t", options: ["size=1m"] }]));
  return file;
}

/** Starts the command and waits until the command that it runs prints "up". */
async function startUntilUp(args: string[], dir: string): Promise<Deno.ChildProcess> {
  const child = start(args, dir);
  await child.stdin.close();
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  assertEquals(new TextDecoder().decode(value), "up\n");
  await reader.cancel();
  await child.stderr.cancel();
  return child;
}

const signals = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

for (const [signal, status] of Object.entries(signals) as [keyof typeof signals, number][]) {
  kernelTest(
    `${signal} ends run and the command that it runs, and leaves nothing mounted`,
    needs,
    async (t) => {
      const command = ["sh", "-c", "echo up; exec sleep 60"];
      for (const args of [["run", listFile(t)], ["run", "--private", listFile(t)]]) {
        const child = await startUntilUp([...args, "--", ...command], t.dir);
        child.kill(signal); // to the process alone, as a supervisor does
        assertEquals(await exitCode(child), status, args.join(" "));
      }
    },
  );
}

kernelTest(
  "run and the command that it runs ignore a signal that is ignored at start, as under nohup",
  needs,
  async (t) => {
    // Deno handles SIGHUP itself some time after the start, which a list that comes late waits for.
    for (const list of [`cat ${listFile(t)}`, `sleep 1; cat ${listFile(t)}`]) {
      const denomountRun = [Deno.execPath(), "run", "--quiet", "-A", cli, "run", "-", "--"];
      const child = new Deno.Command("sh", {
        args: [
          "-c",
          `trap "" HUP; { ${list}; } | exec "$@"`,
          "sh",
          ...denomountRun,
          "sh",
          "-c",
          "echo up; kill -HUP $$ $PPID; exit 6",
        ],
        stdout: "piped",
      }).spawn();
      assertEquals(await exitCode(child), 6, list);
      await child.stdout.cancel();
    }
  },
);

kernelTest("a signal during unmounting does not interrupt it", needs, async (t) => {
  const pidFile = `${t.dir}/pid`;
  const daemon = ["sh", "-c", `sleep 60 > /dev/null 2>&1 & echo $! > ${pidFile}; echo up; exit 3`];
  const child = await startUntilUp(["run", listFile(t), "--", ...daemon], t.dir);
  await new Promise((resolve) => setTimeout(resolve, 500)); // run retries the busy mount for 2.5 s
  child.kill("SIGTERM");
  assertEquals(await exitCode(child), 3);
  Deno.kill(Number(Deno.readTextFileSync(pidFile)), "SIGKILL");
});

kernelTest("run detaches its mounts if a process that outlives its command uses them", needs, async (t) => {
  const pidFile = `${t.dir}/pid`;
  const daemon = ["sh", "-c", `sleep 60 > /dev/null 2>&1 & echo $! > ${pidFile}; exit 3`];
  for (const args of [["run", "--private", listFile(t)], ["run", listFile(t)]]) {
    const { code, err } = await denomount([...args, "--", ...daemon], { cwd: t.dir });
    Deno.kill(Number(Deno.readTextFileSync(pidFile)), "SIGKILL");
    assertEquals(code, 3, err);
    if (args.length === 2) assertMatch(err, /^denomount: still used by a process/);
  }
});

kernelTest("run works without root, and up fails with a hint", { ...needs, root: true }, async (t) => {
  // A user without capabilities, but with root's file access: Deno's cache belongs to root.
  const asUser = async (...args: string[]) => {
    const command = [Deno.execPath(), "run", "--quiet", "-A", cli, ...args];
    const { code, stdout, stderr } = await new Deno.Command("unshare", {
      args: ["--user", "--map-user=1000", "--map-group=1000", "--", ...command],
      cwd: t.dir,
    }).output();
    return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
  };
  const ran = await asUser("run", listFile(t), "--", "sh", "-c", "id -u; echo > here; exit 5");
  assertEquals([ran.code, ran.out], [5, "0\n"], ran.err);
  const refused = await asUser("up", listFile(t), t.dir);
  assertEquals(refused.code, 1);
  assertMatch(refused.err, /^denomount: cannot mount .*it needs root .*\n$/);
});

kernelTest("an error is one line that names the path", needs, async (t) => {
  const missing = `${t.dir}/missing`;
  for (
    const args of [["lookup", missing], ["ls", missing], ["watch", missing], ["umount", missing], [
      "loop",
      "attach",
      missing,
    ], ["loop", "detach", missing]]
  ) {
    const { code, err } = await denomount(args);
    assertEquals(code, args[0] === "umount" ? 32 : 1);
    assertMatch(err, new RegExp(`^denomount: ${missing} does not exist \\(\\w+: ENOENT\\)\n$`));
  }
});

kernelTest("--type takes types separated by commas, and a path may follow", needs, async () => {
  for (const args of [["--type", "proc,sysfs", "/proc"], ["-t", "sysfs", "-t", "proc", "/proc"]]) {
    const { out } = await denomount(["ls", "--json", ...args]);
    assertEquals(JSON.parse(out).map(({ mountpoint }: { mountpoint: string }) => mountpoint)[0], "/proc");
  }
});

kernelTest("colors go to a terminal only, and not with NO_COLOR; a closed reader is no error", {
  ...needs,
  tools: ["script", "unshare"],
}, async () => {
  const ls = [Deno.execPath(), "run", "--quiet", "-A", cli, "ls", "--tree", "/proc"].join(" ");
  const onTerminal = async (env: Record<string, string>) => {
    const { stdout } = await new Deno.Command("script", { args: ["-qec", ls, "/dev/null"], env }).output();
    return new TextDecoder().decode(stdout);
  };
  const COLOR = "\x1b[";
  assertStringIncludes(await onTerminal({ NO_COLOR: "" }), COLOR);
  assert(!(await onTerminal({ NO_COLOR: "1" })).includes(COLOR));
  const inPipe = new Deno.Command("sh", { args: ["-c", ls], env: { NO_COLOR: "" } });
  assert(!new TextDecoder().decode((await inPipe.output()).stdout).includes(COLOR));
  const closedReader = `set -o pipefail; for i in 1 2 3; do ${ls} || exit; done | true`;
  assertEquals((await new Deno.Command("bash", { args: ["-c", closedReader] }).output()).code, 0);
});

/** Runs the command with its standard output redirected by a shell. */
async function withOutput(redirection: string, args: string[], cwd: string) {
  const command = [Deno.execPath(), "run", "--quiet", "-A", cli, ...args];
  const { code, stderr } = await new Deno.Command("bash", {
    args: ["-c", `"$@" ${redirection}`, "bash", ...command],
    cwd,
  }).output();
  return { code, err: new TextDecoder().decode(stderr) };
}

kernelTest("up unmounts the list if it can't print the mountpoints", needs, async (t) => {
  const target = t.make("target");
  const full = await withOutput("> /dev/full", ["up", listFile(t), target], t.dir);
  assertEquals([full.code, t.mounts()], [1, []], full.err);
  assertMatch(full.err, /^denomount: cannot write to standard output: No space left .*\n$/);
  const closed = start(["up", listFile(t), target], t.dir);
  await Promise.all([closed.stdin.close(), closed.stdout.cancel()]);
  const [{ code }, stderr] = await Promise.all([closed.status, new Response(closed.stderr).text()]);
  assertEquals([code, t.mounts()], [1, []]);
  assertMatch(stderr, /^denomount: cannot write to standard output: Broken pipe .*\n$/);
});

kernelTest("loop attach detaches the device if it can't print it", { ...needs, root: true }, async (t) => {
  Deno.writeFileSync(`${t.dir}/image`, new Uint8Array(1 << 16));
  const { code, err } = await withOutput("> /dev/full", ["loop", "attach", `${t.dir}/image`], t.dir);
  assertEquals([code, await loopDevicesLeft(t.dir)], [1, []], err);
  assertMatch(err, /^denomount: cannot write to standard output: No space left .*\n$/);
});

kernelTest("a command that changes nothing fails if it can't print, with one line", needs, async (t) => {
  for (const args of [["ls"], ["lookup", "/proc"], ["doctor"], ["completions", "bash"], ["manual"]]) {
    const { code, err } = await withOutput("> /dev/full", args, t.dir);
    assertEquals(code, 1, args.join(" "));
    assertMatch(err, /^denomount: cannot write to standard output: No space left .*\n$/);
  }
});

kernelTest("umount prints what keeps the mount busy, a line for each", needs, async (t) => {
  const target = t.make("target");
  assertEquals((await denomount(["up", listFile(t), target])).code, 0);
  Deno.mkdirSync(`${target}/odd\x1bname`);
  {
    using _held = Deno.openSync(`${target}/odd\x1bname`);
    for (const options of [[], ["--all"], ["--recursive"]]) {
      const { code, err } = await denomount(["umount", "--timeout", "0", ...options, target]);
      assertEquals(code, 32);
      const [first, second, ...rest] = err.split("\n");
      assertEquals([first, rest], [`denomount: ${target} is in use (umount2: EBUSY)`, [""]]);
      const path = `${target}/odd\\033name`;
      assertStringIncludes(second ?? "", ` (pid ${Deno.pid}): open file ${path} (descriptor `);
    }
  }
  assertEquals((await denomount(["umount", target])).code, 0);
});
