import { assert, assertEquals, assertMatch } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { exitCode, startWatch } from "./command.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";

const needs = {
  tools: ["unshare", "nsenter", "mount", "umount"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
};

/** A shell command, and how many lines watch has printed when it has seen its mounts. */
type Step = [command: string, lines: number];

/** Runs steps while `denomount watch` runs; returns its lines without the time, and its exit status. */
async function watched(dir: string, args: string[], steps: Step[], signal: Deno.Signal = "SIGINT") {
  const { child, lines, close } = await startWatch(args, dir);
  let printed: string[] = [];
  const deadline = setTimeout(() => child.kill("SIGKILL"), 10_000); // a line that never comes fails the test
  for (const [command, count] of steps) {
    await run("sh", "-c", command);
    if (count > 0) printed = await lines(count); // watch reads a mount before the next step changes it
  }
  clearTimeout(deadline);
  child.kill(signal);
  const code = await exitCode(child);
  await close();
  return { code, lines: printed.map((line) => line.replaceAll(dir, "").replace(/^\d\d:\d\d:\d\d /, "")) };
}

const mount = (target: string) => `mount -t tmpfs -o size=64k new ${target}`;

kernelTest(
  "watch prints changes of options with --changes only",
  { ...needs, privateDirectory: true },
  async (t) => {
    t.make("a", "b");
    const { dir } = t;
    const steps = (changes: 0 | 1): Step[] => [
      [mount(`${dir}/a`), 1],
      [`mount -o remount,bind,ro ${dir}/a`, 1 + changes],
      // a change of propagation does not wake poll(2): it is found at the next event
      [`mount --make-shared ${dir}/a; ${mount(`${dir}/b`)}`, 2 + 2 * changes],
      [`umount ${dir}/a; umount ${dir}/b`, 4 + 2 * changes],
    ];
    const plain = await watched(dir, [dir], steps(0));
    assertEquals(plain.lines.map((line) => line.slice(0, 4)), ["+ /a", "+ /b", "- /a", "- /b"]);
    const { lines } = await watched(dir, ["--changes", dir], steps(1));
    assertEquals(lines.slice(0, 2), [
      "+ /a  tmpfs  new  rw,relatime",
      "~ /a  tmpfs  new  rw,relatime -> ro,relatime",
    ]);
    assert(lines.slice(2, 4).some((line) => /^~ \/a .* private -> shared:\d+$/.test(line)), lines.join("\n"));
  },
);

kernelTest(
  "watch prints what happens at and below PATH only, also a move into it or out of it",
  { ...needs, privateDirectory: true },
  async (t) => {
    t.make("in/a", "in/b", "out/a", "in-not");
    const { dir } = t;
    const steps: Step[] = [
      [mount(`${dir}/out/a`), 0],
      [mount(`${dir}/in-not`), 0],
      [mount(`${dir}/in/a`), 1],
      [`mount --move ${dir}/in/a ${dir}/out`, 2],
      [`mount --move ${dir}/out ${dir}/in`, 3],
      [`umount ${dir}/in ${dir}/in-not ${dir}/out/a`, 4],
    ];
    assertEquals(await watched(dir, [`${dir}/in`], steps, "SIGHUP"), {
      code: 129,
      lines: [
        "+ /in/a  tmpfs  new  rw,relatime",
        "> /in/a -> /out  tmpfs  new  rw,relatime",
        "> /out -> /in  tmpfs  new  rw,relatime",
        "- /in  tmpfs  new  rw,relatime",
      ],
    });
  },
);

kernelTest(
  "watch resolves a symbolic link of PATH, and prints names with control characters escaped",
  needs,
  async (t) => {
    t.make("real/odd\x1bname");
    const { dir } = t;
    Deno.symlinkSync(`${dir}/real`, `${dir}/link`);
    const odd = `"${dir}/real/odd$(printf '\\033')name"`;
    const steps: Step[] = [[`mount -t tmpfs -o size=64k "s$(printf '\\033')" ${odd}`, 1], [
      `umount ${odd}`,
      2,
    ]];
    assertEquals((await watched(dir, [`${dir}/link`], steps)).lines, [
      "+ /real/odd\\033name  tmpfs  s\\033  rw,relatime",
      "- /real/odd\\033name  tmpfs  s\\033  rw,relatime",
    ]);
  },
);

kernelTest("watch --type takes several types", needs, async (t) => {
  t.make("a", "b", "c");
  const { dir } = t;
  const steps: Step[] = [
    [`mount -t ramfs r ${dir}/a`, 1],
    [mount(`${dir}/b`), 2],
    [`mount --bind ${dir}/c ${dir}/c`, 2],
    [`umount ${dir}/c; umount ${dir}/b`, 3],
    [`umount ${dir}/a`, 4],
  ];
  for (const types of [["--type", "tmpfs,ramfs"], ["-t", "tmpfs", "-t", "ramfs"]]) {
    const { lines } = await watched(dir, [...types, dir], steps);
    assertEquals(lines.map((line) => line.slice(0, 11)), [
      "+ /a  ramfs",
      "+ /b  tmpfs",
      "- /b  tmpfs",
      "- /a  ramfs",
    ]);
  }
});

kernelTest(
  "watch --namespace prints the mounts of that namespace, not those of this one",
  needs,
  async (t) => {
    t.make("a", "b");
    const { dir } = t;
    await using namespace = await MountNamespace.start();
    const inNamespace = (step: string) => `nsenter -m -t ${namespace.pid} ${step}`;
    const steps: Step[] = [
      [mount(`${dir}/a`), 0],
      [inNamespace(mount(`${dir}/b`)), 1],
      [`umount ${dir}/a`, 1],
      [inNamespace(`umount ${dir}/b`), 2],
    ];
    const options = ["--namespace", `${namespace.pid}`, dir];
    const { code, lines } = await watched(dir, options, steps, "SIGQUIT");
    assertEquals([code, lines], [131, ["+ /b  tmpfs  new  rw,relatime", "- /b  tmpfs  new  rw,relatime"]]);
  },
);

kernelTest(
  "watch --json prints an object for each event, with the time and both mounts of a move",
  { ...needs, privateDirectory: true },
  async (t) => {
    t.make("a", "b");
    const { dir } = t;
    const steps: Step[] = [[mount(`${dir}/a`), 1], [`mount --move ${dir}/a ${dir}/b`, 2], [
      `umount ${dir}/b`,
      3,
    ]];
    const events = (await watched(dir, ["--json", dir], steps)).lines.map((line) => JSON.parse(line));
    assertEquals(
      events.map(({ kind, mount, before }) => [kind, before?.mountpoint, mount.mountpoint, mount.fsType]),
      [["mounted", undefined, "/a", "tmpfs"], ["moved", "/a", "/b", "tmpfs"], [
        "unmounted",
        undefined,
        "/b",
        "tmpfs",
      ]],
    );
    for (const { time } of events) assertMatch(time, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  },
);
