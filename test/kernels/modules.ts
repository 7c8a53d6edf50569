/**
 * Kernel modules, in the order in which they can be loaded.
 *
 * @module
 */

import { run } from "./run.ts";

/** A module, ready to be loaded. */
export interface Module {
  /** Its path in the kernel's package, without what says that it is compressed. */
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
  const files = new Map([...walk(directory, "lib/modules")].map((path) => [moduleName(path), path]));
  const found = new Map<string, Module>();
  const visit = async (name: string) => {
    const path = files.get(name);
    if (path === undefined || found.has(name)) return;
    const content = await readModule(`${directory}/${path}`);
    for (const needed of dependencies(content)) await visit(needed);
    found.set(name, { path: path.replace(COMPRESSED, ""), content });
  };
  for (const name of names) await visit(name);
  return [...found.values()];
}

function* walk(directory: string, path: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(`${directory}/${path}`)) {
    if (isDirectory) yield* walk(directory, `${path}/${name}`);
    else if (MODULE.test(name)) yield `${path}/${name}`;
  }
}

const COMPRESSED = /\.xz$/; // Debian's since 6.12
const MODULE = /\.ko(\.xz)?$/;

const moduleName = (path: string) =>
  path.slice(path.lastIndexOf("/") + 1).replace(MODULE, "").replaceAll("-", "_");

async function readModule(path: string): Promise<Uint8Array> {
  if (!COMPRESSED.test(path)) return await Deno.readFile(path);
  return (await run("xz", ["-dc", path])).bytes;
}

/** What a module says of itself, section .modinfo: texts that end with NUL bytes, `depends=a,b` and `softdep=pre: c`. */
function dependencies(module: Uint8Array): string[] {
  const text = new TextDecoder("latin1").decode(module);
  const [, hard = ""] = /\0depends=([^\0]*)/.exec(text) ?? [];
  const soft = [...text.matchAll(/\0softdep=pre: ([^\0]*)/g)].flatMap(([, names = ""]) => names.split(/\s+/));
  return [...hard.split(","), ...soft].filter((name) => name !== "").map((name) => name.replaceAll("-", "_"));
}
