/**
 * Which tests run in a guest.
 *
 * @module
 */

/** What takes another way on another kernel, and is quick enough for an emulated machine. */
const core = ["abi", "mount", "overlay", "idmap", "mapped_layers", "loop", "mountinfo", "temp", "explain"];

/**
 * The files for `deno test`.
 *
 * @param set which set.
 * @param project the project's directory.
 * @returns their paths in the project.
 */
export function testFiles(set: "core" | "all", project: string): string[] {
  if (set === "core") return core.map((name) => `test/${name}_test.ts`);
  const names = [...Deno.readDirSync(`${project}/test`)].map(({ name }) => name);
  return names.filter((name) => name.endsWith("_test.ts")).sort().map((name) => `test/${name}`);
}
