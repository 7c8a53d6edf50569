import { assert, assertEquals, assertMatch, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";

const cli = new URL("../../cli.ts", import.meta.url).pathname;

async function denomount(args: string[], input = ""): Promise<{ code: number; out: string; err: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "--allow-ffi", "--allow-read", "--allow-env", cli, ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input)).catch(() => {}); // a usage error exits before reading
  await writer.close().catch(() => {});
  const { code, stdout, stderr } = await child.output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

function list(t: KernelContext): Record<string, unknown>[] {
  t.make("root", "lower/tmp", "lower/src", "other", "upper", "work");
  const options = [
    `lowerdir=${t.dir}/lower:${t.dir}/other`,
    `upperdir=${t.dir}/upper`,
    `workdir=${t.dir}/work`,
  ];
  return [
    { type: "overlay", source: "overlay", options },
    { type: "tmpfs", source: "tmpfs", target: "/tmp", options: null },
    { type: "bind", source: `${t.dir}/other`, target: "src", options: ["rbind", "ro"] },
  ];
}

const needs = { permissions: { run: true } as Deno.PermissionOptionsObject };

kernelTest(
  "up mounts a list and down unmounts it, from a file and from standard input",
  needs,
  async (t) => {
    const json = JSON.stringify(list(t));
    Deno.writeTextFileSync(`${t.dir}/mounts.json`, json);
    const root = `${t.dir}/root`;
    assertEquals(await denomount(["up", `${t.dir}/mounts.json`, root]), {
      code: 0,
      out: `${root}\n${root}/tmp\n${root}/src\n`,
      err: "",
    });
    assertEquals(t.mounts().map((row) => row.mountpoint), ["/root", "/root/tmp", "/root/src"]);
    assertEquals((await denomount(["down", "-", root], json)).code, 0);
    assertEquals(t.mounts(), []);
  },
);

kernelTest("up reads capitalized keys, as Go encodes them", needs, async (t) => {
  t.make("root");
  const json = JSON.stringify([{ Type: "tmpfs", Source: "go", Target: "", Options: null }]);
  assertEquals((await denomount(["up", "-", `${t.dir}/root`], json)).code, 0);
  assertEquals(t.mounts().map((row) => row.source), ["go"]);
  assertEquals((await denomount(["umount", "--all", `${t.dir}/root`])).code, 0);
  assertEquals(t.mounts(), []);
});

kernelTest("umount unmounts the top mount, with --all or --recursive the whole stack", needs, async (t) => {
  t.make("root");
  const json = JSON.stringify([{ type: "tmpfs", source: "a" }, { type: "tmpfs", source: "b" }]);
  for (const flag of ["--all", "--recursive"]) {
    await denomount(["up", "-", `${t.dir}/root`], json);
    assertEquals(t.mounts().length, 2);
    assertEquals((await denomount(["umount", flag, `${t.dir}/root`])).code, 0);
    assertEquals(t.mounts(), []);
  }
  await denomount(["up", "-", `${t.dir}/root`], json);
  assertEquals((await denomount(["umount", `${t.dir}/root`])).code, 0);
  assertEquals(t.mounts().length, 1);
  assertEquals((await denomount(["umount", "--lazy", `${t.dir}/root`])).code, 0);
  assertEquals(t.mounts(), []);
});

kernelTest(
  "ls and lookup print the kernel's table with control characters escaped",
  needs,
  async (t) => {
    t.make("odd\n\x1bname");
    const target = `${t.dir}/odd\n\x1bname`;
    await denomount(["up", "-", target], JSON.stringify([{ type: "tmpfs", source: "odd" }]));
    const table = await denomount(["ls", t.dir]);
    assertStringIncludes(table.out, "odd\\012\\033name");
    assertMatch(table.out, /^MOUNTPOINT +TYPE +SOURCE +OPTIONS\n/);
    const [row] = JSON.parse((await denomount(["ls", "--json", "--type", "tmpfs", "--", t.dir])).out);
    assertEquals(row.mountpoint, target);
    assertEquals(JSON.parse((await denomount(["lookup", "--json", target])).out), row);
    assertEquals((await denomount(["umount", target])).code, 0);
  },
);

kernelTest("a usage error prints one line and exits with status 2", needs, async () => {
  for (
    const args of [["up"], ["up", "a"], ["bogus"], ["ls", "--bogus"], ["umount"], ["up", "a", "b", "c"], [
      "umount",
      "--timeout",
      "x",
      "/a",
    ]]
  ) {
    const { code, out, err } = await denomount(args);
    assertEquals([code, out, err.trimEnd().split("\n").length], [2, "", 1], args.join(" ") + err);
    assertStringIncludes(err, "--help");
  }
});

kernelTest(
  "a failed call prints its error, exits with status 1 and leaves nothing mounted",
  needs,
  async (t) => {
    t.make("root");
    const cases: [json: string, error: RegExp][] = [
      [
        '[{"type":"tmpfs","source":"t"},{"type":"tmpfs","source":"t","options":["bogus"]}]',
        /Unknown parameter 'bogus'/,
      ],
      [
        '[{"type":"tmpfs","source":"t","options":7}]',
        /standard input: entry 1: "options" must be a list of strings/,
      ],
      ['[{"type":"tmpfs","source":"t","opts":[]}]', /entry 1: "opts" is no field of a mount/],
      ['{"type":"tmpfs"}', /must be a list of mounts, got an object/],
      ["[{", /standard input: /],
    ];
    for (const [json, error] of cases) {
      const { code, out, err } = await denomount(["up", "-", `${t.dir}/root`], json);
      assertEquals([code, out, err.trimEnd().split("\n").length], [1, "", 1], err);
      assertMatch(err, error);
      assertEquals(t.mounts(), []);
    }
    const missing = await denomount(["up", `${t.dir}/none.json`, `${t.dir}/root`]);
    assertEquals([missing.code, missing.err], [1, `denomount: ${t.dir}/none.json does not exist\n`]);
  },
);

kernelTest("--help prints the usage and an example for each subcommand", needs, async () => {
  for (const command of [[], ["up"], ["down"], ["umount"], ["ls"], ["lookup"]]) {
    const { code, out } = await denomount([...command, "--help"]);
    assertEquals(code, 0);
    assertStringIncludes(out, "Usage: denomount");
    assertMatch(out, /xamples?:/);
  }
  assert((await denomount(["--version"])).out.trim() !== "");
});
