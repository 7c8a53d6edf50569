import { assertEquals, assertMatch, assertStringIncludes } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { names, readText } from "../kernel.ts";
import { cli, denomount } from "./command.ts";
import { command } from "./in_process.ts";

const needs = {
  tools: ["unshare", "mount", "umount"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
};

kernelTest("a wrong word is a usage error that names the right one", needs, async () => {
  const cases: [line: string, error: string][] = [
    ["unmount /mnt", "unknown command 'unmount' (Did you mean umount?)"],
    ["mont a b", "unknown command 'mont' (Did you mean mount?)"],
    ["ls --tre", "unknown option '--tre' (Did you mean --tree?)"],
    ["loop atach x", "unknown command 'atach' (Did you mean attach?)"],
    [
      "completions tcsh",
      "'tcsh' is invalid for argument 'SHELL'. There are completions for bash, zsh and fish",
    ],
    ["ls --columns size", "Must be of mountpoint, type, source,"],
    ["loop attach --offset 1.5M x", "Must be a number of bytes, such as 1048576 or 1M"],
  ];
  for (const [line, error] of cases) {
    const { code, out, err } = await command(line.split(" "));
    assertEquals([code, out], [2, ""], err);
    assertStringIncludes(err, error);
    assertMatch(err, /^denomount: .*[^.]; see denomount( [a-z]+)* --help\n$/);
  }
});

kernelTest("loop attach takes --offset 1M, and loop detach a device's name alone", {
  ...needs,
  root: true,
}, async (t) => {
  Deno.writeFileSync(`${t.dir}/image`, new Uint8Array(2 << 20));
  const { code, out, err } = await command([
    "loop",
    "attach",
    "--offset",
    "1M",
    "--size-limit=64KiB",
    `${t.dir}/image`,
  ]);
  assertEquals([code, err], [0, ""]);
  const name = out.trim().replace("/dev/", "");
  const attribute = (file: string) => readText(`/sys/block/${name}/loop/${file}`)?.trim();
  assertEquals([attribute("offset"), attribute("sizelimit")], ["1048576", "65536"]);
  assertEquals(await command(["loop", "detach", name]), { code: 0, out: "", err: "" });
  assertEquals(attribute("offset"), undefined);
});

kernelTest("cleanup unmounts what a killed process has left, and doctor names it", needs, async (t) => {
  const before = Deno.env.get("TMPDIR");
  Deno.env.set("TMPDIR", t.make("temporary"));
  try {
    const directory = `${t.dir}/temporary/denomount-abcdef`;
    t.make("temporary/denomount-abcdef/root");
    assertEquals(await command(["mount", "-t", "tmpfs", "left", `${directory}/root`]), {
      code: 0,
      out: "",
      err: "",
    });
    assertMatch(
      (await command(["doctor"])).out,
      /no .*a killed process has left one; "denomount cleanup" unmounts it/,
    );
    assertEquals(await command(["cleanup", "--dry-run"]), { code: 0, out: `${directory}\n`, err: "" });
    {
      using _held = await Deno.open(`${directory}/root`);
      const { code, out, err } = await command(["cleanup", "--timeout", "0"]);
      assertEquals([code, out], [1, ""]);
      assertStringIncludes(err, "is in use (umount2: EBUSY)");
      assertStringIncludes(err, `this process (pid ${Deno.pid})`);
    }
    assertEquals(await command(["cleanup"]), { code: 0, out: `removed ${directory}\n`, err: "" });
    assertEquals([t.mounts(), names(`${t.dir}/temporary`)], [[], []]);
    assertEquals(await command(["cleanup"]), { code: 0, out: "", err: "" });
    assertMatch((await command(["doctor"])).out, /yes +no temporary mount is left\n/);
  } finally {
    if (before === undefined) Deno.env.delete("TMPDIR");
    else Deno.env.set("TMPDIR", before);
  }
});

kernelTest("without root, an error names the namespaces that help", needs, async (t) => {
  t.make("a");
  const cases: [words: string[], remedy: string][] = [
    [["mount", "-t", "tmpfs", "t", `${t.dir}/a`], 'without root, begin the command with "unshare -Urm"'],
    [
      ["mount", "-t", "proc", "proc", `${t.dir}/a`],
      'without root, begin the command with "unshare -Urm -pf"',
    ],
    [["mount", "--bind", `${t.dir}/a`, `${t.dir}/a`], 'without root, begin the command with "unshare -Urm"'],
    [["umount", "/proc"], 'without root, begin the command with "unshare -Urm"'],
  ];
  for (const [words, remedy] of cases) {
    const args = [
      "--user",
      "--map-user=1000",
      "--map-group=1000",
      "--",
      Deno.execPath(),
      "run",
      "-A",
      cli,
      ...words,
    ];
    const { code, stderr } = await new Deno.Command("unshare", { args, stdout: "null" }).output();
    const err = new TextDecoder().decode(stderr);
    assertEquals([code, t.mounts()], [32, []], err);
    assertStringIncludes(err, remedy);
  }
  const args = [
    "-Urm",
    "-pf",
    "--",
    Deno.execPath(),
    "run",
    "-A",
    cli,
    "mount",
    "-t",
    "proc",
    "proc",
    `${t.dir}/a`,
  ];
  const { code, stderr } = await new Deno.Command("unshare", { args, stdout: "null" }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
});

kernelTest("mount fails for a process that is not there", needs, async (t) => {
  t.make("a");
  const { code, err } = await denomount([
    "mount",
    "--namespace",
    "1073741824",
    "-t",
    "tmpfs",
    "t",
    `${t.dir}/a`,
  ]);
  assertEquals(code, 32);
  assertStringIncludes(err, "there is no process 1073741824");
});
