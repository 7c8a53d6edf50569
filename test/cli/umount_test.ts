import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";
import { cli } from "./command.ts";
import { command, listFile } from "./in_process.ts";
import { line, LIST, mountpoints, mountsIn, ways } from "./unmount_ways.ts";

const needs = {
  tools: ["unshare", "nsenter", "mount", "umount"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
};

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
        const status = expected.length > 0 ? 0 : 32; // of what is not mounted
        assertEquals((await command(["umount", "-R", ...inNamespace, t.dir])).code, status);
        assertEquals([left(), mountpoints(t)], [[], []]);
      }
    }
  },
);

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
