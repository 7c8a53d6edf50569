/**
 * Tables that fit the terminal, and the characters that it has.
 *
 * @module
 */

import { loadStringWidth } from "./deps.ts";
import { variable } from "./manager.ts";
import { escapeControl } from "./print.ts";

/** A cell of a table. */
export interface Cell {
  /** The text, one line that is safe to print. */
  text: string;
  /** Colors it; it is not called for an empty text. */
  style?: (text: string) => string;
}

/** A column of a table. */
export interface Column {
  /** Its name. */
  head: string;
  /** Which columns are cut first where the table is wider than the terminal: those with the lowest number. */
  cutAt: number;
}

const LEAST = 6; // columns of the terminal that a column of the table keeps
const GAP = "  ";

/**
 * Formats a table without borders. On a terminal, no line is longer than its width: texts are cut,
 * and columns are left out where it is narrow.
 *
 * @param columns the columns.
 * @param rows the cells of each row.
 * @returns the lines.
 */
export async function table(columns: readonly Column[], rows: readonly Cell[][]): Promise<string> {
  const widthOf = await loadWidth();
  const all = columns.map((column, index): Shown => {
    const widths = rows.map((row) => widthOf(row[index]?.text ?? ""));
    const width = widths.reduce((most, each) => Math.max(most, each), column.head.length);
    return { ...column, index, width };
  });
  const shown = fit(all);
  const heads = columns.map(({ head }): Cell => ({ text: head }));
  const line = (row: readonly Cell[]) => {
    const cells = shown.map(({ index, width }): string => {
      const { text = "", style } = row[index] ?? {};
      const kept = cut(text, width, widthOf);
      return (kept === "" || style === undefined ? kept : style(kept)) + " ".repeat(width - widthOf(kept));
    });
    return cells.join(GAP).trimEnd();
  };
  return [heads, ...rows].map(line).join("\n");
}

/** A column that is shown. */
interface Shown extends Column {
  index: number;
  width: number;
}

/** Most texts need no table of characters. */
async function loadWidth(): Promise<(text: string) => number> {
  const stringWidth = await loadStringWidth();
  return (text) => /^[\x20-\x7e]*$/.test(text) ? text.length : stringWidth(text);
}

/** Leaves out columns and makes others narrower until the table fits. The first one keeps half of the terminal. */
function fit(all: readonly Shown[]): Shown[] {
  const limit = terminalWidth();
  const least = ({ index, width }: Shown) => Math.min(width, index === 0 ? Math.floor(limit / 2) : LEAST);
  const sumOf = (columns: readonly Shown[], width: (column: Shown) => number) =>
    columns.reduce((sum, column) => sum + width(column), GAP.length * (columns.length - 1));
  const byCut = [...all].sort((a, b) => a.cutAt - b.cutAt);
  let shown = [...all];
  for (const column of byCut) {
    if (shown.length <= 1 || sumOf(shown, least) <= limit) break;
    if (column.index !== 0) shown = shown.filter((each) => each !== column);
  }
  let excess = sumOf(shown, ({ width }) => width) - limit;
  for (const column of byCut) {
    const spare = Math.max(0, Math.min(excess, column.width - least(column)));
    if (!shown.includes(column)) continue;
    column.width -= spare;
    excess -= spare;
  }
  return shown;
}

/** The columns of the terminal; Infinity if standard output is none. */
function terminalWidth(): number {
  if (!Deno.stdout.isTerminal()) return Infinity;
  try {
    return Deno.consoleSize().columns || Infinity; // 0 on a terminal that does not say
  } catch {
    return Infinity; // no stream is a terminal that says
  }
}

function cut(text: string, width: number, widthOf: (text: string) => number): string {
  if (widthOf(text) <= width) return text;
  const mark = isAscii() ? "..." : "…";
  let kept = "";
  let length = mark.length;
  for (const { segment } of new Intl.Segmenter().segment(text)) {
    length += widthOf(segment);
    if (length > width) break;
    kept += segment;
  }
  return kept + mark;
}

/**
 * Whether the locale has ASCII characters only: LC_ALL=C, also in LC_CTYPE or LANG. Where none is set, as in a container,
 * the terminal takes UTF-8 all the same.
 *
 * @returns true if a variable says so.
 */
export function isAscii(): boolean {
  const locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(variable).find((value) =>
    value !== undefined && value !== ""
  );
  return locale !== undefined && !/utf-?8/i.test(locale);
}

/**
 * Makes a name safe to print, in ASCII characters where the locale has no others.
 *
 * @param text any text.
 * @returns the text with octal escapes.
 */
export function printable(text: string): string {
  const escaped = escapeControl(text);
  if (!isAscii()) return escaped;
  return escaped.replace(
    /[^\0-\x7f]+/g,
    (part) =>
      Array.from(new TextEncoder().encode(part), (byte) => `\\${byte.toString(8).padStart(3, "0")}`).join(""),
  );
}
