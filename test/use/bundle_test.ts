import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { allWorks, map, project, runInTmpfs, say, selftest } from "./ways.ts";

const permissions: Deno.PermissionOptionsObject = { run: true, env: true };

/** Bundles a program and its imports into one file. */
async function bundle(entry: string, file: string): Promise<void> {
  // Deno downloads the bundler from the npm registry at its first use.
  const { code, err } = await say(Deno.execPath(), ["bundle", "--quiet", "-o", file, entry]);
  assertEquals(code, 0, err);
}

kernelTest("a program that is bundled into one file works completely", { permissions }, async (t) => {
  await bundle(selftest, `${t.dir}/selftest.js`);
  const grants = ["--allow-ffi", "--allow-read", "--allow-write"];
  // Without npm, remote modules and the project's directory, only the bundled file is available.
  const args = ["run", "--no-prompt", "--no-config", "--no-npm", "--no-remote", ...grants];
  const { code, out, err } = await say(Deno.execPath(), [...args, `${t.dir}/selftest.js`, map], {
    cwd: t.dir,
    env: { DENO_DIR: `${t.dir}/cache` },
  });
  assertEquals([code, out], [0, allWorks], err);
  assertEquals(t.mounts(), []);
});

kernelTest("the command works as one bundled file, and starts itself in a namespace", {
  tools: ["unshare"],
  permissions,
}, async (t) => {
  const file = `${t.dir}/denomount.js`;
  await bundle(new URL("cli.ts", project).pathname, file);
  const args = ["run", "-A", "--no-config", "--no-npm", "--no-remote", file, ...runInTmpfs(t.dir)];
  const { code, out, err } = await say(Deno.execPath(), args, { cwd: t.dir });
  assertEquals([code, out], [0, ["tmpfs"]], err);
});
