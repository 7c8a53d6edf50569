import { hasFeature } from "../../linux/mod.ts";
import { assert, assertEquals, assertMatch } from "../assert.ts";
import { everyFeature } from "../faults/operations.ts";
import { kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";
import { attempt, deriveAll, everyPermission, makeFiles, type Outcome } from "./derive.ts";
import { cellsOf, page, pageOf } from "./page.ts";

const needs = { root: true, tools: ["setpriv", "unshare", "mkfs.ext4"], permissions: { run: true } as const };
const hasTool = (tool: string) =>
  ["/usr/sbin", "/usr/bin"].some((directory) => names(directory).includes(tool));

kernelTest(
  "docs/privileges.md lists the rights of each operation, and errors name the missing one",
  needs,
  async (t) => {
    if (!everyFeature.every(hasFeature)) return; // the page is valid for kernels with all features; fallbacks may require more
    const found = await deriveAll(t.dir, ({ tools = [] }) => tools.every(hasTool), 2);
    const written = cellsOf(Deno.readTextFileSync(page));
    const derived = cellsOf(pageOf(found));
    const missing = derived.filter((row) => !written.includes(row));
    assertEquals(missing, [], "update the page with: deno task privileges");
    assert(found.length > 25);
    for (const { operation, without } of found) {
      for (const [right, outcome] of Object.entries(without)) assertNames(outcome, right, operation);
    }
  },
);

function assertNames(outcome: Outcome, right: string, operation: string): void {
  assert(outcome !== "worked", `${operation} works without ${right}`);
  if (everyPermission.includes(right)) return assertMatch(outcome.message, new RegExp(`--allow-${right}`));
  const isHelper = outcome.message.includes("mount.fuse3"); // the helper writes its own message
  assertMatch(outcome.message, isHelper ? /not permitted/i : new RegExp(`CAP_${right.toUpperCase()}`));
}

kernelTest("on a terminal, no operation prompts for a missing permission", {
  ...needs,
  tools: [...needs.tools, "script", "mount.fuse3", "bindfs"],
}, async (t) => {
  await makeFiles(t.dir, []);
  const capabilities = ["sys_admin"];
  for (
    const [operation, permissions, missing] of [
      ["`mount`: tmpfs", [], "ffi"],
      ["`lookupMount`", [], "ffi"],
      ["`mount`: FUSE", ["ffi"], "run"],
      ["`setTempMountLocation`", ["ffi"], "write"],
      ["`cleanupTempMounts`", ["ffi"], "read"],
    ] as const
  ) {
    const outcome = await attempt(operation, t.dir, { capabilities, permissions }, "terminal");
    assert(outcome !== "worked");
    assertMatch(outcome.message, new RegExp(`--allow-${missing}`));
  }
});
