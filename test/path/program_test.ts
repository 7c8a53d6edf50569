import { assert, assertEquals, assertStringIncludes } from "../assert.ts";
import { cli } from "../cli/command.ts";
import { type KernelContext, kernelTest } from "../harness.ts";

const needs = {
  tools: ["sh", "chroot"],
  permissions: { run: true, env: true } as Deno.PermissionOptionsObject,
};
const library = new URL("../../linux/path/program.ts", import.meta.url).href;

/** Runs Deno in a directory with a PATH; undefined leaves PATH unset. */
async function deno(args: string[], cwd: string, path: string | undefined, wrapper: string[] = []) {
  const { PATH: _, ...env } = Deno.env.toObject();
  const [program = "", ...rest] = [
    ...wrapper,
    Deno.execPath(),
    "run",
    "--quiet",
    "-A",
    "--no-config",
    ...args,
  ];
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: rest,
    cwd,
    clearEnv: true,
    env: { ...env, ...path === undefined ? {} : { PATH: path } },
  }).output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

/** Programs that create the file "run" in the test's directory. */
function makeHostile(t: KernelContext, directory: string, ...names: string[]): void {
  t.make(directory);
  for (const name of names) {
    const path = `${t.dir}/${directory}/${name}`;
    Deno.writeTextFileSync(path, `#!/bin/sh\ntouch ${t.dir}/run\n`);
    Deno.chmodSync(path, 0o755);
  }
}

async function find(t: KernelContext, path: string | undefined): Promise<(string | null)[]> {
  Deno.writeTextFileSync(
    `${t.dir}/find.ts`,
    `import { findProgram } from ${JSON.stringify(library)};
     console.log(JSON.stringify(["chroot", "sh", "hostile"].map((name) => findProgram(name) ?? null)));`,
  );
  const { code, out, err } = await deno([`${t.dir}/find.ts`], t.dir, path);
  assertEquals(code, 0, err);
  return JSON.parse(out);
}

kernelTest(
  "a program is found in absolute entries of PATH and the system's directories only",
  needs,
  async (t) => {
    makeHostile(t, ".", "chroot", "sh", "hostile");
    makeHostile(t, "bin", "chroot", "sh", "hostile");
    for (
      const path of [
        undefined,
        "",
        ":",
        ":/usr/bin",
        "/usr/bin:",
        ".:/usr/bin",
        "bin:/usr/bin",
        "./bin",
        "/usr/bin:/bin", // that of Debian's ordinary users; chroot is in /usr/sbin
        `${t.dir}:/usr/bin`,
        `${t.dir}/bin/..`,
      ]
    ) {
      const [chroot = null, shell = null, hostile] = await find(t, path);
      assert(/^\/(usr\/)?sbin\/chroot$/.test(chroot ?? ""), `PATH=${path}: ${chroot}`);
      assert(/^\/(usr\/)?bin\/sh$/.test(shell ?? ""), `PATH=${path}: ${shell}`);
      assertEquals(hostile, null, `PATH=${path}`);
    }
    assertEquals(await find(t, `${t.dir}/bin`), [
      `${t.dir}/bin/chroot`,
      `${t.dir}/bin/sh`,
      `${t.dir}/bin/hostile`,
    ]);
  },
);

kernelTest("directories and files without an execute bit are no programs", needs, async (t) => {
  t.make("first/chroot", "second");
  Deno.writeTextFileSync(`${t.dir}/second/chroot`, "");
  const [chroot] = await find(t, `${t.dir}/first:${t.dir}/second`);
  assert(/^\/(usr\/)?sbin\/chroot$/.test(chroot ?? ""), `${chroot}`);
});

kernelTest("run never takes unshare or chroot from the working directory, nor needs sbin in PATH", {
  ...needs,
  tools: ["sh", "chroot", "unshare"],
}, async (t) => {
  makeHostile(t, ".", "unshare", "chroot");
  makeHostile(t, "bin", "unshare", "chroot");
  const list = [{ type: "overlay", source: "o", options: [`lowerdir=${t.make("skeleton/usr")}:/usr`] }];
  Deno.writeTextFileSync(`${t.dir}/list.json`, JSON.stringify(list));
  const command = ["/bin/sh", "-c", "echo inside"];
  // An ordinary user with root's file access: Deno's cache belongs to root.
  const asUser = ["/usr/bin/unshare", "--user", "--map-user=1000", "--map-group=1000", "--"];
  for (const wrapper of [[], asUser]) {
    for (const path of ["", ":/usr/bin", "bin:/usr/bin", "/usr/bin:/bin", `${t.dir}:/usr/bin`]) {
      const result = await deno(
        [cli, "run", "--private", "--chroot", "list.json", "--", ...command],
        t.dir,
        path,
        wrapper,
      );
      assertEquals([result.code, result.out], [0, "inside\n"], `PATH=${path}: ${result.err}`);
      assert(![...Deno.readDirSync(t.dir)].some(({ name }) => name === "run"), `PATH=${path}`);
    }
  }
});

kernelTest("doctor finds the programs that the library finds", needs, async (t) => {
  for (const path of ["", "/usr/bin:/bin", "bin:."]) {
    const { out, err } = await deno([cli, "doctor"], t.dir, path);
    assertStringIncludes(out, "yes    chroot, for run --chroot\n", err);
    assertStringIncludes(out, "yes    unshare, for run", err);
  }
});
