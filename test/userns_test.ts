import { createUserNamespace, type IdMapping, parseIdMappings, userNamespaceOf } from "../mod.ts";
import { pretendMissing } from "../linux/features.ts";
import { isErrno } from "../ffi/errno.ts";
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "./assert.ts";
import { type KernelContext, kernelTest } from "./harness.ts";
import { linkText, names, readText } from "./kernel.ts";

const library = new URL("../", import.meta.url).href;
const inode = (fd: number) => linkText(`/proc/self/fd/${fd}`);

/** The id map of a namespace, as a process in it reads it. */
async function mapOf(fd: number, file: "uid_map" | "gid_map"): Promise<string> {
  const args = [`--user=/proc/${Deno.pid}/fd/${fd}`, "--preserve-credentials", "cat", `/proc/self/${file}`];
  const { stdout } = await new Deno.Command("nsenter", { args }).output();
  return new TextDecoder().decode(stdout).trim().split("\n").map((line) => line.trim().split(/\s+/).join(":"))
    .join(",");
}

const ways: [string, () => Disposable][] = [
  ["from the pidfd", () => ({ [Symbol.dispose]() {} })],
  ["from /proc", () => pretendMissing("pidfdNamespaces")],
];

for (const [way, using] of ways) {
  kernelTest(`a user namespace has the maps that were asked for, ${way}`, {
    root: true,
    tools: ["nsenter"],
  }, async () => {
    using _ = using();
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
    assert(inode(another.fd) !== inode(userns.fd), "each is its own");
  });

  kernelTest(
    `userNamespaceOf() is the namespace of that process, ${way}`,
    { tools: ["unshare"] },
    async () => {
      using _ = using();
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
      const error = await assertRejects(() => userNamespaceOf(child.pid), Error);
      assert(isErrno(error, "ESRCH"), error.message);
    },
  );
}

kernelTest(
  "without the right to map these ids, the error is the kernel's, and nothing is left",
  {},
  async () => {
    if (readText("/proc/self/uid_map")?.includes("4294967295")) return; // root of the machine may map any
    const error = await assertRejects(() => createUserNamespace("0:100000:65536", "0:100000:65536"), Error);
    assert(isErrno(error, "EPERM"), error.message);
  },
);

/** A program that makes namespaces while other things go on in its process; it prints what came out. */
async function runChild(
  t: KernelContext,
  program: string,
  shell = 'exec "$@"',
): Promise<Record<string, number>> {
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
  const inode = (fd: number) => linkText("/proc/self/fd/" + fd);
  const { symbols: libc } = Deno.dlopen("libc.so.6", {
    waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32", nonblocking: true },
  });
  const children = () => (readText("/proc/self/task/" + Deno.pid + "/children") ?? "").trim();
`;

const many = `${head}
  let reaping = true, taken = 0;
  const reapers = [0, 0x40000000 /* __WALL */, 1 /* WNOHANG */].map(async (flags) => {
    while (reaping) {
      const pid = await libc.waitpid(-1, new Uint8Array(4), flags | 1);
      if (pid > 0 && !(flags & 0x40000000)) taken++; // who asks for clones may have them: they are no longer needed
    }
  });
  let signals = 0;
  const count = () => signals++;
  Deno.addSignalListener("SIGCHLD", count);
  const made = await Promise.all(Array.from({ length: 200 }, async () => {
    await new Promise((resolve) => setTimeout(resolve));
    return await createUserNamespace(MAP, MAP);
  }));
  reaping = false;
  await Promise.all(reapers);
  Deno.removeSignalListener("SIGCHLD", count);
  const distinct = new Set(made.map(({ fd }) => inode(fd))).size;
  const mapped = made.filter(({ fd }) => inode(fd)?.startsWith("user:[")).length;
  for (const userns of made) userns.close();
  console.log(JSON.stringify({ distinct, mapped, taken, signals, children: children() === "" ? 0 : 1 }));`;

for (
  const [what, shell] of [["", undefined], [", with SIGCHLD ignored", `trap "" CHLD; exec "$@"`]] as const
) {
  kernelTest(`200 namespaces at once beside reapers of every child are all their own${what}`, {
    root: true,
    permissions: { run: true },
  }, async (t) => {
    assertEquals(await runChild(t, many, shell), {
      distinct: 200,
      mapped: 200,
      taken: 0,
      signals: 0,
      children: 0,
    });
  });
}

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
      megabytes: Math.max(0, Math.floor((memory() - before.memory) / 1024 / 16)), // sixteens of them
      children: children() === "" ? 0 : 1,
    }));`;
  assertEquals(await runChild(t, program), { files: 0, threads: 0, megabytes: 0, children: 0 });
});

/** Processes that run this executable file. */
function running(executable: string): string[] {
  return names("/proc").filter((name) => /^\d+$/.test(name) && linkText(`/proc/${name}/exe`) === executable);
}

kernelTest("killed at any moment, it leaves no child that lives longer than some seconds, and no file", {
  root: true,
  permissions: { run: true },
}, async (t) => {
  // A copy of the executable under a name of its own tells its children from all others.
  const executable = `${t.dir}/deno`;
  Deno.copyFileSync(linkText("/proc/self/exe") ?? Deno.execPath(), executable);
  Deno.chmodSync(executable, 0o755);
  Deno.writeTextFileSync(
    `${t.dir}/child.ts`,
    `${head} console.log("ready"); for (;;) (await createUserNamespace(MAP, MAP)).close();`,
  );
  const temporary = names("/tmp");
  for (let round = 0; round < 12; round++) {
    const args = ["run", "--quiet", "-A", "--no-config", `${t.dir}/child.ts`];
    await using child = new Deno.Command(executable, { args, stdout: "piped" }).spawn();
    const reader = child.stdout.getReader();
    await reader.read();
    await new Promise((resolve) => setTimeout(resolve, round * 3 + Math.random()));
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
  }
  const deadline = Date.now() + 4000; // the sleepers sleep for three seconds
  while (running(executable).length > 0 && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assertEquals(running(executable), []);
  const own = (name: string) => name.startsWith("denomount-") && !name.startsWith("denomount-test-");
  assertEquals(names("/tmp").filter(own), temporary.filter(own));
});

kernelTest("a storm of signals reaches the process and none of its children", {
  root: true,
  permissions: { run: true },
}, async (t) => {
  const program = `${head}
    let signals = 0;
    Deno.addSignalListener("SIGUSR1", () => signals++);
    const storm = new Deno.Command("sh", {
      args: ["-c", "while kill -USR1 " + Deno.pid + "; do :; done"], stderr: "null",
    }).spawn();
    const seen = new Set<string | undefined>();
    while (signals < 50 || seen.size < 300) {
      for (let index = 0; index < 50; index++) {
        const userns = await createUserNamespace(MAP, MAP);
        seen.add(inode(userns.fd));
        userns.close();
      }
      await new Promise((resolve) => setTimeout(resolve));
    }
    storm.kill();
    await storm.status;
    console.log(JSON.stringify({ children: children() === "" ? 0 : 1 }));
    Deno.exit(0);`;
  assertEquals(await runChild(t, program), { children: 0 });
});

const range = (containerId: number, hostId: number, size: number): IdMapping => ({
  containerId,
  hostId,
  size,
});

Deno.test("maps that can't be are refused before any system call, and the bad part is named", {
  permissions: { ffi: false },
}, async () => {
  const many = Array.from({ length: 341 }, (_, index) => range(index * 2, index * 2, 1));
  const refused: [string | IdMapping[], string][] = [
    ["", '"" is no id map'],
    [[], "at least one range"],
    ["abc", '"abc" is no id map'],
    ["1:2", '"1:2" is no id map'],
    ["0:1:1,", '"" is no id map'],
    ["0:1:1,5:x:2", '"5:x:2" is no id map'],
    ["-1:0:1", '"-1:0:1" is no id map'],
    ["0:0:0", "id map 0:0:0: the range is empty"],
    ["0:0:10,9:100:5", "id map 0:0:10 and id map 9:100:5 overlap"],
    ["0:0:10,20:9:5", "id map 0:0:10 and id map 20:9:5 overlap"],
    ["0:4294967290:10", "id map 0:4294967290:10: ids end below 2^32 - 1"],
    ["4294967290:0:10", "id map 4294967290:0:10: ids end below 2^32 - 1"],
    ["0:0:99999999999999999999", "is no id"],
    [[range(-1, 0, 1)], "id map -1:0:1: -1 is no id"],
    [[range(0, NaN, 1)], "NaN is no id"],
    [[range(0, 0, 1.5)], "1.5 is no id"],
    [many, "340 ranges at most, not 341"],
  ];
  for (const [map, message] of refused) {
    await assertRejects(() => createUserNamespace(map, "0:0:1"), TypeError, message);
    await assertRejects(() => createUserNamespace("0:0:1", map), TypeError, message);
    if (typeof map === "string") assertThrows(() => parseIdMappings(map), TypeError, message);
  }
  assertEquals(parseIdMappings("0:100000:65536,65536:5:1"), [range(0, 100000, 65536), range(65536, 5, 1)]);
});
