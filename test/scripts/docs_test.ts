import {
  declares,
  type Documented,
  type JsDoc,
  missingNeeds,
  namedCode,
  namedFiles,
  swallowedParagraphs,
} from "../../scripts/docs.ts";
import { assertEquals } from "../assert.ts";

function documented(kind: string, jsDoc: JsDoc, methods: Documented[] = []): Documented {
  return { kind, location: { filename: "a.ts", line: 3 }, jsDoc, def: { methods } };
}

function missing(declaration: Documented, pure: string[] = []): string[] {
  return missingNeeds([{ name: "a", declarations: [declaration] }], pure);
}

Deno.test("a function says what it needs, unless it is listed as pure", () => {
  assertEquals(missing(documented("function", { doc: "Mounts.\n\nNeeds CAP_SYS_ADMIN." })), []);
  assertEquals(missing(documented("function", { doc: "Adds." }), ["a"]), []);
  assertEquals(missing(documented("function", { doc: "Mounts." })), [
    "a.ts:3: a: does not say what it needs",
  ]);
});

Deno.test("a class says what its methods need, or each method does", () => {
  const method = documented("method", { doc: "Detaches.\n\nNeeds root." });
  const silent = { ...documented("method", {}), name: "close" };
  assertEquals(missing(documented("class", { doc: "A device." }, [method])), []);
  assertEquals(missing(documented("class", { doc: "A device. Needs root." }, [silent])), []);
  assertEquals(missing(documented("class", { doc: "A device." }, [method, silent])), [
    "a.ts:3: a: does not say what its methods need: close",
  ]);
});

Deno.test("the list of pure functions has no name too many", () => {
  const doc = "Mounts. Needs root.";
  assertEquals(missing(documented("function", { doc }), ["a", "b"]), [
    "b: is listed as pure in scripts/docs.ts, and not exported",
    'a.ts:3: a: is listed as pure in scripts/docs.ts, and says "Needs"',
  ]);
});

Deno.test("a paragraph after a tag is found in the tag, wherever that is", () => {
  const tags = [{ kind: "param", doc: "the path." }, {
    kind: "throws",
    doc: "ENOENT.\n\nNeeds root,\nalways.",
  }];
  const inner = { ...documented("method", { tags }), name: "close" };
  assertEquals(swallowedParagraphs([documented("class", { doc: "A device." }, [inner])]), [
    'a.ts:3: close: @throws swallows "Needs root,"',
  ]);
});

Deno.test("the files that a page names are its paths in backticks", () => {
  const page = "`linux/loop/` has `linux/loop/loop.ts`, not `loop.ts`, `<<linux/mount/attach.ts>>` or `f()`.";
  assertEquals(namedFiles(`${page}\n${page}`), ["linux/loop/", "linux/loop/loop.ts"]);
});

Deno.test("the functions that a table names are those in the column before their file", () => {
  const page =
    "| retries | `retry()`  | `linux/a.ts` |\n| closes  | `Fds`      | `ffi/fd.ts`  |\n| other | text | `ffi/fd.ts` |";
  assertEquals(namedCode(page), [{ name: "retry", file: "linux/a.ts" }, { name: "Fds", file: "ffi/fd.ts" }]);
});

Deno.test("a file declares a function, and not one that it calls or imports", () => {
  const text = 'import { b } from "./b.ts";\nexport async function a(): void {\n  b();\n}\nclass C {}\n';
  assertEquals(["a", "b", "C"].filter((name) => declares(text, name)), ["a", "C"]);
});
