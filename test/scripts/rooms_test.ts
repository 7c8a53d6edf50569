import { circles, parseFile, wrongImports } from "../../scripts/rooms.ts";
import { assertEquals } from "../assert.ts";

function wrong(file: string, text: string): string[] {
  return wrongImports(parseFile(file, text).imports);
}

Deno.test("an import from a room above is upward, on however many lines it is written", () => {
  const text =
    `import {\n  a,\n} from "../spec/mount.ts";\n\nexport {\n  b,\n} from "../mount/execute.ts";\n`;
  assertEquals(wrong("linux/loop/loop.ts", text), [
    "linux/loop/loop.ts:5 imports linux/mount/execute.ts: upward",
  ]);
});

Deno.test("an import of a type, and one at run time, is upward too", () => {
  const text =
    `import type { A } from "../mod.ts";\ntype B = import("../cli/run.ts").B;\nimport("../mod.ts");\n`;
  assertEquals(wrong("ffi/fd.ts", text).map((line) => line.split(" ")[0]), [
    "ffi/fd.ts:1",
    "ffi/fd.ts:2",
    "ffi/fd.ts:3",
  ]);
});

Deno.test("an import that stands in a comment or in a string is none", () => {
  const text = `// import "../mod.ts";\nconst text = 'import "../mod.ts"';\n`;
  assertEquals(parseFile("ffi/fd.ts", text).imports, []);
});

Deno.test("no file of the library imports a test", () => {
  assertEquals(wrong("mod.ts", 'import { a } from "./test/assert.ts";'), [
    "mod.ts:1 imports test/assert.ts: in no room of the library",
  ]);
});

Deno.test("linux/spec imports constants and types of system calls, and no system call", () => {
  assertEquals(
    wrong("linux/spec/a.ts", 'import { MS_BIND } from "../syscalls/constants.ts";'),
    [],
  );
  assertEquals(wrong("linux/spec/a.ts", 'import { type Statx } from "../syscalls/stat.ts";'), []);
  assertEquals(wrong("linux/spec/a.ts", 'import { type Statx, statx } from "../syscalls/stat.ts";'), [
    "linux/spec/a.ts:1 imports linux/syscalls/stat.ts: linux/spec makes no system call",
  ]);
});

Deno.test("a circle is found once, with the files that are on it", () => {
  const imports = [["a", "b"], ["b", "c"], ["c", "b"], ["c", "d"]].map(([from = "", to = ""]) => ({
    from,
    to,
    line: 1,
    isType: false,
  }));
  assertEquals(circles(imports), [["b", "c"]]);
});

Deno.test("a function is counted from its first to its last line, without its docstring", () => {
  const text = "/**\n * Words.\n */\nexport function f(\n  a: string,\n): string {\n  return `}${a}`;\n}\n";
  assertEquals(parseFile("mod.ts", text).functions, [{ name: "f", file: "mod.ts", line: 4, lines: 5 }]);
});
