/**
 * Kernel modules, in the order in which they can be loaded.
 *
 * @module
 */

import { exists } from "./exists.ts";
import { run } from "./run.ts";

/** A module, ready to be loaded. */
export interface Module {
  /** Its path below /usr, without the suffix of a compressed file. */
  path: string;
  /** Its bytes. */
  content: Uint8Array;
}

/**
 * Finds modules, and before each those that it depends on.
 *
 * @param directory a kernel package's files.
 * @param names the modules; one that is not there is built in, or this kernel has none.
 * @returns the modules.
 */
export async function findModules(directory: string, names: readonly string[]): Promise<Module[]> {
  const root = modulesDirectory(directory);
  const files = new Map([...walk(root)].map((path) => [moduleName(path), path]));
  const found = new Map<string, Module>();
  const visit = async (name: string) => {
    const path = files.get(name);
    if (path === undefined || found.has(name)) return;
    const content = await readModule(path);
    for (const needed of dependencies(content)) await visit(needed);
    found.set(name, { path: `lib/modules${path.slice(root.length)}`.replace(COMPRESSED, ""), content });
  };
  for (const name of names) await visit(name);
  return [...found.values()];
}

/**
 * Finds where an unpacked kernel has its modules.
 *
 * @param kernel a kernel package's files.
 * @returns the directory that has one directory a version.
 */
export function modulesDirectory(kernel: string): string {
  const merged = `${kernel}/usr/lib/modules`; // as newer packages have it
  return exists(merged) ? merged : `${kernel}/lib/modules`;
}

function* walk(directory: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(directory)) {
    const path = `${directory}/${name}`;
    if (isDirectory) yield* walk(path);
    else if (MODULE.test(name)) yield path;
  }
}

const COMPRESSED = /\.(xz|zst)$/; // Debian's are .xz since 6.12
const MODULE = /\.ko(\.xz|\.zst)?$/;

const moduleName = (path: string) =>
  path.slice(path.lastIndexOf("/") + 1).replace(MODULE, "").replaceAll("-", "_");

async function readModule(path: string): Promise<Uint8Array> {
  const [, format] = COMPRESSED.exec(path) ?? [];
  if (format === undefined) return await Deno.readFile(path);
  return (await run(format === "xz" ? "xz" : "zstd", ["-dc", path])).bytes;
}

/** What a module says of itself, section .modinfo: texts that end with NUL bytes, `depends=a,b` and `softdep=pre: c`. */
function dependencies(module: Uint8Array): string[] {
  const text = new TextDecoder("latin1").decode(module);
  const [, hard = ""] = /\0depends=([^\0]*)/.exec(text) ?? [];
  const soft = [...text.matchAll(/\0softdep=pre: ([^\0]*)/g)].flatMap(([, names = ""]) => names.split(/\s+/));
  return [...hard.split(","), ...soft].filter((name) => name !== "").map((name) => name.replaceAll("-", "_"));
}
