/**
 * Writes the generated parts of Markdown pages.
 *
 * @module
 */

/**
 * Replaces a part of a page, or appends it.
 *
 * @param page the text of the page.
 * @param name the name of the part, in the comments before and after it.
 * @param body the new text of the part.
 * @returns the new page.
 */
export function replacePart(page: string, name: string, body: string): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
  const part = `${begin}\n\n${body.trim()}\n\n${end}`;
  const [before, rest] = page.split(begin);
  if (rest === undefined) return `${page.trimEnd()}\n\n${part}\n`;
  const [, after = "\n"] = rest.split(end);
  return before + part + after;
}

/**
 * Formats a table in Markdown.
 *
 * @param head the names of the columns; the first column is text, the others are numbers.
 * @param rows the cells.
 * @returns the lines of the table.
 */
export function markdownTable(
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  const line = (cells: readonly (string | number)[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map((_, index) => index === 0 ? "---" : "---:")), ...rows.map(line)].join(
    "\n",
  );
}

/**
 * Formats a page with `deno fmt`.
 *
 * @param page the file of the page.
 */
export async function format(page: URL): Promise<void> {
  await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", page.pathname] }).output();
}
