/**
 * Which tests run in a guest.
 *
 * @module
 */

/** What takes another way on another kernel, and is quick enough for an emulated machine. */
const core = ["abi", "mount", "overlay", "idmap", "mapped_layers", "loop", "mountinfo", "temp", "explain"];

/** What can't run in a guest, and why. */
export const leftOut: Record<string, string> = {
  "url_test.ts": "a guest has no registry of packages to import from",
};

/**
 * The files for `deno test`.
 *
 * @param set which set.
 * @param project the project's directory.
 * @returns their paths in the project.
 */
export function testFiles(set: "core" | "all", project: string): string[] {
  if (set === "core") return core.map((name) => `test/${name}_test.ts`);
  return [...Deno.readDirSync(`${project}/test`)].map(({ name }) => name)
    .filter((name) => name.endsWith("_test.ts") && !(name in leftOut)).sort().map((name) => `test/${name}`);
}
