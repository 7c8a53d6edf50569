import { createUserNamespace } from "../../mod.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { SyscallError } from "../../ffi/errno.ts";
import {
  enterNamespace,
  explainNamespace,
  openNamespace,
  runInNamespace,
} from "../../linux/namespace/mount.ts";
import { UserNamespaces } from "../../linux/namespace/user.ts";
import { describeUserNamespace } from "../../linux/namespace/describe_user.ts";
import { openPidfd, signalPidfd, waitPidfd } from "../../linux/pidfd.ts";
import { O_RDONLY, open, pretendMissing, realpath } from "../../linux/mod.ts";
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { linkText, names, readText } from "../kernel.ts";
import { say } from "../use/ways.ts";

const url = (file: string) => new URL(`../../${file}`, import.meta.url).href;
const deno = ["run", "--quiet", "-A", "--no-config", "--no-check"];

const blockedSignals = () => /SigBlk.*/.exec(readText("/proc/thread-self/status") ?? "")?.[0];
const blockedAtStart = blockedSignals(); // before any test makes a user namespace

kernelTest("a pid that belongs to another process by now is refused, from /proc", {
  root: true,
  tools: ["unshare"],
  permissions: { run: true, env: true },
}, async (t) => {
  // In a PID namespace of its own, where the next pid can be chosen.
  Deno.writeTextFileSync(
    `${t.dir}/program.ts`,
    `import { namespaceOfPidfd, openPidfd, pidInProc } from "${url("linux/pidfd.ts")}";
     import { pretendMissing } from "${url("linux/mod.ts")}";
     import { linkText, names } from "${url("test/kernel.ts")}";
     using _ = pretendMissing("pidfdNamespaces");
     using self = openPidfd(Deno.pid);
     pidInProc(self); // remembers that /proc belongs to this PID namespace
     const start = (...args: string[]) => new Deno.Command("sleep", { args }).spawn();
     for (let tries = 0; tries < 50; tries++) {
       const first = start("100");
       using process = openPidfd(first.pid);
       namespaceOfPidfd(process, "user").close(); // while it lives
       first.kill("SIGKILL");
       await first.status;
       Deno.writeTextFileSync("/proc/sys/kernel/ns_last_pid", String(first.pid - 1));
       const second = start("100");
       const isSame = second.pid === first.pid;
       let result = "opened";
       try {
         namespaceOfPidfd(process, "user").close();
       } catch (error) {
         result = (error as { code: string }).code;
       }
       second.kill("SIGKILL");
       await second.status;
       if (!isSame) continue;
       const left = names("/proc/self/fd").filter((fd) => linkText("/proc/self/fd/" + fd)?.startsWith("user:"));
       console.log(result, left.length);
       Deno.exit();
     }
     console.log("the pid was never reused");`,
  );
  const args = ["--pid", "--fork", "--mount-proc", Deno.execPath(), ...deno, `${t.dir}/program.ts`];
  const { out, err } = await say("unshare", args);
  assertEquals([out.join(), err], ["ESRCH 0", ""]);
});

kernelTest(
  "the child of a user namespace is proven alive before its maps are written, then killed and reaped",
  {
    root: true,
    tools: ["strace"],
    permissions: { run: true, env: true },
  },
  async (t) => {
    Deno.writeTextFileSync(
      `${t.dir}/program.ts`,
      `import { createUserNamespace } from "${url("mod.ts")}";
     const [map] = Deno.args;
     await createUserNamespace(map, map).then((userns) => userns.close(), ({ code }) => console.log(code));`,
    );
    const calls = "trace=clone,openat,ioctl,pidfd_send_signal,write,waitid,close";
    const trace = async (map: string) => {
      const args = [
        "-qq",
        "-e",
        calls,
        "-o",
        `${t.dir}/trace`,
        Deno.execPath(),
        ...deno,
        `${t.dir}/program.ts`,
        map,
      ];
      const { out, err } = await say("strace", args);
      const lines = Deno.readTextFileSync(`${t.dir}/trace`).split("\n");
      const child = lines.findIndex((line) => line.includes("CLONE_NEWUSER"));
      const seen = lines.slice(child).flatMap((line) =>
        /(_map"|pidfd_send_signal\(\d+, \w+|waitid|write\(\d+, "0 |CLONE_\S*)/.exec(line)?.[1]?.replace(
          /\d+, /,
          "",
        ) ?? []
      );
      return {
        said: out.join() + err,
        seen: seen.map((text) => text.replace(/.*CLONE_NEWUSER.*/, "clone")),
        lines,
      };
    };
    const proven = ["clone", '_map"', '_map"', "pidfd_send_signal(0"];
    const ended = ["pidfd_send_signal(SIGKILL", "waitid"];
    const made = await trace("0:100000:10");
    assertEquals([made.said, made.seen.slice(0, 8)], ["", [...proven, 'write("0 ', 'write("0 ', ...ended]]);
    const clone = made.lines.find((line) => line.includes("CLONE_NEWUSER")) ?? "";
    assertMatch(clone, /CLONE_PIDFD/);
    assert(!/SIGCHLD/.test(clone), "the child sends no signal when it ends");
  },
);

kernelTest("a failed map leaves no descriptor and no child, and names the file", {
  features: ["mountSetattr"],
  root: true,
}, async () => {
  const before = names("/proc/self/fd").length;
  for (
    const [uid, gid, path] of [["0:0:1,0:5:1", "0:0:1", "uid_map"], [
      "0:0:1",
      "0:0:1,0:5:1",
      "gid_map",
    ]] as const
  ) {
    // Two ranges of the same id: the kernel refuses them.
    using namespaces = new UserNamespaces();
    const text = (map: string) => map.split(",").map((range) => range.replaceAll(":", " ") + "\n").join("");
    const error = assertThrows(() => namespaces.of({ uid: text(uid), gid: text(gid) }), SyscallError);
    assertEquals([error.code, error.path], ["EINVAL", path]);
    assertEquals(namespaces.known({ uid: text(uid), gid: text(gid) }), undefined);
  }
  assertEquals(names("/proc/self/fd").length, before);
  await assertRejects(() => createUserNamespace("x", "0:0:1"), TypeError);
});

kernelTest("the signal mask of this thread is the same after a user namespace is made", {}, async () => {
  await createUserNamespace("0:0:1", "0:0:1").then((userns) => userns.close(), () => {});
  assertEquals(blockedSignals(), blockedAtStart);
});

kernelTest("equal maps share a namespace, and the namespaces are closed together", {
  features: ["mountSetattr"],
  root: true,
}, () => {
  const maps = { uid: "0 1 1\n", gid: "0 2 1\n" };
  const namespaces = new UserNamespaces();
  assertEquals(namespaces.known(maps), undefined);
  const first = namespaces.of(maps);
  assert(namespaces.of({ ...maps }) === first && namespaces.known(maps) === first);
  const others = [
    namespaces.of({ uid: "0 2 1\n", gid: "0 2 1\n" }),
    namespaces.of({ uid: "0 1 1\n", gid: "0 1 1\n" }),
  ];
  const all = [first, ...others].map(({ fd }) => linkText(`/proc/self/fd/${fd}`));
  assertEquals(new Set(all).size, 3);
  namespaces[Symbol.dispose]();
  assertEquals([first, ...others].filter(({ isOpen }) => isOpen), []);
  assertEquals(namespaces.known(maps), undefined);
  using _older = pretendMissing("mountSetattr");
  assertThrows(() => namespaces.of(maps), TypeError, "Linux 5.12");
});

kernelTest(
  "waitPidfd() reaps a child, and returns if it is reaped already",
  { permissions: { run: true } },
  async () => {
    using self = openPidfd(Deno.pid);
    assertEquals(self.pid, Deno.pid);
    signalPidfd(self, 0);
    waitPidfd(self); // a process is not its own child: ECHILD
    const error = assertThrows(() => openPidfd(2 ** 22 + 1), SyscallError);
    assertEquals(error.code, "ESRCH");
    const child = new Deno.Command("sleep", { args: ["100"] }).spawn();
    using process = openPidfd(child.pid);
    signalPidfd(process, 15);
    assertEquals((await child.status).signal, "SIGTERM");
  },
);

kernelTest("a signal that interrupts waitPidfd() does not end the wait", {
  tools: ["sh"],
  permissions: { run: true, env: true },
}, async (t) => {
  Deno.writeTextFileSync(
    `${t.dir}/program.ts`,
    `import { openPidfd, waitPidfd } from "${url("linux/pidfd.ts")}";
     const { symbols: libc } = Deno.dlopen("libc.so.6", { siginterrupt: { parameters: ["i32", "i32"], result: "i32" } });
     Deno.addSignalListener("SIGUSR1", () => {});
     libc.siginterrupt(10, 1); // system calls fail with EINTR
     const args = ["-c", "sleep 0.1; kill -USR1 $0; sleep 0.1; echo slept", String(Deno.pid)];
     const child = new Deno.Command("sh", { args, stdout: "piped" }).spawn();
     using process = openPidfd(child.pid);
     waitPidfd(process);
     console.log((await new Response(child.stdout).text()).trim());
     Deno.exit();`,
  );
  const { out, err } = await say(Deno.execPath(), [...deno, `${t.dir}/program.ts`]);
  assertEquals([out.join(), err], ["slept", ""]);
});

kernelTest("if /proc belongs to another PID namespace, pidInProc() is the pid there, at every call", {
  root: true,
  tools: ["unshare"],
  permissions: { run: true, env: true },
}, async (t) => {
  Deno.writeTextFileSync(
    `${t.dir}/program.ts`,
    `import { openPidfd, pidInProc } from "${url("linux/pidfd.ts")}";
     for (let round = 0; round < 3; round++) {
       const child = new Deno.Command("sleep", { args: ["100"] }).spawn();
       using process = openPidfd(child.pid);
       const pid = pidInProc(process);
       const status = Deno.readTextFileSync("/proc/" + pid + "/status");
       console.log(Number(/^NSpid:.*\\t(\\d+)$/m.exec(status)?.[1]) === child.pid, pid !== child.pid);
       child.kill("SIGKILL");
       await child.status;
       console.log(pidInProc(process));
     }`,
  );
  const { out, err } = await say("unshare", [
    "--pid",
    "--fork",
    Deno.execPath(),
    ...deno,
    `${t.dir}/program.ts`,
  ]);
  assertEquals([out, err], [["true true", "-1", "true true", "-1", "true true", "-1"], ""]);
});

kernelTest("openNamespace() opens a namespace anew, by pid, path or descriptor", {}, async () => {
  const mine = linkText("/proc/self/ns/mnt");
  using caller = open("/proc/self/ns/mnt", O_RDONLY);
  for (const namespace of [Deno.pid, "/proc/self/ns/mnt", caller]) {
    using opened = await openNamespace(namespace);
    assertEquals(linkText(`/proc/self/fd/${opened.fd}`), mine);
    assert(opened !== caller && opened.fd !== caller.fd);
  }
  assert(caller.isOpen && linkText(`/proc/self/fd/${caller.fd}`) === mine);
  for (const pid of [0, -1, 1.5, NaN]) {
    await assertRejects(() => openNamespace(pid), TypeError, "a pid is a positive");
  }
});

kernelTest("an error of a namespace is explained, and any other error is left as it is", {}, () => {
  const explained = (syscall: string, errno: number, namespace: number | string | OwnedFd) => {
    const error = new SyscallError({ syscall, errno, path: "/p" });
    const result = explainNamespace(error, namespace);
    return result === error ? "as it was" : (result as Error).message;
  };
  assertMatch(
    explained("setns", 1, 7),
    /not permitted to join the mount namespace of process 7: it needs CAP_SYS_ADMIN/,
  );
  assertMatch(explained("open", 13, 7), /not permitted to join/);
  assertMatch(explained("open", 2, 7), /there is no process 7/);
  assertMatch(explained("open", 2, "/x/ns"), /\/x\/ns does not exist/);
  assertMatch(explained("setns", 22, "/x/ns"), /\/x\/ns is no mount namespace/);
  assertEquals(explained("setns", 24, 7), "as it was");
  assertEquals(explained("mount", 1, 7), "as it was");
  const plain = new Error("x");
  assertEquals(explainNamespace(plain, 7), plain);
});

kernelTest("runInNamespace() closes the namespace and ends its thread, also if the function fails", {
  root: true,
}, async () => {
  const open = () =>
    names("/proc/self/fd").filter((fd) => linkText(`/proc/self/fd/${fd}`)?.startsWith("mnt:")).length;
  const seen: number[] = [];
  const result = await runInNamespace(Deno.pid, async () => {
    await new Promise((done) => setTimeout(done, 5)); // the thread lives until the function is done
    realpath("/");
    return seen.push(open());
  });
  assertEquals([result, seen[0], open()], [1, 1, 0]);
  await assertRejects(
    () => runInNamespace(Deno.pid, () => Promise.reject(new Error("failed"))),
    Error,
    "failed",
  );
  await assertRejects(
    () => runInNamespace("/proc/self/ns/net", () => Promise.resolve()),
    SyscallError,
    "EINVAL",
  );
  assertEquals(open(), 0);
});

kernelTest("the features are probed before the first call in another namespace", {
  root: true,
  tools: ["unshare"],
  permissions: { run: true, env: true },
}, async (t) => {
  Deno.writeTextFileSync(
    `${t.dir}/program.ts`,
    `import { runInNamespace } from "${url("linux/namespace/mount.ts")}";
     import { kernelFeatures } from "${url("mod.ts")}";
     const child = new Deno.Command("unshare", {
       args: ["-m", "sh", "-c", "mount -t tmpfs hidden /proc && echo && exec sleep 100"],
       stdout: "piped",
     }).spawn();
     await child.stdout.getReader().read();
     const inside = await runInNamespace(child.pid, () => Promise.resolve(JSON.stringify(kernelFeatures())));
     child.kill("SIGKILL");
     console.log(inside);
     Deno.exit();`,
  );
  const { out } = await say(Deno.execPath(), [...deno, `${t.dir}/program.ts`]);
  const { kernelFeatures } = await import("../../mod.ts");
  assertEquals(JSON.parse(out.join("")), kernelFeatures());
});

kernelTest("explain() describes a user namespace once for equal maps", {
  features: ["mountSetattr"],
  root: true,
}, () => {
  const made = new Set<string>();
  const maps = { uid: "0 1 1\n", gid: "0 2 1\n" };
  const calls = describeUserNamespace(maps, made).map((call) => JSON.stringify(call));
  assertEquals(calls.length, 4);
  assertMatch(calls.join(), /clone.*CLONE_NEWUSER.*uid_map.*0 1 1.*gid_map.*0 2 1.*SIGKILL/);
  assertEquals(describeUserNamespace({ ...maps }, made), []);
  assertEquals(describeUserNamespace({ ...maps, gid: "0 1 1\n" }, made).length, 4);
  assertMatch(JSON.stringify(describeUserNamespace({ ...maps, file: "/ns" }, made)), /open.*\/ns.*O_RDONLY/);
});

kernelTest("enterNamespace() gives a thread that can be disposed of", { root: true }, async () => {
  using namespace = await openNamespace(Deno.pid);
  await using thread = await enterNamespace(namespace);
  assertEquals(linkText(`/proc/self/task/${thread.id}/ns/mnt`), linkText("/proc/self/ns/mnt"));
});
