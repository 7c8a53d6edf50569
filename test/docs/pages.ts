/**
 * The commands of the pages: their `console` blocks.
 *
 * A block's lines that begin with "$ " are commands, and the lines after one are what it prints; "…" stands for any text.
 * A comment before a block says what it needs: `<!-- before: SHELL -->` is run first, and a block after `<!-- not run: WHY
 * -->` is not run. The blocks of a page are run in one shell, in their order.
 *
 * @module
 */

const project = new URL("../..", import.meta.url);

/** A command with what it prints. */
export interface Shown {
  /** The command, of one line or several. */
  readonly command: string;
  /** What is printed after it. */
  readonly output: string;
  /** The line of the page. */
  readonly line: number;
}

/** The commands of a page. */
export interface Session {
  /** The page's path. */
  readonly page: string;
  /** What is run before the commands at the same index. */
  readonly before: ReadonlyMap<Shown, string>;
  /** The commands. */
  readonly commands: readonly Shown[];
}

/** The pages that a reader sees. */
export function pages(): string[] {
  const docs = [...Deno.readDirSync(new URL("docs", project))].map(({ name }) => `docs/${name}`);
  return ["README.md", "SECURITY.md", "CONTRIBUTING.md", "bench/README.md", ...docs].filter((path) =>
    path.endsWith(".md")
  )
    .sort();
}

/** The text of a page. */
export function readPage(page: string): string {
  return Deno.readTextFileSync(new URL(page, project));
}

const BLOCK = /(?:<!-- (before|not run):\s([^]*?)\s-->\n+)?```(sh|console)\n([^]*?)```/g;

/** The commands of a page that are run. */
export function session(page: string, text: string): Session {
  const before = new Map<Shown, string>();
  const commands = [...text.matchAll(BLOCK)].flatMap((match) => {
    const [block, comment, words = "", kind, body = ""] = match;
    if (comment === "not run" || kind === "sh") return [];
    const fence = match.index + block.indexOf("```console");
    const shown = commandsOf(body, text.slice(0, fence).split("\n").length + 1);
    if (comment === "before" && shown[0]) before.set(shown[0], words);
    return shown;
  });
  return { page, before, commands };
}

/** The blocks of a page that are neither run nor say why. */
export function unexplained(text: string): string[] {
  return [...text.matchAll(BLOCK)].flatMap(([, comment, , kind, body = ""]) =>
    kind === "sh" && comment !== "not run" ? [body] : []
  );
}

function commandsOf(body: string, line: number): Shown[] {
  const lines = body.split("\n").slice(0, -1);
  const shown: { command: string; output: string; line: number }[] = [];
  for (const [index, text] of lines.entries()) {
    if (text.startsWith("$ ")) shown.push({ command: text.slice(2), output: "", line: line + index });
    else {
      const last = shown.at(-1);
      if (last === undefined) throw new Error(`output without a command: ${text}`);
      if (text.startsWith("> ")) last.command += `\n${text.slice(2)}`;
      else last.output += `${text}\n`;
    }
  }
  return shown;
}

/** What is shown as a pattern: "…" stands for any text, and spaces at the end of a line don't count. */
export function pattern(output: string): RegExp {
  const text = output.trimEnd().split("…").map((part) => RegExp.escape(part)).join("[^]*?");
  return new RegExp(`^${text}$`);
}
