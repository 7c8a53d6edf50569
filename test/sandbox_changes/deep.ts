/**
 * Directories whose path is too long for any system call.
 *
 * @module
 */

import { files, utf8 } from "./files.ts";

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  chdir: { parameters: ["buffer"], result: "i32" },
});

function chdir(path: string): void {
  if (libc.chdir(new TextEncoder().encode(`${path}\0`)) !== 0) {
    throw new Error(`chdir ${path.slice(0, 100)} failed`);
  }
}

/** Makes directories in each other, with a file "a" in the first, "z" in each but the last, and "a" and its link "b" there. */
export function deepDirectory(root: string, depth: number, name: string): { path: string; remove(): void } {
  const before = Deno.cwd();
  chdir(root);
  for (let level = 0; level < depth; level++) {
    if (level === 0) files.write("a", utf8("first"));
    files.write("z", utf8(`level ${level}`));
    if (!files.mkdir(name)) throw new Error("mkdir failed");
    chdir(name);
  }
  files.write("a", utf8("last"));
  files.link("a", "b");
  chdir(before);
  const remove = () => {
    chdir(root);
    for (let level = 0; level < depth; level++) chdir(name);
    for (let level = depth; level >= 0; level--) {
      for (const file of ["a", "b", "z"]) files.unlink(file);
      if (level < depth) files.rmdir(name);
      if (level > 0) chdir("..");
    }
    chdir(before);
  };
  return { path: Array(depth).fill(name).join("/"), remove };
}
