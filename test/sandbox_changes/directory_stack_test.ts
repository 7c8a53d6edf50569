import { DirectoryStack } from "../../linux/sandbox/changes/directory_stack.ts";
import { O_DIRECTORY, O_RDONLY } from "../../linux/syscalls/constants.ts";
import { getdents64, open } from "../../linux/syscalls/mod.ts";
import { assert, assertEquals, assertThrows } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { openFiles } from "../kernel.ts";
import { run } from "./overlay.ts";

const DEPTH = 100;

/** Goes down into a hundred directories of the name "d", of which the tenth holds a file "tenth". */
function deepStack(t: KernelContext): DirectoryStack {
  const names = Array<string>(DEPTH).fill("d");
  t.make(["root", ...names].join("/"));
  Deno.writeTextFileSync(`${t.dir}/root/${names.slice(0, 10).join("/")}/tenth`, "");
  const stack = new DirectoryStack(open(`${t.dir}/root`, O_RDONLY | O_DIRECTORY), O_RDONLY);
  for (const name of names) stack.enter(name);
  return stack;
}

kernelTest("of a deep tree, the root and the last directories are open", {}, (t) => {
  const before = openFiles().length;
  using stack = deepStack(t);
  assert(openFiles().length - before <= 65, `${openFiles().length - before} descriptors`);
  for (let depth = DEPTH; depth > 10; depth--) stack.leave();
  assertEquals([stack.depth, getdents64(stack.fd).sort()], [10, ["d", "tenth"]]);
  assert(openFiles().length - before <= 65);
});

kernelTest("a directory whose parent was moved away is found by its path", {}, (t) => {
  using stack = deepStack(t);
  const at = (depth: number) => `${t.dir}/root/${Array(depth).fill("d").join("/")}`;
  Deno.renameSync(at(30), `${t.dir}/moved`); // `..` of it leads elsewhere
  for (let depth = DEPTH; depth > 10; depth--) stack.leave();
  assertEquals(getdents64(stack.fd).sort(), ["d", "tenth"]);
});

kernelTest("a directory that is at neither place is an error, and the next one is found", {}, (t) => {
  using stack = deepStack(t);
  const at = (depth: number) => `${t.dir}/root/${Array(depth).fill("d").join("/")}`;
  Deno.renameSync(at(30), `${t.dir}/moved`);
  Deno.renameSync(at(29), `${t.dir}/lost`);
  Deno.mkdirSync(at(29)); // another one at its path
  for (let depth = DEPTH; depth > 30; depth--) stack.leave();
  assertThrows(() => stack.leave(), Error, "ESTALE");
  for (let depth = 29; depth > 10; depth--) stack.leave();
  assertEquals(getdents64(stack.fd).sort(), ["d", "tenth"]);
});

kernelTest("a link, a file, a mount and a path are not entered", {
  tools: ["mount", "umount"],
  permissions: { run: true },
}, async (t) => {
  t.make("root/mounted", "outside");
  Deno.symlinkSync("../outside", `${t.dir}/root/link`);
  Deno.writeTextFileSync(`${t.dir}/root/file`, "");
  await run("mount", "-t", "tmpfs", "test", `${t.dir}/root/mounted`);
  try {
    using stack = new DirectoryStack(open(`${t.dir}/root`, O_RDONLY | O_DIRECTORY), O_RDONLY);
    for (const name of ["link", "file", "mounted", "..", "../outside"]) {
      assertThrows(() => stack.enter(name), Error);
    }
    assertEquals(stack.depth, 0);
  } finally {
    await run("umount", `${t.dir}/root/mounted`);
  }
});
