/**
 * Checks that the documentation says what a call needs, where a reader finds it. The exit status is 1 if it
 * does not.
 *
 *     deno run -A scripts/docs.ts
 *
 * - Each exported function, class and method that can reach a system call has a paragraph "Needs …":
 *   permissions, capabilities, the kernel. What is said of a class or an interface holds for its methods.
 * - That paragraph stands before the first tag. After a tag it is a part of the tag's text.
 * - Each file that ARCHITECTURE.md names exists, and has the function that a row of its table names beside it.
 *
 * @module
 */

/** Functions and classes that reach no system call; a class stands for its methods. */
const PURE: readonly string[] = [
  "bind",
  "errnoName",
  "errnoNumber",
  "fsTypeFilter",
  "image",
  "isErrno",
  "isReadonly",
  "parseMounts",
  "MountError",
  "overlay",
  "parentsFilter",
  "parseIdMappings",
  "parseMountInfo",
  "prefixFilter",
  "pretendMissing",
  "readonlyMounts",
  "removeIdMapOption",
  "removeVolatileOption",
  "singleEntryFilter",
  "SyscallError",
  "tmpfs",
];

/** How a paragraph begins that must stand before the tags. */
const NEEDS = /^(Needs|From Linux|Before Linux)\b/;

/** A docstring: its text up to the first tag, and its tags. */
export interface JsDoc {
  /** The text before the tags. */
  doc?: string;
  /** The tags, such as `param`, with their text. */
  tags?: { kind: string; name?: string; doc?: string }[];
}

/** Something with a docstring, or without, as `deno doc --json` prints it. */
export interface Documented {
  /** Its name. */
  name?: string;
  /** Such as "function"; that of a getter is "getter". */
  kind?: string;
  /** The file and the line. */
  location?: { filename: string; line: number };
  /** What is said of it. */
  jsDoc?: JsDoc;
  /** Its parts: the methods and properties of a class. */
  def?: { methods?: Documented[] };
}

/** An exported name and what it stands for. */
export interface DocSymbol {
  /** The name. */
  name: string;
  /** More than one for an overloaded function. */
  declarations: Documented[];
}

/**
 * What is missing of the needs.
 *
 * @param symbols the exported names.
 * @param pure the names of those that reach no system call.
 * @returns one line each.
 */
export function missingNeeds(symbols: readonly DocSymbol[], pure: readonly string[]): string[] {
  const names = new Set(symbols.map(({ name }) => name));
  const unknown = pure.filter((name) => !names.has(name)).map((name) =>
    `${name}: is listed as pure in scripts/docs.ts, and not exported`
  );
  const wrong = symbols.flatMap(({ name, declarations }) =>
    declarations.flatMap((declaration) => {
      if (!pure.includes(name)) return withoutNeeds(name, declaration);
      return [declaration, ...methodsOf(declaration)].filter(saysNeeds).map((one) =>
        `${at(one)}: ${name}: is listed as pure in scripts/docs.ts, and says "Needs"`
      );
    })
  );
  return [...unknown, ...wrong];
}

/** A function says it, or a class or interface for all of its methods, or each method. */
function withoutNeeds(name: string, declaration: Documented): string[] {
  if (saysNeeds(declaration)) return [];
  if (declaration.kind === "function") return [`${at(declaration)}: ${name}: does not say what it needs`];
  const silent = methodsOf(declaration).filter((method) => !saysNeeds(method)).map((method) => method.name);
  if (silent.length === 0) return [];
  return [`${at(declaration)}: ${name}: does not say what its methods need: ${silent.join(", ")}`];
}

/** Without the getters, which return what is known already. */
function methodsOf({ def }: Documented): Documented[] {
  return (def?.methods ?? []).filter(({ kind }) => kind === "method");
}

/** After a tag is wrong too, and found by {@linkcode swallowedParagraphs}: each mistake is one line. */
function saysNeeds({ jsDoc }: Documented): boolean {
  return /\bNeeds\b/.test(jsDoc?.doc ?? "") ||
    (jsDoc?.tags ?? []).some(({ doc }) => swallowed(doc) !== undefined);
}

/** The first paragraph of a tag's text that must stand before the tags. */
function swallowed(doc = ""): string | undefined {
  return doc.split(/\n\s*\n/).map((paragraph) => paragraph.trimStart()).find((text) => NEEDS.test(text));
}

function at({ location }: Documented): string {
  return location ? `${location.filename}:${location.line}` : "somewhere";
}

/**
 * Paragraphs that stand after a tag, and so in its text.
 *
 * @param documented anything that `deno doc --json` prints; all that is inside it is looked at.
 * @param outer what it is a part of, for a part without a location.
 * @returns one line each.
 */
export function swallowedParagraphs(documented: unknown, outer: Documented = {}): string[] {
  if (documented === null || typeof documented !== "object") return [];
  const one: Documented = { ...outer, ...documented };
  const { tags = [] } = (documented as Documented).jsDoc ?? {};
  const found = tags.flatMap(({ kind, doc }) => {
    const [first] = swallowed(doc)?.split("\n") ?? [];
    return first === undefined ? [] : [`${at(one)}: ${one.name ?? "?"}: @${kind} swallows "${first}"`];
  });
  const parts = Object.values(documented).flatMap((part) => swallowedParagraphs(part, one));
  return [...found, ...parts];
}

/**
 * The files that a page names in backticks, as a path from the project's directory.
 *
 * @param page the page's text.
 * @returns the files and directories, each once.
 */
export function namedFiles(page: string): string[] {
  const names = [...page.matchAll(/`((?:cli|ffi|linux|scripts|test)\/[\w./]*)`/g)].map(([, name = ""]) =>
    name
  );
  return [...new Set(names)];
}

/** A function or class, and the file that a page says it is in. */
export interface NamedCode {
  /** Its name. */
  name: string;
  /** The file, from the project's directory. */
  file: string;
}

/**
 * The functions and classes that a page's tables name, each in the column before its file.
 *
 * @param page the page's text.
 * @returns the functions and classes, in their order.
 */
export function namedCode(page: string): NamedCode[] {
  const rows = page.matchAll(
    /\| `(\w+)(?:\(\))?` +\| `((?:cli|ffi|linux|scripts|test)\/[\w./]+\.ts)` +\|$/gm,
  );
  return [...rows].map(([, name = "", file = ""]) => ({ name, file }));
}

/**
 * Whether a file declares a function or a class.
 *
 * @param text the file's text.
 * @param name the name.
 * @returns false if it only uses it.
 */
export function declares(text: string, name: string): boolean {
  return new RegExp(`^(export )?(async )?(function\\*?|class) ${name}\\b`, "m").test(text);
}

function readFile(path: URL): string | undefined {
  try {
    return Deno.statSync(path).isDirectory ? "" : Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function wrongNames(project: URL, page: string): string[] {
  const text = Deno.readTextFileSync(new URL(page, project));
  const read = (file: string) => readFile(new URL(file, project));
  return [
    ...namedFiles(text).filter((file) => read(file) === undefined)
      .map((file) => `${page}: names ${file}, which does not exist`),
    ...namedCode(text).filter(({ name, file }) => !declares(read(file) ?? "", name))
      .map(({ name, file }) => `${page}: ${name} is not in ${file}`),
  ];
}

/** Runs `deno doc` on the entries, each of which reads its own names. */
async function readSymbols(project: URL): Promise<DocSymbol[]> {
  const args = [
    "doc",
    "--json",
    "mod.ts",
    "linux/mod.ts",
    "linux/manager/mod.ts",
    "linux/sandbox/mod.ts",
    "cli.ts",
  ];
  const command = new Deno.Command(Deno.execPath(), { args, cwd: project, stderr: "inherit" });
  const { success, stdout } = await command.output();
  if (!success) throw new Error("deno doc failed");
  const { nodes } = JSON.parse(new TextDecoder().decode(stdout)) as {
    nodes: Record<string, { symbols: DocSymbol[] }>;
  };
  return Object.values(nodes).flatMap(({ symbols }) => symbols);
}

async function main(): Promise<number> {
  const project = new URL("../", import.meta.url);
  const symbols = await readSymbols(project);
  const offenders = new Set([
    ...missingNeeds(symbols, PURE),
    ...swallowedParagraphs(symbols),
    ...wrongNames(project, "ARCHITECTURE.md"),
  ]);
  for (const line of offenders) console.error(line.replace(project.href, ""));
  console.log(`${symbols.length} exported names, ${offenders.size} mistakes in the documentation`);
  return offenders.size > 0 ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main());
