/**
 * The page of evidence, `docs/trust.md`: each long run writes its own part of it, and leaves the others' as they are.
 *
 * @module
 */

import { format, replacePart } from "../scripts/markdown.ts";

export { markdownTable } from "../scripts/markdown.ts";

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
  const when = new Date().toISOString().slice(0, 10);
  const kernel = (await Deno.readTextFile("/proc/sys/kernel/osrelease")).trim();
  const run = `Run on ${when}, with Deno ${Deno.version.deno} on Linux ${kernel} (${Deno.build.arch}).`;
  const written = await readPage();
  await Deno.writeTextFile(page, replacePart(written, part, `## ${title}\n\n${run}\n\n${markdown.trim()}`));
  await format(page);
}

/** With a place for every part, so that they stand in their order whichever run is first. */
async function readPage(): Promise<string> {
  try {
    return await Deno.readTextFile(page);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return parts.reduce((text, part) => replacePart(text, part, ""), head);
  }
}
