import { assert, assertEquals, assertMatch } from "../assert.ts";
import { cli } from "./command.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { mountTable, parseTable, readText, type Row } from "../kernel.ts";
import { O_RDONLY, open } from "../../linux/mod.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";
import { command, listFile } from "./in_process.ts";

const needs = {
  tools: ["unshare", "nsenter", "mount", "umount"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
};

const LIST = [{ type: "tmpfs", source: "top", options: ["size=64k"] }];

/** The ways to unmount one mount, each as the arguments that follow the flags. */
const ways: [name: string, args: (t: KernelContext, target: string) => string[]][] = [
  ["umount", (_, target) => ["umount", target]],
  ["umount --all", (_, target) => ["umount", "--all", target]],
  ["umount --recursive", (_, target) => ["umount", "--recursive", target]],
  ["down", (t, target) => ["down", listFile(t.dir, LIST), target]],
];

/** The command line of a way with further flags. */
function line(
  way: (t: KernelContext, target: string) => string[],
  t: KernelContext,
  target: string,
  ...flags: string[]
) {
  const [subcommand = "", ...rest] = way(t, target);
  return [subcommand, ...flags, ...rest];
}

function mountTmpfs(target: string): Promise<string> {
  return run("mount", "-t", "tmpfs", "-o", "size=64k", "top", target);
}

function mountpoints(t: KernelContext): string[] {
  return t.mounts().map(({ mountpoint }) => mountpoint);
}

/** The mounts below a directory in another namespace. */
function mountsIn(namespace: MountNamespace, dir: string): Row[] {
  const table = parseTable(readText(`/proc/${namespace.pid}/mountinfo`) ?? "");
  return table.filter(({ mountpoint }) => mountpoint.startsWith(dir));
}

for (const [name, way] of ways) {
  kernelTest(
    `${name} fails on a busy mount after its --timeout, also with --force; --lazy detaches it`,
    needs,
    async (t) => {
      const target = t.make("target");
      await mountTmpfs(target);
      using file = Deno.createSync(`${target}/file`);
      for (const flags of [[], ["--force"]]) {
        const start = performance.now();
        const { code, out, err } = await command(line(way, t, target, "--timeout", "150", ...flags));
        const elapsed = performance.now() - start;
        assertEquals([code, out, mountpoints(t)], [1, "", ["/target"]], err);
        assertMatch(err, new RegExp(`^denomount: ${target} is in use \\(umount2: EBUSY\\)\n  .*\n$`));
        assert(elapsed >= 140 && elapsed < 2000, `${elapsed} ms`);
      }
      assertEquals(await command(line(way, t, target, "--timeout", "0", "--lazy")), {
        code: 0,
        out: "",
        err: "",
      });
      assertEquals([mountpoints(t), file.statSync().isFile], [[], true]);
    },
  );

  kernelTest(`${name} unmounts a mount that becomes free within its --timeout`, needs, async (t) => {
    const target = t.make("target");
    await mountTmpfs(target);
    const file = Deno.createSync(`${target}/file`);
    const timer = setTimeout(() => file.close(), 100);
    assertEquals((await command(line(way, t, target, "--timeout", "5000"))).code, 0);
    clearTimeout(timer);
    assertEquals(mountpoints(t), []);
  });

  kernelTest(`${name} unmounts the mount that a symbolic link leads to`, needs, async (t) => {
    const target = t.make("target");
    Deno.symlinkSync(target, `${t.dir}/link`);
    for (const flags of [[], ["--lazy"], ["--force"]]) {
      await mountTmpfs(target);
      assertEquals((await command(line(way, t, `${t.dir}/link`, ...flags))).code, 0);
      assertEquals(mountpoints(t), []);
    }
    if (name === "down") return;
    await mountTmpfs(target);
    for (const flags of [[], ["--lazy"], ["--force"]]) {
      const { code, err } = await command(line(way, t, `${t.dir}/link`, "--no-follow", ...flags));
      assertEquals([code, mountpoints(t)], [0, ["/target"]], err);
    }
    assertEquals((await command(line(way, t, target, "--no-follow"))).code, 0);
    assertEquals(mountpoints(t), []);
  });

  kernelTest(
    `${name} of a shared mount unmounts it in its peers too, and leaves what it was bound from`,
    needs,
    async (t) => {
      t.make("shared", "source/inner");
      const target = `${t.dir}/shared/target`;
      await run("mount", "--bind", `${t.dir}/shared`, `${t.dir}/shared`);
      await run("mount", "--make-shared", `${t.dir}/shared`);
      t.make("shared/target");
      await run("mount", "-t", "tmpfs", "-o", "size=64k", "inner", `${t.dir}/source/inner`);
      await run("mount", "--make-shared", `${t.dir}/source/inner`);
      try {
        await using namespace = await MountNamespace.start("--propagation", "unchanged");
        const before = [mountpoints(t), mountsIn(namespace, t.dir).length];
        for (const flags of [[], ["--lazy"], ["--force"]]) {
          await run("mount", "--bind", `${t.dir}/source/inner`, target);
          assertEquals(mountsIn(namespace, target).length, 1);
          assertEquals((await command(line(way, t, target, ...flags))).code, 0);
          assertEquals([mountpoints(t), mountsIn(namespace, t.dir).length], before);
        }
      } finally {
        await run("umount", `${t.dir}/source/inner`, `${t.dir}/shared`);
      }
    },
  );

  kernelTest(
    `${name} --namespace unmounts in that namespace alone, without it in this one alone`,
    needs,
    async (t) => {
      const target = t.make("target");
      await mountTmpfs(target);
      await using namespace = await MountNamespace.start();
      const here = () => mountTable().filter(({ mountpoint }) => mountpoint === target).length;
      const there = () => mountsIn(namespace, target).length;
      const inNamespace = ["--namespace", `${namespace.pid}`];
      for (const flags of [[], ["--lazy"], ["--force"], ["--timeout", "0"]]) {
        assertEquals([here(), there()], [1, 1]);
        assertEquals((await command(line(way, t, target, ...inNamespace, ...flags))).code, 0);
        assertEquals([here(), there()], [1, 0], flags.join());
        await namespace.run("mount", "-t", "tmpfs", "-o", "size=64k", "top", target);
      }
      assertEquals((await command(line(way, t, target))).code, 0);
      assertEquals([here(), there()], [0, 1]);
    },
  );

  kernelTest(
    `${name} --namespace obeys --timeout, --force and --lazy on a mount that is busy there`,
    needs,
    async (t) => {
      const target = t.make("target");
      await using namespace = await MountNamespace.start();
      await namespace.run("mount", "-t", "tmpfs", "-o", "size=64k", "top", target);
      using _file = open(`/proc/${namespace.pid}/root${target}`, O_RDONLY);
      const inNamespace = ["--namespace", `${namespace.pid}`, "--timeout", "50"];
      for (const flags of [[], ["--force"]]) {
        const start = performance.now();
        const { code, err } = await command(line(way, t, target, ...inNamespace, ...flags));
        assertEquals([code, mountsIn(namespace, target).length], [1, 1], err);
        assertMatch(err, new RegExp(`^denomount: ${target} is in use \\(umount2: EBUSY\\)\n`));
        assert(performance.now() - start < 2000);
      }
      assertEquals((await command(line(way, t, target, ...inNamespace, "--lazy"))).code, 0);
      assertEquals(mountsIn(namespace, target), []);
    },
  );
}

/** The flags of umount2(2) that each flag of the command becomes. */
const flagsOfCall: Record<string, string> = {
  "": "0",
  "--lazy": "MNT_DETACH",
  "--force": "MNT_FORCE",
  "--lazy --force": "MNT_FORCE|MNT_DETACH",
  "--no-follow": "UMOUNT_NOFOLLOW",
};

kernelTest("each flag of umount and down becomes its flag of umount2(2), also in another namespace", {
  ...needs,
  tools: [...needs.tools, "strace"],
}, async (t) => {
  const target = t.make("target");
  const list = listFile(t.dir, LIST);
  await using namespace = await MountNamespace.start();
  const cases = [[], ["--namespace", `${namespace.pid}`]].flatMap((inNamespace) =>
    ways.flatMap(([name, way]) =>
      Object.keys(flagsOfCall).filter((flags) => name !== "down" || flags !== "--no-follow").map((flags) => ({
        flags,
        up: ["up", ...inNamespace, list, target],
        unmount: line(way, t, target, ...inNamespace, ...flags === "" ? [] : flags.split(" ")),
      }))
    )
  );
  const calls = cases.flatMap(({ up, unmount }) => [up, unmount]);
  const script = `import { main } from ${JSON.stringify(cli)};
    for (const args of ${JSON.stringify(calls)}) if (await main(args) !== 0) Deno.exit(1);`;
  Deno.writeTextFileSync(`${t.dir}/script.ts`, script);
  const trace = `${t.dir}/trace`;
  await run(
    "strace",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-e",
    "trace=umount2",
    "-o",
    trace,
    Deno.execPath(),
    "run",
    "-A",
    `${t.dir}/script.ts`,
  );
  const made = [...Deno.readTextFileSync(trace).matchAll(/umount2\("([^"]*)", ([A-Z_|0]+)/g)];
  const expected = cases.map(({ flags }) => [target, flagsOfCall[flags]]);
  assertEquals(made.map(([, path, flags]) => [path, flags]), expected);
});

kernelTest(
  "umount unmounts the top mount of each TARGET, --all the stack, --recursive what is below too",
  needs,
  async (t) => {
    t.make("target", "other");
    const [target, other] = [`${t.dir}/target`, `${t.dir}/other`];
    const all = ["/target", "/target", "/target/below", "/other", "/other"];
    const cases: [flags: string[], targets: string[], left: string[]][] = [
      [[], [`${target}/below`, other], ["/target", "/target", "/other"]],
      [["--all"], [`${target}/below`, other, target], []],
      [["-a"], [other], ["/target", "/target", "/target/below"]],
      [["--recursive"], [target, other], []],
      [["-R"], [target], ["/other", "/other"]],
      [["--all", "--recursive"], [target], ["/other", "/other"]],
      [["-l"], [target], ["/target", "/other", "/other"]],
    ];
    const mounts = ["target", "target", "target/below", "other", "other"].map((name) =>
      `mkdir -p ${t.dir}/${name}; mount -t tmpfs -o size=64k t ${t.dir}/${name}`
    );
    await using namespace = await MountNamespace.start();
    const left = () => mountsIn(namespace, t.dir).map(({ mountpoint }) => mountpoint.slice(t.dir.length));
    for (const [flags, targets, expected] of cases) {
      for (const where of ["here", "there"]) {
        const script = ["-c", `set -e; ${mounts.join("; ")}`];
        if (where === "here") await run("sh", ...script);
        else await namespace.run("sh", ...script);
        assertEquals(where === "here" ? [mountpoints(t), left()] : [left(), mountpoints(t)], [all, []]);
        const inNamespace = where === "here" ? [] : ["--namespace", `${namespace.pid}`];
        const { code, err } = await command(["umount", ...inNamespace, ...flags, ...targets]);
        assertEquals([code, where === "here" ? mountpoints(t) : left()], [0, expected], flags.join() + err);
        assertEquals((await command(["umount", "-R", ...inNamespace, t.dir])).code, 0);
        assertEquals([left(), mountpoints(t)], [[], []]);
      }
    }
  },
);
