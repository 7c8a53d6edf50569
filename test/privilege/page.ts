/**
 * The page that says what each operation needs.
 *
 * @module
 */

import { markdownTable } from "../../scripts/markdown.ts";
import type { Needs } from "./derive.ts";

/** Where it is. */
export const page = new URL("../../docs/privileges.md", import.meta.url);

const head = `# What each operation needs

Found by running each with less and less until it failed (\`test/privilege/privilege_test.ts\`, which fails where this page is not
what it finds; \`deno task privileges\` writes it). Capabilities are those of a process of root's, on files of root's, in
the initial user namespace; in a user namespace of its own it has all of them. Permissions are Deno's flags:
\`--allow-read\` and \`--allow-write\` of the temporary directory, \`--allow-run\` of the FUSE helpers. Where \`PATH\` and
\`TMPDIR\` may be read they count; \`--allow-env\` is never needed.

Without a permission, the error names it and its flag; nothing prompts, on a terminal either. Without a capability it
is the kernel's EPERM or EACCES, with the system call.
`;

const listed = (names: readonly string[], write: (name: string) => string) =>
  names.length === 0 ? "none" : names.map(write).join(", ");

/** The page's text. */
export function pageOf(all: readonly Needs[]): string {
  const rows = all.map(({ operation, capabilities, permissions }) => [
    operation,
    listed(capabilities, (name) => `\`CAP_${name.toUpperCase()}\``),
    listed(permissions, (name) => `\`${name}\``),
  ]);
  const table = markdownTable(["operation", "Linux capabilities", "Deno permissions"], rows);
  return `${head}\n${table.replace("---: | ---:", "--- | ---")}\n`;
}

/** The cells of its table, however it is formatted. */
export function cellsOf(text: string): string[] {
  return text.split("\n").filter((line) => line.startsWith("|") && !/^[|\s:-]+$/.test(line)).map((line) =>
    line.split("|").map((cell) => cell.trim()).join("|")
  );
}
