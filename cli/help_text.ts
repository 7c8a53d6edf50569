/**
 * The text of `--help` that follows the options: paragraphs, and lines that begin with spaces and stay as they are.
 *
 * @module
 */

const WIDTH = 80;

/** A part of a text. */
export type HelpPart = { paragraph: string } | { lines: string[] };

/**
 * Divides a text into its parts.
 *
 * @param text the text.
 * @returns the paragraphs, each one line, and the blocks of indented lines.
 */
export function helpParts(text: string): HelpPart[] {
  const parts: HelpPart[] = [];
  let isNew = true;
  for (const line of text.split("\n")) {
    const last = parts.at(-1);
    if (line.trim() === "") {
      isNew = true;
    } else if (line.startsWith("  ")) {
      if (last && "lines" in last && !isNew) last.lines.push(line);
      else parts.push({ lines: [line] });
      isNew = false;
    } else {
      // A heading of the lines below is a paragraph of its own.
      const isHeading = /^(Examples?|Exit status):$/.test(line);
      if (last && "paragraph" in last && !isNew && !isHeading) last.paragraph += ` ${line}`;
      else parts.push({ paragraph: line });
      isNew = false;
    }
  }
  return parts;
}

/**
 * Breaks the paragraphs of a text into lines of at most 80 characters.
 *
 * @param text the text.
 * @returns the text; an empty line stands before each part that had one.
 */
export function wrapped(text: string): string {
  const blocks = text.split(/\n(?=\n)/);
  return blocks.map((block) => {
    const start = /^\n*/.exec(block)?.[0] ?? "";
    const lines = helpParts(block).flatMap((part) =>
      "lines" in part ? part.lines : wrapLine(part.paragraph, WIDTH)
    );
    return start + lines.join("\n");
  }).join("\n");
}

/**
 * Breaks a paragraph at its spaces.
 *
 * @param text the paragraph.
 * @param width the longest line.
 * @returns the lines.
 */
export function wrapLine(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = "";
    }
    line += line === "" ? word : ` ${word}`;
  }
  return [...lines, line];
}
