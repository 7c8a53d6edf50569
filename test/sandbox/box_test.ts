import { assert, assertEquals, assertMatch, assertRejects } from "../assert.ts";
import { sandbox } from "../../linux/sandbox/mod.ts";
import { kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";
import { sandboxTest } from "./users.ts";

sandboxTest("a command has no rights, and nothing of its parent but three descriptors", {}, async (t) => {
  const [status, environ, fds, session, pids] = await t.run(`
    await using box = await sandbox();
    say((await sh(box, "cat /proc/self/status")).out);
    say((await sh(box, "tr '\\\\0' '\\\\n' < /proc/self/environ")).out);
    say((await sh(box, "ls /proc/$$/fd; cat /dev/stdin")).out);
    say((await sh(box, "ps -o pid=,sid=,tty= -p $$; echo $$; (exec 2>&1; : < /dev/tty)")).out);
    say((await sh(box, "ls -d /proc/[0-9]*; cat /proc/1/environ; readlink /proc/1/fd/*; ls /proc/1/root/ /proc/1/cwd/")).out);
  `);
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
    assertMatch(status, new RegExp(`^${set}:\t0+$`, "m"));
  }
  assertMatch(status, /^NoNewPrivs:\t1$/m);
  assertMatch(status, new RegExp(`^Uid:\t${t.uid}\t`, "m")); // their own id, as outside
  assertMatch(environ, /^PATH=\/usr\/bin:\/bin$/m);
  assert(!environ.includes("SECRET_TOKEN"), environ);
  assertEquals(fds.trim().split(/\s+/), ["0", "1", "2"]);
  const [pid, sid, terminal, own] = session.trim().split(/\s+/);
  assertEquals([pid, terminal], [sid, "?"]);
  assertEquals(own, pid);
  assertMatch(session, /No such device or address/); // no controlling terminal: no TIOCSTI
  assertEquals(pids.trim().split("\n").filter((line: string) => line !== "/proc/1").length, 1);
});

sandboxTest(
  "what is not asked for is not in a box: network, names, processes, writable places",
  {},
  async (t) => {
    t.make("data");
    Deno.writeTextFileSync(`${t.dir}/data/file`, "host");
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    try {
      const [out] = await t.run(`
      await using box = await sandbox({ readonly: [dir + "/data"], hostname: "in-the-box" });
      say(await sh(box, \`
        echo x > ${t.dir}/data/file; echo x > /etc/escape; echo x > /usr/escape; mkdir /escape
        echo x > /run/own && echo x > /tmp/own && echo own; hostname; ls /run /tmp
        (exec 3<>/dev/tcp/127.0.0.1/${port}) 2>/dev/null; ls /sys/class/net >/dev/null; cat /proc/net/dev | grep -c :
        cat ${t.dir}/data/file; ls -A /dev; df /dev/shm | tail -1; grep ' / / ' /proc/self/mountinfo
      \`));
    `);
      assertMatch(out.out, /^own\nin-the-box\n\/run:\nown\n\n\/tmp:\n(denomount-test-\w+\n)?own\n/);
      assertEquals(out.err.match(/Read-only file system/g)?.length, 4, out.err);
      assertMatch(out.out, /\n1\nhost/); // one interface, lo
      assertMatch(out.out, /\n\d+ \d+ \S+ \/ \/ ro,nosuid,nodev/);
    } finally {
      listener.close();
    }
    assertEquals(Deno.readTextFileSync(`${t.dir}/data/file`), "host");
  },
);

sandboxTest(
  "commands of one box run one after the other and at once, and share its places",
  {},
  async (t) => {
    const [codes, shared, both, hello, status, tree, pts] = await t.run(`
    await using box = await sandbox();
    say(await Promise.all(Array.from({ length: 20 }, async (_, code) => (await sh(box, "exit " + code)).code)));
    await sh(box, "echo shared > /tmp/file");
    say((await sh(box, "cat /tmp/file")).out);
    const sleeper = box.spawn("sleep", { args: ["60"] });
    say((await sh(box, "ps -o comm= ax | grep -c sleep")).out);
    const child = box.spawn("cat", { stdin: "piped", stdout: "piped" });
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode("hello"));
    await writer.close();
    say(new TextDecoder().decode((await child.output()).stdout));
    sleeper.kill("SIGUSR1");
    say([await sleeper.status, (await sh(box, "kill -SEGV $$")).code]);
    const tree = box.spawn("sh", { args: ["-c", "sleep 60 & sleep 60"], stdout: "piped" });
    await new Promise((resolve) => setTimeout(resolve, 100));
    tree.kill();
    say(new TextDecoder().decode((await tree.output()).stdout)); // it ends, for no process holds the pipe

    say((await sh(box, "script -qec 'tty; id -u' /dev/null")).out);
  `);
    assertEquals(codes, Array.from({ length: 20 }, (_, code) => code));
    assertEquals([shared, both.trim(), hello], ["shared\n", "1", "hello"]);
    assertEquals(tree, "");
    assertEquals(status, [{ success: false, code: 138, signal: "SIGUSR1" }, 139]);
    assertMatch(pts, /^\/dev\/pts\/0\r\n/);
  },
);

sandboxTest("a command that can't be executed says why, and a signal ends one", {}, async (t) => {
  const answers = await t.run(`
    await using box = await sandbox({ env: { PATH: "/usr/bin" } });
    const fail = async (...spawn) => {
      try { await box.spawn(...spawn).status; } catch (error) { say([error.name, error.code, error.message]); }
    };
    await fail("/no/such/program");
    await fail("no-such-program");
    await fail("/etc/passwd");
    await fail("true", { cwd: "/no/such/directory" });
    const signal = AbortSignal.timeout(100);
    say((await box.spawn("sleep", { args: ["60"], signal }).status).signal);
    await box.close();
    try { box.spawn("true"); } catch (error) { say([error.name, error.code, error.message]); }
  `);
  assertEquals(answers.map((answer) => answer[1]), ["ENOENT", "ENOENT", "EACCES", "ENOENT", "I", "EPIPE"]);
  assertEquals(
    answers[1][2],
    "the command no-such-program can't be started in the box: no such program in /usr/bin (execve: ENOENT)",
  );
  assertEquals(answers[5][2], "the box has ended");
});

sandboxTest("what outlives its parent in a box is waited for, and ends with the box", {}, async (t) => {
  const [zombies, pid] = await t.run(`
    const box = await sandbox();
    await sh(box, "for i in 1 2 3 4 5 6 7 8 9; do (true &) ; done; (sleep 1000 >/dev/null 2>&1 &)");
    await new Promise((resolve) => setTimeout(resolve, 100));
    say((await sh(box, "ps -o stat= ax | grep -c Z")).out);
    say(box.pid);
    await box.close();
  `);
  assertEquals(zombies.trim(), "0");
  assert(!names("/proc").includes(`${pid}`));
});

sandboxTest(
  "sockets of this machine's services are out of reach unless they are named, and the network if it is asked for",
  {},
  async (t) => {
    Deno.chmodSync(t.dir, 0o777);
    const path = `${t.dir}/socket`;
    const service = Deno.listen({ transport: "unix", path });
    Deno.chmodSync(path, 0o777);
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    try {
      const answers = await t.run(`
      const code = \`for (const to of [{ transport: "unix", path: "${path}" }, { hostname: "127.0.0.1", port: ${port} }]) {
        console.log(await Deno.connect(to).then(() => "connected", (error) => error.name));
      }\`;
      for (const options of [{ readonly: [dir] }, { readonly: [dir, "${path}"], network: true }]) {
        await using box = await sandbox(options);
        say(await sh(box, "DENO_DIR=/tmp exec " + Deno.execPath() + " eval '" + code + "'"));
      }
    `);
      assertEquals(answers.map(({ out, err }) => out + err), [
        "PermissionDenied\nConnectionRefused\n",
        "connected\nconnected\n",
      ]);
    } finally {
      service.close();
      listener.close();
    }
  },
);

kernelTest("without the permission to run its programs, a box is refused without a prompt", {
  features: ["mountSetattr", "openat2"],
  tools: ["unshare"],
}, async () => {
  const error = await assertRejects(async () => {
    await using box = await sandbox();
    box.spawn("true");
  }, Deno.errors.NotCapable);
  assertMatch(error.message, /^Requires run access to ".*\/sh", run again with the --allow-run flag$/);
});
