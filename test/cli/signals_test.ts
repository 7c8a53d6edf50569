import { assertEquals } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { names, readText } from "../kernel.ts";
import { cli, exitCode, start } from "./command.ts";
import { listFile } from "./in_process.ts";

const needs = {
  tools: ["unshare"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
};
const signalsUrl = new URL("../../cli/signals.ts", import.meta.url).href;
const all = { SIGHUP: 129, SIGINT: 130, SIGQUIT: 131, SIGTERM: 143 } as const;

/** Runs code with `DeferredSignals`, `send()` and `wait()`. */
async function runCode(
  code: string,
  ...wrapper: string[]
): Promise<{ code: number; signal: string | null; out: string }> {
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  const script = `import { DeferredSignals } from ${JSON.stringify(signalsUrl)};
    const send = (signal) => Deno.kill(Deno.pid, signal);
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    ${code}`;
  try {
    await Deno.writeTextFile(file, script);
    const [program = "", ...args] = [...wrapper, Deno.execPath(), "run", "--quiet", "--no-check", "-A", file];
    const { code, signal, stdout } = await new Deno.Command(program, { args }).output();
    return { code, signal, out: new TextDecoder().decode(stdout) };
  } finally {
    await Deno.remove(file);
  }
}

kernelTest("the status is that of the first signal; each is reported", needs, async () => {
  for (const [signal, status] of Object.entries(all)) {
    const { code, out } = await runCode(`
      const seen = [];
      using signals = new DeferredSignals((signal) => seen.push(signal));
      if (await signals.status() !== undefined) Deno.exit(1);
      send("${signal}");
      while (seen.length < 1) await wait(1);
      send("${signal === "SIGTERM" ? "SIGINT" : "SIGTERM"}");
      while (seen.length < 2) await wait(1);
      console.log(seen[0]);
      Deno.exit(await signals.status());
    `);
    assertEquals([code, out], [status, `${signal}\n`]);
  }
});

kernelTest("a signal that arrived during a synchronous call is never missed", needs, async () => {
  const { code, out } = await runCode(`
    let missed = 0;
    for (let i = 0; i < 100; i++) {
      using signals = new DeferredSignals();
      send("SIGTERM");
      for (const end = performance.now() + i % 4; performance.now() < end;);
      if (await signals.status() !== 143) missed++;
    }
    console.log(missed);
  `);
  assertEquals([code, out], [0, "0\n"]);
});

kernelTest("after it is disposed, a signal ends the process again", needs, async () => {
  const ended = await runCode(`
    {
      using signals = new DeferredSignals();
    }
    await wait(50);
    send("SIGTERM");
    await wait(5000);
  `);
  assertEquals(ended.signal, "SIGTERM");
});

kernelTest(
  "a signal that is ignored at the start stays ignored, and the others are deferred",
  needs,
  async () => {
    for (const [name, ignored, other] of [["HUP", "SIGHUP", "SIGTERM"], ["INT", "SIGINT", "SIGHUP"]]) {
      const { code } = await runCode(
        `
      using signals = new DeferredSignals();
      send("${ignored}");
      await wait(100);
      if (await signals.status() !== undefined) Deno.exit(1);
      send("${other}");
      while (await signals.status() === undefined) await wait(1);
      Deno.exit(await signals.status());
    `,
        "sh",
        "-c",
        `trap "" ${name}; exec "$@"`,
        "sh",
      );
      assertEquals(code, all[other as keyof typeof all]);
    }
  },
);

kernelTest("Ctrl-C on a terminal reaches the command of run once, and run waits for it", {
  ...needs,
  tools: ["script", "perl", "setsid"],
}, async (t) => {
  const list = listFile(t.dir, [{ type: "tmpfs", source: "t", options: ["size=64k"] }]);
  const program = `${t.dir}/count.pl`;
  Deno.writeTextFileSync(
    program,
    `$n = 0; $SIG{INT} = sub { $n++; print "interrupted\\n" }; $SIG{TERM} = sub { $ends = 1 }; $| = 1;
     print "up\\n"; $end = time + 20; while (!$ends && time < $end) { select(undef, undef, undef, 0.01) }
     print "interrupts: $n\\n"; exit 9;`,
  );
  // The terminal's signal does not reach a command in a session of its own: what reaches it, run has sent.
  for (const [ownSession, answer, count] of [["", "interrupted", 1], ["setsid", "^C", 0]] as const) {
    // With `exec`, because a dash between the terminal and run would end by the same signal.
    const command =
      `exec ${Deno.execPath()} run --quiet -A ${cli} run ${list} -- ${ownSession} perl ${program}`;
    const child = new Deno.Command("script", {
      args: ["-qec", command, "/dev/null"],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    const readUntil = async (word: string) => {
      while (!text.includes(word)) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
      }
    };
    await readUntil("up");
    await writer.write(new TextEncoder().encode("\x03"));
    await readUntil(answer);
    const [pid] = (readText(`/proc/${child.pid}/task/${child.pid}/children`) ?? "").trim().split(" ");
    Deno.kill(Number(pid), "SIGTERM"); // run forwards it, after an interrupt that it would forward
    await readUntil("its end");
    assertEquals([/interrupts: \d+/.exec(text)?.[0], await exitCode(child)], [`interrupts: ${count}`, 9]);
    await writer.close().catch(() => {});
    await reader.cancel();
  }
});

kernelTest("SIGQUIT ends run and its command, and leaves nothing mounted", needs, async (t) => {
  const list = listFile(t.dir, [{ type: "tmpfs", source: "t", options: ["size=64k"] }]);
  const child = start(["run", list, "--", "sh", "-c", "ulimit -c 0; echo up; exec sleep 60"], t.dir);
  await child.stdin.close();
  const reader = child.stdout.getReader();
  await reader.read();
  const children = readText(`/proc/${child.pid}/task/${child.pid}/children`) ?? "";
  child.kill("SIGQUIT");
  assertEquals(await exitCode(child), 131);
  assertEquals(names(`/proc/${children.trim()}`), []);
  await reader.cancel();
  await child.stderr.cancel();
});

const TMPFS = { type: "tmpfs", source: "t", options: ["size=64k"] };

/** Sends a signal to the command while it mounts, and returns what becomes of it. */
async function signalWhileMounting(t: KernelContext, signal: Deno.Signal, args: string[]) {
  const child = new Deno.Command("strace", {
    args: [
      "-f",
      "-qq",
      "--seccomp-bpf",
      ...["-o", `${t.dir}/trace`, "-e", "trace=move_mount", "-e", "inject=move_mount:delay_exit=100000"],
      ...[Deno.execPath(), "run", "--quiet", "-A", cli, ...args],
    ],
    env: { TMPDIR: t.dir },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  while (t.mounts().length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const [pid] = (readText(`/proc/${child.pid}/task/${child.pid}/children`) ?? "").trim().split(" ");
  Deno.kill(Number(pid), signal);
  const { code, stdout } = await child.output();
  return { code, out: new TextDecoder().decode(stdout) };
}

for (
  const [name, args] of Object.entries({
    "up unmounts the list": (list: string, target: string) => ["up", list, target],
    "run starts no command": (list: string) => ["run", list, "--", "echo", "started"],
  })
) {
  kernelTest(
    `${name} if a signal arrives while the list is mounted, and exits with the signal's status`,
    { ...needs, tools: ["strace"] },
    async (t) => {
      const list = listFile(t.dir, [TMPFS]);
      const command = args(list, t.make("target"));
      for (const [signal, status] of Object.entries(all) as [keyof typeof all, number][]) {
        const { code, out } = await signalWhileMounting(t, signal, command);
        assertEquals([code, out, t.mounts()], [status, "", []]);
      }
    },
  );
}
