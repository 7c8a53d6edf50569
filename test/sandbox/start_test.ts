import { assertEquals, assertMatch } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { names, readText } from "../kernel.ts";
import { explainUnshare } from "../../linux/sandbox/unshare.ts";
import { environment, libraryPath, sandboxTest } from "./users.ts";

/** The processes whose command line has a word. */
function processesWith(word: string): string[] {
  return names("/proc").filter((name) =>
    /^\d+$/.test(name) && (readText(`/proc/${name}/cmdline`) ?? "").includes(word)
  );
}

async function until(holds: () => boolean, milliseconds = 5000): Promise<void> {
  const end = performance.now() + milliseconds;
  while (!holds() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 10));
}

sandboxTest(
  "a process that is killed while it starts a box, or has one, leaves no process and no directory",
  {
    deadline: 60,
  },
  async (t) => {
    t.make("w");
    Deno.chownSync(`${t.dir}/w`, t.uid, t.uid);
    const seconds = `${1000 + Math.random()}`; // which names the processes of this test
    const [command = "", ...args] = await t.program(`
    const box = await sandbox({ writable: [dir + "/w"], hidden: [dir + "/w/secret"], overlay: ["/etc"] });
    await Promise.all([1, 2].map(() => sh(box, "sleep ${seconds} & sleep ${seconds}")));
  `);
    const marks = [await libraryPath(), t.dir, seconds];
    const left = () => marks.flatMap(processesWith).concat(names(`${t.dir}/w`));
    const killed = async (wait: () => Promise<void>) => {
      const program = new Deno.Command(command, {
        args,
        env: environment(t.dir),
        clearEnv: true,
        stdin: "null",
        stdout: "null",
        stderr: "null",
      }).spawn();
      await wait();
      program.kill("SIGKILL");
      await program.status;
      await until(() => left().length === 0);
      assertEquals(left(), []);
    };
    for (let delay = 10; delay <= 330; delay += 40) await killed(() => sleep(delay));
    for (const delay of [0, 3, 10, 30]) { // after the directory is made
      await killed(async () => {
        await until(() => names(`${t.dir}/w`).length > 0);
        await sleep(delay);
      });
    }
    await killed(() => until(() => processesWith(seconds).length > 1)); // after the commands run
  },
);

const sleep = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

sandboxTest("a box that can't be started says why, and leaves nothing", {}, async (t) => {
  t.make("empty", "w");
  Deno.chownSync(`${t.dir}/w`, t.uid, t.uid);
  const answers = await t.run(`
    const fail = async (options) => {
      try { await using box = await sandbox(options); say("started"); } catch (error) { say([error.name, error.code, error.message]); }
    };
    await fail({ cwd: "/no/such/directory" });
    await fail({ root: [{ type: "bind", source: dir + "/empty", options: ["rbind", "ro"] }] });
    // It fails before the directory for what is hidden is made.
    const held = { writable: [dir + "/w"], hidden: [dir + "/w/secret"] };
    await fail({ ...held, mounts: [{ type: "tmpfs", source: "t", target: "/mnt", options: ["bogus=1"] }] });
    await fail({ ...held, cwd: "/no/such/directory" });
    await fail({ hostname: "x".repeat(65) });
    await fail({ uid: -1 });
    await fail({ uidMap: "0:1", gidMap: "0:0:1" });
    await fail({ hidden: ["/"] });
    await fail({ signal: AbortSignal.timeout(5) });
    await fail({ timeout: 1 });
  `);
  assertEquals(answers.map(([name, code]) => `${name} ${code}`), [
    "SandboxError null",
    "SandboxError EROFS",
    "SandboxError EINVAL",
    "SandboxError null",
    "SandboxError EINVAL",
    "TypeError null",
    "TypeError null",
    "TypeError null",
    "TimeoutError 23",
    "SandboxError ETIMEDOUT",
  ]);
  assertMatch(answers[0][2], /the working directory \/no\/such\/directory is not in the box/);
  assertMatch(answers[1][2], /can't make proc at \/proc: it does not exist there, and can't be made/);
  assertMatch(answers[2][2], /can't mount tmpfs on \/mnt: .*Unknown parameter 'bogus'/);
  assertMatch(answers[9][2], /it was not ready after 1 ms/);
  await until(() => processesWith(t.dir).length === 0);
  assertEquals(processesWith(t.dir), []);
  assertEquals(names(`${t.dir}/w`), []);
});

sandboxTest("ids in the box: another id of one's own, and ranges", { root: true }, async (t) => {
  const [own, ranges] = await t.run(`
    {
      await using box = await sandbox({ uid: 1000, gid: 100 });
      say((await sh(box, "id -u; id -g; touch /tmp/x; stat -c %u /tmp/x")).out.trim().split("\\n"));
    }
    try {
      await using box = await sandbox({ uidMap: "0:100000:65536", gidMap: "0:100000:65536" });
      say((await sh(box, "id -u; id -g; touch /tmp/x; stat -c %u /tmp/x; cat /proc/self/uid_map")).out.trim().split(/\\s+/));
    } catch (error) { say([error.name, error.message]); }
  `);
  assertEquals(own, ["1000", "100", "1000"]);
  if (t.user === "root") assertEquals(ranges, ["0", "0", "0", "0", "100000", "65536"]);
  else assertMatch(ranges.join(), /SandboxError,the ids of the box can't be mapped: .*subuid/);
});

sandboxTest("a machine without user namespaces says so", { root: true, tools: ["setpriv"] }, async (t) => {
  if (t.user === "root") return; // root needs none
  const body = `
    try { await using box = await sandbox(); say("started"); } catch (error) { say([error.code, error.message]); }`;
  // In a user namespace of its own, so that the setting is that of no one else.
  const script = "echo 0 > /proc/sys/user/max_user_namespaces; " +
    'exec setpriv --bounding-set=-all --inh-caps=-all "$@"';
  const [command = "", ...args] = await t.program(body);
  const map = ["--user", "--map-root-user", "--mount"];
  const { stdout, stderr } = await new Deno.Command("unshare", {
    args: [...map, "sh", "-c", script, "sh", ...[command, ...args].slice(t.as.length)],
    env: environment(t.dir),
    clearEnv: true,
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertMatch(out ?? "", /user.max_user_namespaces is 0\): run as root, or have root run sysctl/, err);
});

kernelTest("what forbids user namespaces is named with its setting", {}, () => {
  const said = "unshare: unshare failed: Operation not permitted\n";
  const settings: Record<string, string> = {
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
    "/proc/sys/kernel/unprivileged_userns_clone": "0",
  };
  const of = (name: string) =>
    explainUnshare(said, (path) => path.endsWith(name) ? settings[path] : undefined, false);
  assertMatch(
    of("apparmor_restrict_unprivileged_userns").message,
    /^the box can't be started: AppArmor permits .*profile/,
  );
  assertMatch(
    of("unprivileged_userns_clone").message,
    /to root only \(kernel.unprivileged_userns_clone is 0\)/,
  );
  const { message, code } = of("none of them");
  assertEquals([message, code], [
    "the box can't be started: unshare: unshare failed: Operation not permitted",
    "EPERM",
  ]);
});
