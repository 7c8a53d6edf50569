/**
 * FUSE helpers that do the unexpected: scripts in PATH in place of mount.fuse3.
 *
 * @module
 */

import type { MountOptions } from "../../mod.ts";
import { assertEquals, assertMatch } from "../assert.ts";
import { readText } from "../kernel.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";

const needs: Needs = { root: true, tools: ["sh", "mount", "bindfs"], permissions: { run: true } };
const library = new URL("../../mod.ts", import.meta.url).href;

/** Mounts with a script in place of mount.fuse3; returns what the child prints: the error's message, or the mount's options. */
async function mountWith(
  t: KernelContext,
  helper: string,
  options: string[] = [],
  wait: MountOptions = {},
): Promise<string> {
  t.make("bin", "target");
  Deno.writeTextFileSync(`${t.dir}/bin/mount.fuse3`, `#!/bin/sh\n${helper}\n`);
  Deno.chmodSync(`${t.dir}/bin/mount.fuse3`, 0o755);
  const entry = JSON.stringify({ type: "fuse3.fake", source: "from", options });
  Deno.writeTextFileSync(
    `${t.dir}/script.ts`,
    `import { listMounts, mount, prefixFilter, unmount } from ${JSON.stringify(library)};
    const target = Deno.args[0] + "/target";
    const error = await mount(${entry}, target, ${JSON.stringify(wait)}).catch((error) => error.message);
    const mounts = await listMounts({ filter: prefixFilter(target) });
    console.log(typeof error === "string" ? error : "", mounts.map(({ options }) => options).join(";"));
    if (mounts.length > 0) await unmount(target);
    Deno.exit(0);`,
  );
  const { stdout, stderr, code } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-config", `${t.dir}/script.ts`, t.dir],
    env: { PATH: `${t.dir}/bin` },
  }).output();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assertEquals(code, 0, said);
  return said.trim();
}

kernelTest("a helper gets the source, the target, each option and the type", needs, async (t) => {
  const helper = `printf '%s\\n' "$@" > ${t.dir}/args; bindfs ${t.dir} "$2"`;
  const options = ["ro", "allow_other,max_read=4096"];
  assertMatch(await mountWith(t, helper, options), /^r[ow],/);
  assertEquals(Deno.readTextFileSync(`${t.dir}/args`).trim().split("\n"), [
    "from",
    `${t.dir}/target`,
    "-o",
    "ro",
    "-o",
    "allow_other",
    "-o",
    "max_read=4096",
    "-t",
    "fake",
  ]);
});

kernelTest("what a helper does not know is set on its mount", needs, async (t) => {
  const said = await mountWith(t, `bindfs ${t.dir} "$2"`, ["rro", "nosymfollow"]);
  assertMatch(said, /^ro,.*nosymfollow/);
});

kernelTest("what a helper has mounted before it failed is unmounted", needs, async (t) => {
  const said = await mountWith(t, `bindfs ${t.dir} "$2"; echo one >&2; echo two >&2; exit 3`);
  assertMatch(said, /: mount\.fuse3 failed with exit status 3: one; two$/);
});

kernelTest(
  "a helper that ends before its mount appears is waited for, and then is an error",
  needs,
  async (t) => {
    assertMatch(await mountWith(t, `(sleep 0.3; bindfs ${t.dir} "$2") >/dev/null 2>&1 & exit 0`), /^rw,/);
    assertMatch(
      await mountWith(t, "exit 0"),
      /: mount\.fuse3 exited without an error, but nothing is mounted$/,
    );
  },
);

kernelTest("a helper that hangs is an error after the timeout, and is killed", needs, async (t) => {
  const said = await mountWith(t, `echo $$ > ${t.dir}/pid; exec sleep 20`, [], { timeout: 200 });
  assertMatch(said, /ETIMEDOUT/);
  const pid = Deno.readTextFileSync(`${t.dir}/pid`).trim();
  assertEquals(readText(`/proc/${pid}/cmdline`)?.includes("sleep") ?? false, false);
});

kernelTest("what another process mounts while the helper runs stays, and is named", needs, async (t) => {
  for (const status of [0, 1]) {
    const said = await mountWith(t, `mount -t tmpfs other "$2"; exit ${status}`, ["rro"]);
    assertMatch(
      said,
      /rw,.*\n.* stays mounted: another process has mounted tmpfs other on the mountpoint while mount\.fuse3 ran$/,
    );
  }
});
