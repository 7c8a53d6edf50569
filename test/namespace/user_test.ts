import { createUserNamespace, type IdMapping, parseIdMappings, userNamespaceOf } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { isErrno } from "../../ffi/errno.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { linkText, names, readText } from "../kernel.ts";

const library = new URL("../../", import.meta.url).href;
const PID_MAX_LIMIT = 2 ** 22; // linux/threads.h
const inode = (fd: number) => linkText(`/proc/self/fd/${fd}`);
const range = (containerId: number, hostId: number, size: number): IdMapping => ({
  containerId,
  hostId,
  size,
});

/** The id map of a namespace, as read by a process in it. */
async function mapOf(fd: number, file: "uid_map" | "gid_map"): Promise<string> {
  const args = [`--user=/proc/${Deno.pid}/fd/${fd}`, "--preserve-credentials", "cat", `/proc/self/${file}`];
  const { stdout } = await new Deno.Command("nsenter", { args }).output();
  return new TextDecoder().decode(stdout).trim().split("\n").map((line) => line.trim().split(/\s+/).join(":"))
    .join(",");
}

const methods: [string, () => Disposable][] = [
  ["from the pidfd", () => ({ [Symbol.dispose]() {} })],
  ["from /proc", () => pretendMissing("pidfdNamespaces")],
];

for (const [method, select] of methods) {
  kernelTest(`createUserNamespace() makes a namespace with the given maps, ${method}`, {
    root: true,
    tools: ["nsenter"],
  }, async () => {
    using _ = select();
    const uids = "0:100000:1000,1000:300000:1,2000:200000:500";
    const gids: IdMapping[] = [{ containerId: 0, hostId: 400000, size: 65536 }, {
      containerId: 70000,
      hostId: 1,
      size: 9,
    }];
    using userns = await createUserNamespace(uids, gids);
    assertMatch(inode(userns.fd) ?? "", /^user:\[\d+\]$/);
    assertEquals(await mapOf(userns.fd, "uid_map"), uids);
    assertEquals(await mapOf(userns.fd, "gid_map"), "0:400000:65536,70000:1:9");
    using another = await createUserNamespace(uids, gids);
    assert(inode(another.fd) !== inode(userns.fd), "each call makes a new namespace");
  });

  kernelTest(
    `userNamespaceOf() opens the namespace of the process, ${method}`,
    { tools: ["unshare"] },
    async () => {
      using _ = select();
      {
        using mine = await userNamespaceOf(Deno.pid);
        assertEquals(inode(mine.fd), linkText("/proc/self/ns/user"));
      }
      const args = ["--user", "sh", "-c", "echo; read _"];
      await using child = new Deno.Command("unshare", { args, stdin: "piped", stdout: "piped" }).spawn();
      const reader = child.stdout.getReader();
      await reader.read();
      {
        using its = await userNamespaceOf(child.pid);
        assertEquals(inode(its.fd), linkText(`/proc/${child.pid}/ns/user`));
        assert(inode(its.fd) !== linkText("/proc/self/ns/user"));
      }
      await reader.cancel();
      await child.stdin.close();
      await child.status;
      const error = await assertRejects(() => userNamespaceOf(PID_MAX_LIMIT + 1), Error);
      assert(isErrno(error, "ESRCH"), error.message);
    },
  );

  kernelTest(`a user can map one id, ${method}`, { tools: ["nsenter"] }, async () => {
    using _ = select();
    using userns = await createUserNamespace("5:0:1", [range(7, 0, 1)]);
    assertEquals([await mapOf(userns.fd, "uid_map"), await mapOf(userns.fd, "gid_map")], ["5:0:1", "7:0:1"]);
  });
}

kernelTest("createUserNamespace() takes maps of 340 ranges, and all ids", {
  root: true,
  tools: ["nsenter"],
}, async () => {
  const longest = Array.from({ length: 340 }, (_, index) => range(index * 2, index * 2, 1));
  const highest = "0:0:4294967295"; // all but -1
  using userns = await createUserNamespace(longest, highest);
  assertEquals(parseIdMappings(await mapOf(userns.fd, "uid_map")), longest);
  assertEquals(await mapOf(userns.fd, "gid_map"), highest);
});

/** Runs a program that makes namespaces, and parses the JSON that it prints. */
async function runChild(
  t: KernelContext,
  program: string,
  shell = 'exec "$@"',
): Promise<Record<string, unknown>> {
  Deno.writeTextFileSync(`${t.dir}/child.ts`, program);
  const deno = [Deno.execPath(), "run", "--quiet", "-A", "--no-config", `${t.dir}/child.ts`];
  const { code, stdout, stderr } = await new Deno.Command("sh", { args: ["-c", shell, "sh", ...deno] })
    .output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  return JSON.parse(new TextDecoder().decode(stdout));
}

const head = `
  import { createUserNamespace } from "${library}mod.ts";
  import { linkText, names, readText } from "${library}test/kernel.ts";
  const MAP = "0:100000:65536";
  const SIGCHLD = 17, SIG_IGN = 1n;
  const inode = (fd: number) => linkText("/proc/self/fd/" + fd);
  const { symbols: libc } = Deno.dlopen("libc.so.6", {
    setpgid: { parameters: ["i32", "i32"], result: "i32" },
    signal: { parameters: ["i32", "usize"], result: "usize" },
  });
  const pause = (milliseconds?: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const ignored = () => (BigInt("0x" + /SigIgn:\\s*(\\w+)/.exec(readText("/proc/self/status")!)![1]) >> 16n & 1n) === 1n;
  /** The number of children of all threads, zombies included. */
  const children = () =>
    names("/proc").filter((name) => /^\\d/.test(name)).map((pid) => readText("/proc/" + pid + "/stat") ?? "")
      .filter((stat) => Number(/.*\\) \\S (\\d+)/s.exec(stat)?.[1]) === Deno.pid).length;
`;

kernelTest(
  "without the capability to map ids, the error is the kernel's, and no descriptor or child is left",
  { tools: ["unshare"], permissions: { run: true } },
  async (t) => {
    const program = `${head}
      await createUserNamespace("0:0:1", "0:0:1").then((userns) => userns.close());
      const files = names("/proc/self/fd").length;
      const { code, path } = await createUserNamespace("0:0:1", MAP).catch((error) => error);
      console.log(JSON.stringify({ code, path, files: names("/proc/self/fd").length - files, children: children() }));`;
    assertEquals(await runChild(t, program, 'exec unshare --user --map-root-user "$@"'), {
      code: "EPERM",
      path: "gid_map",
      files: 0,
      children: 0,
    });
  },
);

// Waits for any child in a loop, on a worker's thread, until the first shared number is set.
const reaper = `
  const { symbols: libc } = Deno.dlopen("libc.so.6", {
    waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  });
  self.onmessage = ({ data: { shared, index, flags } }) => {
    const status = new Uint8Array(4);
    self.postMessage("ready");
    while (Atomics.load(shared, 0) === 0) {
      if (libc.waitpid(-1, status, flags) > 0) Atomics.add(shared, index, 1);
    }
    self.postMessage("done");
  };`;

const many = (ignoring: boolean) =>
  `${head}
  let signals = 0;
  if (${ignoring}) libc.signal(SIGCHLD, SIG_IGN);
  else Deno.addSignalListener("SIGCHLD", () => signals++);
  const shared = new Int32Array(new SharedArrayBuffer(12));
  const reapers = [0, 0x40000000 /* __WALL */].map((flags, index) => {
    const url = "data:text/javascript," + encodeURIComponent(${JSON.stringify(reaper)});
    const worker = new Worker(url, { type: "module" });
    const said = () => new Promise((resolve) => worker.onmessage = resolve);
    const ready = said();
    worker.postMessage({ shared, index: index + 1, flags });
    return { ready, said };
  });
  for (const { ready } of reapers) await ready;
  let distinct = 200;
  for (let round = 0; round < 50 && shared[2] === 0; round++) { // until a reaper took a child, mostly in the first round
    const made = await Promise.all(Array.from({ length: 200 }, () => createUserNamespace(MAP, MAP)));
    const inodes = made.map(({ fd }) => inode(fd)).filter((text) => text?.startsWith("user:["));
    distinct = Math.min(distinct, new Set(inodes).size);
    for (const userns of made) userns.close();
  }
  await pause(20); // the event loop delivers signals
  const done = reapers.map(({ said }) => said());
  Atomics.store(shared, 0, 1);
  await Promise.all(done);
  const [, taken, reaped] = shared;
  const found = { distinct, ignored: ignored(), taken, reaped: reaped! > 0, signals, children: children() };
  console.log(JSON.stringify(found));
  Deno.exit();`;

for (const ignoring of [false, true]) {
  const what = ignoring ? ", with SIGCHLD ignored" : "";
  kernelTest(`200 concurrent namespaces are distinct while other threads reap every child${what}`, {
    root: true,
    permissions: { run: true },
  }, async (t) => {
    // A wait with __WALL may reap the children: they are no longer needed.
    const found = { distinct: 200, ignored: ignoring, taken: 0, reaped: true, signals: 0, children: 0 };
    assertEquals(await runChild(t, many(ignoring)), found);
  });
}

kernelTest("namespaces made on several threads at once are distinct", {
  root: true,
  permissions: { run: true },
}, async (t) => {
  const program = `${head}
    if (self.name === "maker") {
      const made = [];
      for (let index = 0; index < 100; index++) made.push(await createUserNamespace(MAP, MAP));
      self.postMessage(made.map(({ fd }) => inode(fd)));
    } else {
      const workers = Array.from({ length: 4 }, () => new Worker(import.meta.url, { type: "module", name: "maker" }));
      const made = await Promise.all(workers.map((worker) =>
        new Promise<string[]>((resolve) => worker.onmessage = ({ data }) => resolve(data))
      ));
      console.log(JSON.stringify({ distinct: new Set(made.flat()).size, children: children() }));
      Deno.exit();
    }`;
  assertEquals(await runChild(t, program), { distinct: 400, children: 0 });
});

kernelTest("if /proc belongs to another PID namespace, no other process's maps are written", {
  root: true,
  tools: ["unshare"],
  permissions: { run: true },
}, async (t) => {
  const args = ["--user", "sh", "-c", "echo; read _"];
  await using other = new Deno.Command("unshare", { args, stdin: "piped", stdout: "piped" }).spawn();
  const reader = other.stdout.getReader();
  await reader.read();
  const program = `${head}
    // The next process of this PID namespace gets the pid of the other process.
    Deno.writeTextFileSync("/proc/sys/kernel/ns_last_pid", "${other.pid - 1}");
    const made = await createUserNamespace(MAP, MAP).then((userns) => inode(userns.fd), () => "refused");
    console.log(JSON.stringify({ made }));`;
  const { made } = await runChild(t, program, 'exec unshare --pid --fork "$@"');
  assertMatch(`${made}`, /^(user:\[\d+\]|refused)$/);
  assertEquals(readText(`/proc/${other.pid}/uid_map`), "");
  await reader.cancel();
  await other.stdin.close();
  await other.status;
});

kernelTest("10,000 namespaces leave no descriptor, no zombie and no memory", {
  root: true,
  permissions: { run: true },
}, async (t) => {
  const program = `${head}
    const make = async (count: number) => {
      for (let index = 0; index < count; index++) (await createUserNamespace(MAP, MAP)).close();
    };
    const memory = () => Number(/VmRSS:\\s*(\\d+)/.exec(readText("/proc/self/status") ?? "")?.[1]);
    await make(1000);
    const before = { files: names("/proc/self/fd").length, threads: names("/proc/self/task").length, memory: memory() };
    await make(9000);
    console.log(JSON.stringify({
      files: names("/proc/self/fd").length - before.files,
      threads: names("/proc/self/task").length - before.threads,
      megabytes: (memory() - before.memory) / 1024,
      children: children(),
    }));`;
  const { megabytes, ...left } = await runChild(t, program);
  assertEquals(left, { files: 0, threads: 0, children: 0 });
  assert(Number(megabytes) < 16, `${megabytes} MB more`);
});

/** The processes with this text in their command line; a child that shares its parent's memory has the parent's. */
function running(argument: string): string[] {
  return names("/proc").filter((name) =>
    /^\d+$/.test(name) && readText(`/proc/${name}/cmdline`)?.includes(argument)
  );
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Stops a process while it has a sleeping child, and returns the child's pid. Retries, because the child lives briefly. */
async function stopBesideSleeper(process: Deno.ChildProcess, argument: string): Promise<string> {
  for (let attempt = 0; attempt < 1000; attempt++) {
    process.kill("SIGSTOP");
    await pause(2);
    const found = running(argument).find((name) =>
      readText(`/proc/${name}/stat`)?.includes(`) S ${process.pid} `)
    );
    if (found !== undefined) return found;
    process.kill("SIGCONT");
    await pause(1);
  }
  throw new Error(`process ${process.pid} was never seen with a child`);
}

/** The signals that a process does not block, without those that can't be blocked and those that libc reserves. */
function unblocked(pid: string): bigint {
  const blocked = BigInt(`0x${/SigBlk:\s*(\w+)/.exec(readText(`/proc/${pid}/status`) ?? "")?.[1]}`);
  const never = [9, 19, 32, 33, 34].reduce((bits, signal) => bits | 1n << BigInt(signal - 1), 0n);
  return ~(blocked | never) & 2n ** 64n - 1n;
}

kernelTest("a process killed at any time leaves no file, and no child for longer than four seconds", {
  root: true,
  permissions: { run: true },
}, async (t) => {
  Deno.writeTextFileSync(
    `${t.dir}/child.ts`,
    `${head} console.log("ready"); for (;;) (await createUserNamespace(MAP, MAP)).close();`,
  );
  const args = ["run", "--quiet", "-A", "--no-config", `${t.dir}/child.ts`];
  for (let round = 0; round < 12; round++) {
    const options = { args, cwd: t.dir, env: { TMPDIR: t.dir }, stdout: "piped" } as const;
    await using child = new Deno.Command(Deno.execPath(), options).spawn();
    const reader = child.stdout.getReader();
    await reader.read();
    await pause(round * 3);
    const sleeper = round >= 10 ? await stopBesideSleeper(child, t.dir) : undefined;
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
    if (sleeper === undefined) continue;
    assert(running(t.dir).includes(sleeper), "the child outlives its parent");
    assertEquals(unblocked(sleeper), 0n);
  }
  const deadline = Date.now() + 4000; // the sleepers sleep for three seconds
  while (running(t.dir).length > 0 && Date.now() < deadline) await pause(100);
  assertEquals(running(t.dir), []);
  assertEquals(names(t.dir), ["child.ts"]); // the harness checks /tmp
});

kernelTest("signals to the process group reach the process and no child of createUserNamespace()", {
  root: true,
  notEmulated: "signals arrive faster than the emulated processor handles them",
  permissions: { run: true },
}, async (t) => {
  const program = `${head}
    const blocked = () => /SigBlk.*/.exec(readText("/proc/thread-self/status")!)![0];
    const before = blocked();
    libc.setpgid(0, 0);
    let signals = 0;
    Deno.addSignalListener("SIGUSR1", () => signals++);
    // Some thousand signals a second: with more, the process would only handle signals.
    const pauseLoop = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); done";
    const args = ["-c", \`trap "" USR1; while kill -USR1 0; do \${pauseLoop}; done\`];
    const storm = new Deno.Command("sh", { args, stderr: "null" }).spawn();
    const seen = new Set<string | undefined>();
    while (signals < 50 || seen.size < 300) {
      for (let index = 0; index < 50; index++) {
        const userns = await createUserNamespace(MAP, MAP);
        seen.add(inode(userns.fd));
        userns.close();
      }
      await pause();
    }
    storm.kill();
    await storm.status;
    console.log(JSON.stringify({ blocked: blocked() === before, children: children() }));
    Deno.exit(0);`;
  assertEquals(await runChild(t, program), { blocked: true, children: 0 });
});
