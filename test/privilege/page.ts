/**
 * Generates docs/privileges.md, the page of the rights that each operation requires.
 *
 * @module
 */

import { markdownTable } from "../../scripts/markdown.ts";
import type { Needs } from "./derive.ts";

/** The file of the page. */
export const page = new URL("../../docs/privileges.md", import.meta.url);

const head = `# Required privileges

The minimal rights of each operation. \`deno task privileges\` finds them by removing rights until the operation fails,
and writes this page; \`test/privilege/privilege_test.ts\` fails if the page is out of date. The capabilities are those of
a root process in the initial user namespace, on files that belong to root; a process that creates its own user namespace
has all of them in it. The permissions are Deno's flags: \`--allow-read\` and \`--allow-write\` for the temporary directory,
\`--allow-run\` for the FUSE helpers. No operation requires \`--allow-env\`; with it, the library uses \`PATH\` and \`TMPDIR\`.

Without a permission, the error names the permission and its flag; the library never prompts, not even on a terminal.
Without a capability, the error is the kernel's EPERM or EACCES, with the name of the system call.
`;

const listed = (names: readonly string[], write: (name: string) => string) =>
  names.length === 0 ? "none" : names.map(write).join(", ");

/** The text of the page. */
export function pageOf(all: readonly Needs[]): string {
  const rows = all.map(({ operation, capabilities, permissions }) => [
    operation,
    listed(capabilities, (name) => `\`CAP_${name.toUpperCase()}\``),
    listed(permissions, (name) => `\`${name}\``),
  ]);
  const table = markdownTable(["operation", "Linux capabilities", "Deno permissions"], rows);
  return `${head}\n${table.replace("---: | ---:", "--- | ---")}\n`;
}

/** The cells of the page's table, without the formatting. */
export function cellsOf(text: string): string[] {
  return text.split("\n").filter((line) => line.startsWith("|") && !/^[|\s:-]+$/.test(line)).map((line) =>
    line.split("|").map((cell) => cell.trim()).join("|")
  );
}
