import { SyscallError } from "../../ffi/errno.ts";
import { runHelper, safePath } from "../../linux/path/program.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { names, readText } from "../kernel.ts";
import { Timers } from "./timers.ts";

const needs = { tools: ["sh"], permissions: { run: true, env: true } as Deno.PermissionOptionsObject };

/** A shell script as a helper. */
function script(t: KernelContext, text: string): string {
  const path = `${t.dir}/helper`;
  Deno.writeTextFileSync(path, `#!/bin/sh\n${text}\n`);
  Deno.chmodSync(path, 0o755);
  return path;
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !condition(); i++) await new Promise((done) => setTimeout(done, 10));
  assert(condition());
}

/** Whether a process runs; a zombie, which its parent has not waited for, does not. */
const isRunning = (pid: string) => /^State:\t[^Z]/m.test(readText(`/proc/${pid || "none"}/status`) ?? "");

/** All of them: openFiles() leaves out those of processes. */
const descriptors = () => names("/proc/self/fd");

kernelTest("a helper that does not end in time is killed", needs, async (t) => {
  const helper = script(t, `echo $$ > ${t.dir}/pid; exec sleep 60`);
  const read = () => names(t.dir).includes("pid") ? Deno.readTextFileSync(`${t.dir}/pid`).trim() : "";
  const error = await assertRejects(() => runHelper(helper, [], { timeout: 300 }), SyscallError);
  assertEquals([error.syscall, error.code], [helper, "ETIMEDOUT"]);
  assert(read() !== "", "it has started");
  await until(() => !isRunning(read()));

  Deno.removeSync(`${t.dir}/pid`);
  const controller = new AbortController();
  const running = runHelper(helper, [], { timeout: Infinity, signal: controller.signal });
  await until(() => read() !== "");
  controller.abort(new RangeError("mine"));
  await assertRejects(() => running, RangeError, "mine");
  await until(() => !isRunning(read()));
});

kernelTest("what a helper has started is killed with it", needs, async (t) => {
  const pids = (name: string) =>
    names(t.dir).includes(name) ? Deno.readTextFileSync(`${t.dir}/${name}`).trim() : "";
  const started = ["orphan", "daemon", "below"]; // an orphan of its group, a session of its own, and a child there
  const helper = script(
    t,
    `cd ${t.dir}
    (sleep 60 & echo $! > orphan)
    setsid sh -c 'echo $$ > daemon; sleep 60 & echo $! > below; wait' &
    exec sleep 60`,
  );
  const controller = new AbortController();
  const running = runHelper(helper, [], { timeout: Infinity, signal: controller.signal });
  await until(() => started.every((name) => isRunning(pids(name))));
  const before = descriptors();
  controller.abort(new RangeError("mine"));
  await assertRejects(() => running, RangeError, "mine");
  assertEquals(descriptors().length <= before.length, true, "descriptors of processes are closed");
  await until(() => !started.some((name) => isRunning(pids(name))));
});

kernelTest("a helper without a timeout may take its time", needs, async (t) => {
  const helper = script(t, "echo done");
  using timers = new Timers();
  assertEquals(await runHelper(helper, []), { code: 0, said: "done", output: "done" });
  await runHelper(helper, [], { timeout: 5000 });
  assertEquals(timers.times.filter((ms = 0) => ms > 1000), [5000]);
});

kernelTest("a helper gets its arguments, trusted directories and English", needs, async (t) => {
  t.make("bin");
  const [path, language] = [Deno.env.get("PATH"), Deno.env.get("LC_ALL")];
  try {
    Deno.env.set("PATH", `relative:.:${t.dir}/bin:/usr/bin`);
    Deno.env.set("LC_ALL", "de_DE.UTF-8");
    const { code, said } = await runHelper(script(t, 'echo "$PATH $LC_ALL $*"; exit 3'), ["a b", "c"]);
    assertEquals([code, said], [3, `${t.dir}/bin:/usr/bin:/usr/sbin:/sbin:/bin C a b c`]);
  } finally {
    for (const [name, value] of [["PATH", path], ["LC_ALL", language]] as const) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  }
});

kernelTest("entries of PATH that lead nowhere are skipped", needs, async (t) => {
  Deno.writeTextFileSync(`${t.dir}/file`, "");
  Deno.symlinkSync("circle", `${t.dir}/circle`);
  const entries = [`${t.dir}/file/bin`, `${t.dir}/circle`, `${t.dir}/none`, `/${"long".repeat(100)}`];
  const path = Deno.env.get("PATH");
  try {
    Deno.env.set("PATH", `${entries.join(":")}:/usr/bin`);
    assert(safePath().includes("/usr/bin"));
    assertEquals(await runHelper(script(t, "true"), []), { code: 0, said: "", output: "" });
  } finally {
    if (path === undefined) Deno.env.delete("PATH");
    else Deno.env.set("PATH", path);
  }
});

kernelTest("a helper's message is its stderr, or its stdout if that is empty", needs, async (t) => {
  assertEquals(
    (await runHelper(script(t, "echo out; echo first >&2; echo last >&2"), [])).said,
    "first\nlast",
  );
  assertEquals((await runHelper(script(t, "echo out"), [])).said, "out");
  const long = await runHelper(script(t, "head -c 10000000 /dev/zero | tr '\\\\0' x"), []);
  assert(long.said.length >= 65536 && long.said.length < 1_000_000, `${long.said.length}`);
});

kernelTest("what comes shortly after a helper's end is read", needs, async (t) => {
  const helper = script(t, "(sleep 0.02; echo late >&2) & echo early >&2");
  let said = "";
  // On a machine that is busy, it may come too late.
  for (let tries = 0; tries < 10 && said !== "early\nlate"; tries++) {
    said = (await runHelper(helper, [])).said;
  }
  assertEquals(said, "early\nlate");
});

kernelTest("a server that a helper leaves behind is not waited for", needs, async (t) => {
  const start = performance.now();
  assertEquals(await runHelper(script(t, "sleep 3 & echo started"), []), {
    code: 0,
    said: "started",
    output: "started",
  });
  assert(performance.now() - start < 2000);
});

kernelTest("a program that can't be started is an error with its path", needs, async (t) => {
  Deno.writeTextFileSync(`${t.dir}/helper`, "no program");
  Deno.chmodSync(`${t.dir}/helper`, 0o644);
  for (const [program, code] of [[`${t.dir}/none`, "ENOENT"], [`${t.dir}/helper`, "EACCES"]] as const) {
    const error = await assertRejects(() => runHelper(program, []), SyscallError);
    assertEquals([error.syscall, error.code, error.path], ["execve", code, program]);
  }
});

kernelTest("a helper works if SIGCHLD is ignored", needs, async (t) => {
  const helper = script(t, "echo done");
  Deno.writeTextFileSync(
    `${t.dir}/program.ts`,
    `import { runHelper } from ${
      JSON.stringify(new URL("../../linux/path/program.ts", import.meta.url).href)
    };
    const { symbols } = Deno.dlopen("libc.so.6", { signal: { parameters: ["i32", "usize"], result: "usize" } });
    await runHelper(${JSON.stringify(helper)}, []); // the runtime sets its own handler for the first child
    symbols.signal(17, 1n); // SIGCHLD, SIG_IGN
    console.log(JSON.stringify(await runHelper(${JSON.stringify(helper)}, [])));`,
  );
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", "--no-config", `${t.dir}/program.ts`],
  }).output();
  assertEquals(
    new TextDecoder().decode(stdout).trim(),
    '{"said":"done","output":"done"}',
    new TextDecoder().decode(stderr),
  );
});
