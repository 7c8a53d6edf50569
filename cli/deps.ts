/**
 * The packages that the command prints with, as pinned and complete specifiers: an https import of cli.ts uses no import
 * map. The argument parser is in commander.ts. The library itself uses none of them.
 *
 * @module
 */

// deno-lint-ignore no-import-prefix
import * as colors from "npm:deno-std@1.4.0/fmt/colors.js";

export type { Command } from "npm:commander@14.0.2";

/** Without escape sequences where standard output is no terminal, or with NO_COLOR. */
const onTerminal = (color: (text: string) => string) => (text: string): string =>
  Deno.stdout.isTerminal() && !Deno.noColor ? color(text) : text;

/** In bold type. */
export const bold: (text: string) => string = onTerminal(colors.bold);
/** In cyan. */
export const cyan: (text: string) => string = onTerminal(colors.cyan);
/** Dimmed. */
export const dim: (text: string) => string = onTerminal(colors.dim);
/** In green. */
export const green: (text: string) => string = onTerminal(colors.green);
/** In red. */
export const red: (text: string) => string = onTerminal(colors.red);
/** In yellow. */
export const yellow: (text: string) => string = onTerminal(colors.yellow);

/** The width of a text on a terminal, in columns. It is loaded for a table only: that takes as long as the rest. */
export const loadStringWidth = async (): Promise<(text: string) => number> =>
  // deno-lint-ignore no-import-prefix
  (await import("npm:string-width@9.0.0")).default;

export type { StructuredPatchHunk } from "npm:diff@9.0.0";

/** The package that compares texts. It is loaded for `denomount try --diff` only. */
export const loadDiff = async (): Promise<Pick<typeof import("npm:diff@9.0.0"), "structuredPatch">> =>
  // deno-lint-ignore no-import-prefix
  await import("npm:diff@9.0.0");
