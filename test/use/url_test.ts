import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { allWorks, map, project, runInTmpfs, say, selftest, serveProject } from "./ways.ts";

// The one dependency is downloaded from the npm registry into an empty cache: these tests require the network.
const permissions: Deno.PermissionOptionsObject = { run: true, net: ["127.0.0.1"], env: true };

const notEmulated = "the emulated machine has no network";
const run = ["run", "--no-prompt", "--no-config", "--no-lock", "--allow-import=127.0.0.1"];

kernelTest(
  "a program that imports the library over http requires no import map, and only ffi, read and write",
  {
    notEmulated,
    permissions,
  },
  async (t) => {
    await using server = serveProject();
    const base = `http://127.0.0.1:${server.addr.port}`;
    const program = Deno.readTextFileSync(selftest).replaceAll(`from "../`, `from "${base}/`);
    assertEquals(program.match(/from "http:/g)?.length, 2);
    Deno.writeTextFileSync(`${t.dir}/user.ts`, program);
    const args = [...run, "--allow-ffi", "--allow-read", "--allow-write", `${t.dir}/user.ts`, map];
    const { code, out, err } = await say(Deno.execPath(), args, {
      cwd: t.dir,
      env: { DENO_DIR: `${t.dir}/cache` },
    });
    assertEquals([code, out], [0, allWorks], err);
    assertEquals(t.mounts(), []);
  },
);

kernelTest("the command installs from a URL, and works without the server", {
  notEmulated,
  tools: ["unshare"],
  permissions,
}, async (t) => {
  const env = { DENO_DIR: `${t.dir}/cache` };
  {
    await using server = serveProject();
    const url = `http://127.0.0.1:${server.addr.port}/cli.ts`;
    const args = ["install", "-gA", "--root", t.dir, "--name", "denomount", url];
    const { code, err } = await say(Deno.execPath(), args, { cwd: t.dir, env });
    assertEquals(code, 0, err);
  }
  const denomount = `${t.dir}/bin/denomount`;
  const lookup = await say(denomount, ["lookup", "--json", "/proc"], { cwd: t.dir, env });
  assertEquals([lookup.code, JSON.parse(lookup.out.join("")).fsType], [0, "proc"], lookup.err);
  // The command starts itself in a mount namespace.
  const ran = await say(denomount, runInTmpfs(t.dir), { cwd: t.dir, env });
  assertEquals([ran.code, ran.out], [0, ["tmpfs"]], ran.err);
});

Deno.test("no module of the library or the command requires the import map", async () => {
  for (const entry of ["mod.ts", "linux/mod.ts", "linux/manager/mod.ts", "linux/sandbox/mod.ts", "cli.ts"]) {
    const args = ["info", "--json", "--no-config", "--no-lock", new URL(entry, project).pathname];
    const { code, out, err } = await say(Deno.execPath(), args);
    assertEquals(code, 0, err);
    const { modules } = JSON.parse(out.join("\n")) as { modules: { specifier: string; error?: string }[] };
    assertEquals(modules.filter(({ error }) => error !== undefined), []);
    assert(modules.length > 10);
  }
});

kernelTest(
  "a program that imports the sandbox over http starts its stage from the cache, without the server",
  {
    notEmulated,
    tools: ["unshare"],
    permissions,
    features: ["mountSetattr"],
  },
  async (t) => {
    const env = { DENO_DIR: `${t.dir}/cache` };
    const args = [...run, "--allow-ffi", "--allow-run", `${t.dir}/user.ts`];
    {
      await using server = serveProject();
      Deno.writeTextFileSync(
        `${t.dir}/user.ts`,
        `import { sandbox } from "http://127.0.0.1:${server.addr.port}/linux/sandbox/mod.ts";
       const tmpfs = { type: "tmpfs", source: "tmpfs", target: "/mnt", options: ["size=1m"] };
       await using box = await sandbox({ mounts: [tmpfs] });
       const { code } = await box.spawn("sh", { args: ["-c", "touch /mnt/made && ! touch /made"], stderr: "null" }).status;
       console.log(code);`,
      );
      const first = await say(Deno.execPath(), args, { cwd: t.dir, env });
      assertEquals([first.code, first.out], [0, ["0"]], first.err);
    }
    const again = await say(Deno.execPath(), args, { cwd: t.dir, env });
    assertEquals([again.code, again.out], [0, ["0"]], again.err);
  },
);
