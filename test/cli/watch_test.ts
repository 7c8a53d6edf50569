import { assertEquals, assertMatch } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { startWatch } from "./command.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";

const needs = {
  tools: ["unshare", "nsenter", "mount", "umount"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
};

/** Runs steps while `denomount watch` runs, each as a shell command; returns its lines without the time, and its exit status. */
async function watched(
  dir: string,
  args: string[],
  steps: string[],
  count: number,
  signal: Deno.Signal = "SIGINT",
) {
  const { child, lines, close } = await startWatch(args, dir);
  for (const step of steps) {
    await run("sh", "-c", step);
    await new Promise((resolve) => setTimeout(resolve, 60)); // watch reads a mount before the next step changes it
  }
  const printed = count === 0 ? [] : await lines(count);
  child.kill(signal);
  const { code } = await child.status;
  await close();
  return { code, lines: printed.map((line) => line.replaceAll(dir, "").replace(/^\d\d:\d\d:\d\d /, "")) };
}

const mount = (target: string) => `mount -t tmpfs -o size=64k new ${target}`;

kernelTest("watch prints changes of options with --changes only", needs, async (t) => {
  t.make("a", "b");
  const { dir } = t;
  const steps = [
    mount(`${dir}/a`),
    `mount -o remount,bind,ro ${dir}/a`,
    `mount --make-shared ${dir}/a`,
    mount(`${dir}/b`),
    `umount ${dir}/a ${dir}/b`,
  ];
  const plain = await watched(dir, [dir], steps, 4);
  assertEquals(plain.lines.map((line) => line.slice(0, 4)), ["+ /a", "+ /b", "- /a", "- /b"]);
  const { lines } = await watched(dir, ["--changes", dir], steps, 3);
  assertEquals(lines.slice(0, 2), [
    "+ /a  tmpfs  new  rw,relatime",
    "~ /a  tmpfs  new  rw,relatime -> ro,relatime",
  ]);
  assertMatch(lines[2] ?? "", /^~ \/a .* private -> shared:\d+$/);
});

kernelTest(
  "watch prints what happens at and below PATH only, also a move into it or out of it",
  needs,
  async (t) => {
    t.make("in/a", "in/b", "out/a", "in-not");
    const { dir } = t;
    const steps = [
      mount(`${dir}/out/a`),
      mount(`${dir}/in-not`),
      mount(`${dir}/in/a`),
      `mount --move ${dir}/in/a ${dir}/out`,
      `mount --move ${dir}/out ${dir}/in`,
      `umount ${dir}/in ${dir}/in-not ${dir}/out/a`,
    ];
    assertEquals(await watched(dir, [`${dir}/in`], steps, 4, "SIGHUP"), {
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
    const steps = [`mount -t tmpfs -o size=64k "s$(printf '\\033')" ${odd}`, `umount ${odd}`];
    assertEquals((await watched(dir, [`${dir}/link`], steps, 2)).lines, [
      "+ /real/odd\\033name  tmpfs  s\\033  rw,relatime",
      "- /real/odd\\033name  tmpfs  s\\033  rw,relatime",
    ]);
  },
);

kernelTest("watch --type takes several types", needs, async (t) => {
  t.make("a", "b", "c");
  const { dir } = t;
  const steps = [
    `mount -t ramfs r ${dir}/a`,
    mount(`${dir}/b`),
    `mount --bind ${dir}/c ${dir}/c`,
    `umount ${dir}/c ${dir}/b ${dir}/a`,
  ];
  for (const types of [["--type", "tmpfs,ramfs"], ["-t", "tmpfs", "-t", "ramfs"]]) {
    const { lines } = await watched(dir, [...types, dir], steps, 4);
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
    const steps = [
      mount(`${dir}/a`),
      inNamespace(mount(`${dir}/b`)),
      `umount ${dir}/a`,
      inNamespace(`umount ${dir}/b`),
    ];
    const options = ["--namespace", `${namespace.pid}`, dir];
    const { code, lines } = await watched(dir, options, steps, 2, "SIGQUIT");
    assertEquals([code, lines], [131, ["+ /b  tmpfs  new  rw,relatime", "- /b  tmpfs  new  rw,relatime"]]);
  },
);

kernelTest(
  "watch --json prints an object for each event, with the time and both mounts of a move",
  needs,
  async (t) => {
    t.make("a", "b");
    const { dir } = t;
    const steps = [mount(`${dir}/a`), `mount --move ${dir}/a ${dir}/b`, `umount ${dir}/b`];
    const events = (await watched(dir, ["--json", dir], steps, 3)).lines.map((line) => JSON.parse(line));
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
