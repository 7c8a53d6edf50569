/**
 * The page of evidence, `docs/trust.md`: each long run writes its own part of it, and leaves the others' as they are.
 *
 * @module
 */

const page = new URL("../docs/trust.md", import.meta.url);

const head = `# Evidence

What the long runs printed, put here by the runs themselves (\`--save\`). [SECURITY.md](../SECURITY.md) says what each
of them is to show.
`;

/** The parts, in the order in which they stand on the page. */
const parts = ["faults", "kernels", "fuzzing", "races", "soak"] as const;

/** A part of the page. */
export type Part = typeof parts[number];

/**
 * Writes a part of the page.
 *
 * @param part which one.
 * @param title its heading.
 * @param markdown what the run found: tables and sentences, with the command that finds it again.
 */
export async function record(part: Part, title: string, markdown: string): Promise<void> {
  const written = readParts(await readPage());
  const when = new Date().toISOString().slice(0, 10);
  const kernel = (await Deno.readTextFile("/proc/sys/kernel/osrelease")).trim();
  const run = `Run on ${when}, with Deno ${Deno.version.deno} on Linux ${kernel} (${Deno.build.arch}).`;
  written.set(part, `## ${title}\n\n${run}\n\n${markdown.trim()}\n`);
  const texts = parts.flatMap((name) => {
    const text = written.get(name);
    return text === undefined ? [] : [`${begin(name)}\n\n${text}\n${end(name)}\n`];
  });
  await Deno.writeTextFile(page, [head, ...texts].join("\n"));
  await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", page.pathname] }).output();
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

const begin = (part: string) => `<!-- ${part} -->`;
const end = (part: string) => `<!-- end of ${part} -->`;

async function readPage(): Promise<string> {
  try {
    return await Deno.readTextFile(page);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

function readParts(text: string): Map<Part, string> {
  const found = new Map<Part, string>();
  for (const part of parts) {
    const [, rest] = text.split(begin(part) + "\n");
    const [body] = rest?.split(end(part)) ?? [];
    if (body !== undefined) found.set(part, body.trim() + "\n");
  }
  return found;
}
