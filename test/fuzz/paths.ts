/**
 * Compares rootPath() with openat2(2) in random trees of directories and symbolic links.
 *
 * @module
 */

import fc from "fast-check";
import { isErrno, O_PATH, open, openat2, readlink, RESOLVE_IN_ROOT } from "../../linux/mod.ts";
import { rootPath } from "../../mod.ts";
import { assertEquals } from "../assert.ts";

const part = fc.constantFrom("a", "b", "c", "..", ".", "");
const path = fc.array(part, { minLength: 1, maxLength: 6 }).chain((parts) =>
  fc.constantFrom(parts.join("/"), `/${parts.join("/")}`)
);
const trees = fc.record({
  directories: fc.array(fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 3 }), {
    maxLength: 5,
  }),
  links: fc.array(fc.tuple(fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 3 }), path), {
    maxLength: 4,
  }),
  paths: fc.array(path, { minLength: 5, maxLength: 10 }),
});

/** Compares rootPath() with the kernel in `count` trees. */
export async function comparePaths(dir: string, count: number): Promise<void> {
  let index = 0;
  await fc.assert(
    fc.asyncProperty(trees, async ({ directories, links, paths }) => {
      const root = `${dir}/${index++}`;
      Deno.mkdirSync(root);
      for (const names of directories) {
        ignoreConflict(() => Deno.mkdirSync(`${root}/${names.join("/")}`, { recursive: true }));
      }
      for (const [names, to] of links) {
        ignoreConflict(() => makeLink(to || ".", `${root}/${names.join("/")}`));
      }
      for (const path of paths) {
        const expected = inKernel(root, path);
        if (expected !== undefined) assertEquals(await rootPath(root, path), expected, path);
        else {await rootPath(root, path).then((found) =>
            assertEquals(`${found}/`.startsWith(`${root}/`), true), refused);}
      }
      Deno.removeSync(root, { recursive: true });
    }),
    { numRuns: count },
  );
}

/** The path that the kernel finds; undefined if it does not exist, or has a loop of links. */
function inKernel(root: string, path: string): string | undefined {
  try {
    using directory = open(root, O_PATH);
    using found = openat2(directory.fd, path || ".", O_PATH, RESOLVE_IN_ROOT);
    return readlink(`/proc/self/fd/${found.fd}`);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "ELOOP")) return undefined;
    if (isErrno(error, "EAGAIN")) return inKernel(root, path); // a concurrent rename or mount while it resolved ".."
    throw error;
  }
}

/** Creates a symbolic link, unless its path leads through another link, which may lead anywhere. */
function makeLink(to: string, path: string): void {
  const parent = path.slice(0, path.lastIndexOf("/"));
  if (Deno.realPathSync(parent) === parent) Deno.symlinkSync(to, path);
}

function refused(error: unknown): void {
  if (!isErrno(error, "ELOOP")) throw error;
}

function ignoreConflict(make: () => void): void {
  try {
    make();
  } catch (error) {
    const { AlreadyExists, NotFound, FilesystemLoop, NotADirectory } = Deno.errors;
    if (![AlreadyExists, NotFound, FilesystemLoop, NotADirectory].some((kind) => error instanceof kind)) {
      throw error;
    }
  }
}
