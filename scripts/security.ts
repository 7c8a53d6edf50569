/**
 * Checks SECURITY.md: the promises are numbered P1, P2, … in their order, and each names at least one test, which
 * exists under exactly that name in that file. The exit status is 1 if a name is wrong.
 *
 *     deno run -A scripts/security.ts
 *
 * @module
 */

/** A promise, with its tests. */
export interface Promised {
  /** Its number, such as "P1". */
  number: string;
  /** The files and names of its tests. */
  tests: { file: string; name: string }[];
}

/** What stands for a variable part of a test's name. */
const ELLIPSIS = "…";

/**
 * Reads the promises of the page.
 *
 * @param page its text.
 * @returns them in their order.
 */
export function promises(page: string): Promised[] {
  const [, list = ""] = page.split(/^# .*$/m);
  const [all = ""] = list.split(/^## /m);
  return all.split(/^- (?=\*\*P)/m).slice(1).map((item) => ({
    number: /^\*\*(P\d+)\*\*/.exec(item)?.[1] ?? "",
    tests: [...joinLines(item).matchAll(/ - \[(test\/[^\]]+)\]\([^)]+\): "(.*?)"(?= - |$)/g)]
      .map(([, file = "", name = ""]) => ({ file, name })),
  }));
}

/** `deno fmt` may break a long line. */
function joinLines(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim();
}

/**
 * Finds the names of the tests in a file.
 *
 * @param text the text of the file.
 * @returns the names, with "…" for each variable part of a template.
 */
export function testNames(text: string): string[] {
  const pattern = /\b(?:kernelTest|sandboxTest|Deno\.test)\(\s*(?:"((?:[^"\\]|\\.)*)"|`([^`]*)`)/g;
  return [...text.matchAll(pattern)].map(([, plain, template = ""]) =>
    plain?.replaceAll('\\"', '"') ?? template.replaceAll(/\$\{[^}]*\}/g, ELLIPSIS)
  );
}

/**
 * What is wrong with the promises.
 *
 * @param all the promises.
 * @param read the text of a file; undefined if it does not exist.
 * @returns a line each.
 */
export function wrongPromises(
  all: readonly Promised[],
  read: (file: string) => string | undefined,
): string[] {
  const wrong = all.length === 0 ? ["SECURITY.md has no promises"] : [];
  for (const [index, { number, tests }] of all.entries()) {
    if (number !== `P${index + 1}`) wrong.push(`${number}: is promise ${index + 1}`);
    if (tests.length === 0) wrong.push(`${number}: names no test`);
    for (const { file, name } of tests) {
      const text = read(file);
      if (text === undefined) wrong.push(`${number}: ${file} does not exist`);
      else if (!testNames(text).includes(name)) wrong.push(`${number}: ${file} has no test "${name}"`);
    }
  }
  return wrong;
}

function main(): number {
  const project = new URL("../", import.meta.url);
  const read = (file: string) => {
    try {
      return Deno.readTextFileSync(new URL(file, project));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  };
  const all = promises(read("SECURITY.md") ?? "");
  const wrong = wrongPromises(all, read);
  for (const line of wrong) console.error(line);
  console.log(`${all.length} promises, ${wrong.length} mistakes in them`);
  return wrong.length > 0 ? 1 : 0;
}

if (import.meta.main) Deno.exit(main());
