/**
 * Checks the one direction of the library's rooms (ARCHITECTURE.md), and prints a table of them: their files
 * and lines, the imports upward, the circles, the longest file and the five longest functions. The exit status
 * is 1 if an import is wrong.
 *
 *     deno run -A scripts/rooms.ts
 *
 * @module
 */

// The script is no part of the library, so its parser stands here and not in the import map.
// deno-lint-ignore no-import-prefix
import ts from "npm:typescript@5.9.3";

/** The rooms from top to bottom. A file imports from its own room and from those below it. */
const ROOMS: readonly (readonly [room: string, ...paths: string[]])[] = [
  ["cli", "cli.ts", "cli/"],
  ["mod.ts", "mod.ts"],
  ["linux/mod.ts", "linux/mod.ts"],
  ["containerd", "containerd/"],
  ["linux/sandbox", "linux/sandbox/"],
  ["linux/manager", "linux/manager/"],
  ["linux/mount", "linux/mount/"],
  ["linux/filesystem", "linux/filesystem/"],
  ["linux/idmap", "linux/idmap/"],
  ["linux/loop", "linux/loop/"],
  ["linux/temp", "linux/temp/"],
  ["linux/unmount", "linux/unmount/"],
  ["linux/namespace", "linux/namespace/"],
  ["linux/mountinfo", "linux/mountinfo/"],
  ["linux/spec", "linux/spec/"],
  ["linux/path", "linux/path/"],
  ["linux/pidfd.ts", "linux/pidfd.ts"],
  ["linux/syscalls", "linux/syscalls/"],
  ["ffi", "ffi/"],
];

/** Rooms that may import less than what is below them, and why. */
const LIMITS: Record<string, { reason: string; allows(imported: Import): boolean }> = {
  "linux/mod.ts": {
    reason: "the raw entry has system calls only",
    allows: ({ to }) => to.startsWith("linux/syscalls/") || to.startsWith("ffi/"),
  },
  "linux/spec": {
    reason: "linux/spec makes no system call",
    allows: ({ to, isType }) =>
      isType || to.startsWith("linux/spec/") || to.startsWith("linux/path/") ||
      to === "linux/syscalls/constants.ts" || /^ffi\/(text|memory|errno|scratch)\.ts$/.test(to),
  },
};

/** The directories that the library's files are in; the files beside them are the entries. */
const DIRECTORIES = ["cli", "containerd", "linux", "ffi"];

/** An import of a file of this project. */
export interface Import {
  /** The importing file, from the project's directory. */
  from: string;
  /** The line that the import begins on. */
  line: number;
  /** The imported file, from the project's directory. */
  to: string;
  /** Whether only types are imported. */
  isType: boolean;
}

/** A function and how long it is, from its first to its last line. */
export interface FunctionLength {
  /** Its name, or that of the variable or property that it is assigned to. */
  name: string;
  /** The file it is in. */
  file: string;
  /** The line it begins on. */
  line: number;
  /** How many lines it has. */
  lines: number;
}

/** What a file imports, and its functions. */
export interface ParsedFile {
  /** Its imports of this project's files. */
  imports: Import[];
  /** Its functions with a body. */
  functions: FunctionLength[];
}

/**
 * The room of a file.
 *
 * @param file from the project's directory, such as "linux/spec/mount.ts".
 * @returns its index from the top, -1 if the file is in no room.
 */
function rankOf(file: string): number {
  return ROOMS.findIndex(([, ...paths]) =>
    paths.some((path) => path.endsWith("/") ? file.startsWith(path) : file === path)
  );
}

/**
 * Reads a file's imports and functions.
 *
 * @param file the file, from the project's directory.
 * @param text its text.
 * @returns its imports of this project's files, and its functions.
 */
export function parseFile(file: string, text: string): ParsedFile {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const parsed: ParsedFile = { imports: [], functions: [] };
  const lineOf = (position: number) => source.getLineAndCharacterOfPosition(position).line + 1;
  const visit = (node: ts.Node) => {
    const line = lineOf(node.getStart(source));
    const specifier = specifierOf(node);
    if (specifier?.startsWith(".")) {
      const to = new URL(specifier, `file:///${file}`).pathname.slice(1);
      parsed.imports.push({ from: file, line, to, isType: isTypeImport(node) });
    }
    if (ts.isFunctionLike(node) && "body" in node && node.body) {
      parsed.functions.push({ name: nameOf(node), file, line, lines: lineOf(node.getEnd()) - line + 1 });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return parsed;
}

function specifierOf(node: ts.Node): string | undefined {
  const specifier = ts.isImportDeclaration(node) || ts.isExportDeclaration(node)
    ? node.moduleSpecifier
    : ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)
    ? node.argument.literal
    : ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword
    ? node.arguments[0]
    : undefined;
  return specifier && ts.isStringLiteralLike(specifier) ? specifier.text : undefined;
}

function isTypeImport(node: ts.Node): boolean {
  if (ts.isImportTypeNode(node)) return true;
  const clause = ts.isImportDeclaration(node) ? node.importClause : undefined;
  if (clause?.isTypeOnly || ts.isExportDeclaration(node) && node.isTypeOnly) return true;
  const named = ts.isExportDeclaration(node)
    ? node.exportClause
    : clause?.name
    ? undefined
    : clause?.namedBindings;
  if (named === undefined || !(ts.isNamedImports(named) || ts.isNamedExports(named))) return false;
  return named.elements.length > 0 && [...named.elements].every(({ isTypeOnly }) => isTypeOnly);
}

function nameOf(node: ts.Node): string {
  const { name } = node as ts.NamedDeclaration;
  if (name) return name.getText();
  if (ts.isConstructorDeclaration(node)) return "constructor";
  const { name: given } = node.parent as ts.NamedDeclaration;
  return given?.getText() ?? "a function without a name";
}

/**
 * What is wrong with the imports: those upward, those of files that are no part of the library, and those
 * that a room's limit forbids.
 *
 * @param imports the imports of all files of the library.
 * @returns one line each, as FILE:LINE imports FILE: REASON.
 */
export function wrongImports(imports: readonly Import[]): string[] {
  return imports.flatMap((imported) => {
    const { from, line, to } = imported;
    const reason = wrongReason(imported);
    return reason === undefined ? [] : [`${from}:${line} imports ${to}: ${reason}`];
  });
}

function wrongReason(imported: Import): string | undefined {
  const [from, to] = [rankOf(imported.from), rankOf(imported.to)];
  if (to === -1) return "in no room of the library";
  if (to < from) return "upward";
  const limit = LIMITS[ROOMS[from]?.[0] ?? ""];
  return limit?.allows(imported) === false ? limit.reason : undefined;
}

/**
 * Circles of files that import each other.
 *
 * @param imports the imports of all files of the library.
 * @returns the shortest circle through each file that is on one, each circle once, as its files in order.
 */
export function circles(imports: readonly Import[]): string[][] {
  const next = new Map<string, string[]>();
  for (const { from, to } of imports) next.set(from, [...next.get(from) ?? [], to]);
  const found = new Map<string, string[]>();
  for (const file of [...next.keys()].sort()) {
    const circle = circleThrough(file, next);
    const key = circle?.toSorted().join();
    if (circle && key !== undefined && !found.has(key)) found.set(key, circle);
  }
  return [...found.values()];
}

/** Breadth first, so the first way back to the file is the shortest. */
function circleThrough(start: string, next: ReadonlyMap<string, string[]>): string[] | undefined {
  const ways = [[start]];
  const seen = new Set<string>();
  for (const way of ways) {
    for (const file of next.get(way.at(-1) ?? "") ?? []) {
      if (file === start) return way;
      if (seen.has(file)) continue;
      seen.add(file);
      ways.push([...way, file]);
    }
  }
  return undefined;
}

/** The library's files, from the project's directory. */
function libraryFiles(project: URL): string[] {
  const list = (directory: string): string[] =>
    [...Deno.readDirSync(new URL(directory, project))].flatMap(({ name, isDirectory }) => {
      const path = `${directory}${name}`;
      if (isDirectory) return directory === "" ? [] : list(`${path}/`);
      return path.endsWith(".ts") ? [path] : [];
    });
  const exists = DIRECTORIES.filter((name) =>
    [...Deno.readDirSync(project)].some((entry) => entry.name === name)
  );
  return [...list(""), ...exists.flatMap((name) => list(`${name}/`))].sort();
}

function byLength<T extends { lines: number }>(items: readonly T[]): T[] {
  return items.toSorted((a, b) => b.lines - a.lines);
}

/** A file of the library. */
interface LibraryFile extends ParsedFile {
  /** From the project's directory. */
  file: string;
  /** How many lines it has. */
  lines: number;
}

function readFiles(project: URL): LibraryFile[] {
  return libraryFiles(project).map((file) => {
    const text = Deno.readTextFileSync(new URL(file, project));
    return { file, lines: text.trimEnd().split("\n").length, ...parseFile(file, text) };
  });
}

function printRooms(files: readonly LibraryFile[]): void {
  console.log("room               files  lines");
  for (const [rank, [room]] of ROOMS.entries()) {
    const inside = files.filter(({ file }) => rankOf(file) === rank);
    if (inside.length === 0) continue; // not built yet
    const lines = inside.reduce((sum, file) => sum + file.lines, 0);
    console.log(`${room.padEnd(18)} ${String(inside.length).padStart(5)} ${String(lines).padStart(6)}`);
  }
}

function printLongest(files: readonly LibraryFile[]): void {
  const [file] = byLength(files.filter(({ file }) => !file.startsWith("containerd/api/"))); // made by a script
  if (file) console.log(`longest file: ${file.file}, ${file.lines} lines`);
  console.log("longest functions:");
  for (const { name, file, line, lines } of byLength(files.flatMap((each) => each.functions)).slice(0, 5)) {
    console.log(`  ${name} (${file}:${line}), ${lines} lines`);
  }
}

function main(): number {
  const files = readFiles(new URL("../", import.meta.url));
  const imports = files.flatMap((file) => file.imports);
  const wrong = wrongImports(imports);
  const round = circles(imports);
  const homeless = files.filter(({ file }) => rankOf(file) === -1).map(({ file }) => file);
  printRooms(files);
  console.log();
  console.log(`imports upward: ${wrong.filter((line) => line.endsWith(": upward")).length}`);
  console.log(`circles: ${round.length}`);
  printLongest(files);
  for (const line of wrong) console.error(line);
  for (const circle of round) console.error(`${[...circle, circle[0]].join(" imports ")}: a circle`);
  for (const file of homeless) console.error(`${file}: in no room of the library`);
  return wrong.length + round.length + homeless.length > 0 ? 1 : 0;
}

if (import.meta.main) Deno.exit(main());
