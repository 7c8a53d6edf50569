/**
 * Kernel modules, in the order in which they can be loaded.
 *
 * @module
 */

import { exists } from "./exists.ts";
import { run } from "./run.ts";

/** A module, decompressed. */
export interface Module {
  /** Its path below /usr, without the suffix of a compressed file. */
  path: string;
  /** Its bytes. */
  content: Uint8Array;
}

/**
 * Finds modules, each after those that it depends on.
 *
 * @param directory the directory of the unpacked kernel packages.
 * @param names the modules; a name without a file is skipped, because the kernel may have it built in.
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
 * Finds the modules of an unpacked kernel.
 *
 * @param kernel the directory of the unpacked kernel packages.
 * @returns the directory that has a directory for each version.
 */
export function modulesDirectory(kernel: string): string {
  const merged = `${kernel}/usr/lib/modules`; // newer packages
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

/** Reads section .modinfo: strings that end with a NUL byte, such as `depends=a,b` and `softdep=pre: c`. */
function dependencies(module: Uint8Array): string[] {
  const text = new TextDecoder("latin1").decode(module);
  const [, hard = ""] = /\0depends=([^\0]*)/.exec(text) ?? [];
  const soft = [...text.matchAll(/\0softdep=pre: ([^\0]*)/g)].flatMap(([, names = ""]) => names.split(/\s+/));
  return [...hard.split(","), ...soft].filter((name) => name !== "").map((name) => name.replaceAll("-", "_"));
}
