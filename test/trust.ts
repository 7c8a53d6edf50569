/**
 * Writes `docs/trust.md`: each long run replaces its own part and leaves the other parts unchanged.
 *
 * @module
 */

import { format, replacePart } from "../scripts/markdown.ts";

export { markdownTable } from "../scripts/markdown.ts";

const page = new URL("../docs/trust.md", import.meta.url);

const head = `# Evidence

The results of the long test runs, written by the runs themselves (\`--save\`). [SECURITY.md](../SECURITY.md) lists the
promises that they test.
`;

/** The parts, in the order of the page. */
const parts = ["faults", "kernels", "fuzzing", "races", "soak"] as const;

/** A part of the page. */
export type Part = typeof parts[number];

/**
 * Writes a part of the page.
 *
 * @param part the part.
 * @param title the heading.
 * @param markdown the results: tables, sentences, and the command that repeats the run.
 */
export async function record(part: Part, title: string, markdown: string): Promise<void> {
  const when = new Date().toISOString().slice(0, 10);
  const kernel = (await Deno.readTextFile("/proc/sys/kernel/osrelease")).trim();
  const run = `Run on ${when}, with Deno ${Deno.version.deno} on Linux ${kernel} (${Deno.build.arch}).`;
  const written = await readPage();
  await Deno.writeTextFile(page, replacePart(written, part, `## ${title}\n\n${run}\n\n${markdown.trim()}`));
  await format(page);
}

/** The page, or a new one with an empty place for every part, so that their order does not depend on the first run. */
async function readPage(): Promise<string> {
  try {
    return await Deno.readTextFile(page);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return parts.reduce((text, part) => replacePart(text, part, ""), head);
  }
}
