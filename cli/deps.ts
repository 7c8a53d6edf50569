/**
 * The packages that the command uses, as pinned and complete specifiers: an https import of cli.ts uses no import map. The
 * library itself uses none of them.
 *
 * @module
 */

export { Command, CommanderError, InvalidArgumentError, Option } from "npm:commander@14.0.2";
export { bold, cyan, dim, green, red, setColorEnabled, yellow } from "npm:deno-std@1.4.0/fmt/colors.js";

/** The width of a text on a terminal, in columns. It is loaded for a table only: that takes as long as the rest. */
export const loadStringWidth = async (): Promise<(text: string) => number> =>
  // deno-lint-ignore no-import-prefix
  (await import("npm:string-width@9.0.0")).default;

export type { StructuredPatchHunk } from "npm:diff@9.0.0";

/** The package that compares texts. It is loaded for `denomount try --diff` only. */
export const loadDiff = async (): Promise<Pick<typeof import("npm:diff@9.0.0"), "structuredPatch">> =>
  // deno-lint-ignore no-import-prefix
  await import("npm:diff@9.0.0");
