/**
 * Kernel modules, in the order in which they can be loaded.
 *
 * @module
 */

/**
 * Finds modules, and before each those that it depends on.
 *
 * @param directory a kernel package's files.
 * @param names the modules; one that is not there is built in, or this kernel has none.
 * @returns their paths in the directory.
 */
export function moduleFiles(directory: string, names: readonly string[]): string[] {
  const files = new Map([...walk(directory, "lib/modules")].map((path) => [moduleName(path), path]));
  const ordered = new Set<string>();
  const visit = (name: string) => {
    const path = files.get(name);
    if (path === undefined || ordered.has(path)) return;
    for (const needed of dependencies(`${directory}/${path}`)) visit(needed);
    ordered.add(path);
  };
  for (const name of names) visit(name);
  return [...ordered];
}

function* walk(directory: string, path: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(`${directory}/${path}`)) {
    if (isDirectory) yield* walk(directory, `${path}/${name}`);
    else if (name.endsWith(".ko")) yield `${path}/${name}`;
  }
}

const moduleName = (path: string) =>
  path.slice(path.lastIndexOf("/") + 1, -".ko".length).replaceAll("-", "_");

/** What a module says of itself, section .modinfo: texts that end with NUL bytes, `depends=a,b` and `softdep=pre: c`. */
function dependencies(path: string): string[] {
  const text = new TextDecoder("latin1").decode(Deno.readFileSync(path));
  const [, hard = ""] = /\0depends=([^\0]*)/.exec(text) ?? [];
  const soft = [...text.matchAll(/\0softdep=pre: ([^\0]*)/g)].flatMap(([, names = ""]) => names.split(/\s+/));
  return [...hard.split(","), ...soft].filter((name) => name !== "").map((name) => name.replaceAll("-", "_"));
}
