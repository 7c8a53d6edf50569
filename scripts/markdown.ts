/**
 * Pages that programs write a part of, and people the rest.
 *
 * @module
 */

/**
 * Puts a part into a page: in the place of the one before, else at the page's end.
 *
 * @param page the page's text.
 * @param name the part's name, which stands in comments before and after it.
 * @param body what the part is to be.
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
 * A table in Markdown.
 *
 * @param head the columns' names; the first column is text, the others are numbers.
 * @param rows the cells.
 * @returns its lines.
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
 * Formats a page as `deno fmt` wants it.
 *
 * @param page the page's file.
 */
export async function format(page: URL): Promise<void> {
  await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", page.pathname] }).output();
}
