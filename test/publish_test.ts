import { assert, assertEquals } from "./assert.ts";
import { project, say } from "./ways.ts";

interface Documented {
  doc?: string;
  tags?: { kind: string; doc?: string }[];
}

interface DocumentedSymbol {
  name: string;
  declarations: { kind: string; jsDoc?: Documented }[];
}

interface Entry {
  module_doc: Documented;
  symbols: DocumentedSymbol[];
}

const config = JSON.parse(Deno.readTextFileSync(new URL("deno.json", project)));
const entries = Object.values<string>(config.exports).map((path) => new URL(path, project).pathname);

async function documentation(): Promise<[string, Entry][]> {
  const { code, out, err } = await say(Deno.execPath(), ["doc", "--json", ...entries]);
  assertEquals(code, 0, err);
  return Object.entries<Entry>(JSON.parse(out.join("\n")).nodes);
}

const hasExample = ({ doc = "", tags = [] }: Documented) =>
  tags.some(({ kind }) => kind === "example") ||
  /for an example\.$/.test([doc, ...tags.map((tag) => tag.doc ?? "")].join("").trim());

// What JSR's score counts and a package can settle. Its description and the runtimes are set on JSR's own page of the
// package, and its provenance by who publishes it.
Deno.test("every entry says what it is and has an example, and so has the README", async () => {
  const all = await documentation();
  assertEquals(all.length, entries.length);
  for (const [entry, { module_doc }] of all) {
    assert((module_doc.doc ?? "").length > 0, `${entry} says nothing`);
    assert(hasExample(module_doc), `${entry} has no example`);
  }
  assert(Deno.readTextFileSync(new URL("README.md", project)).includes("```ts"));
});

Deno.test("every symbol is documented, every function with an example", async () => {
  for (const [entry, { symbols }] of await documentation()) {
    for (const { name, declarations } of symbols) {
      for (const { kind, jsDoc = {} } of declarations) {
        if (kind === "reference") continue; // documented at the entry that has it first
        assert((jsDoc.doc ?? "").length > 0, `${name} of ${entry} is not documented`);
        assert(kind !== "function" || hasExample(jsDoc), `${name} of ${entry} has no example`);
      }
    }
  }
});

Deno.test("what is published has no slow types, and is the library and the command alone", async () => {
  const args = ["publish", "--dry-run", "--allow-dirty"];
  const { code, err } = await say(Deno.execPath(), args, { cwd: project.pathname });
  assertEquals(code, 0, err);
  const files = [...err.matchAll(/file:\/\/(\S+)/g)].map(([, path = ""]) =>
    path.slice(project.pathname.length)
  );
  const modules = files.filter((path) => path.endsWith(".ts"));
  assertEquals(modules.filter((path) => !/^(mod|cli|(ffi|linux|cli)\/.*)\.ts$/.test(path)), []);
  assert(["mod.ts", "linux/mod.ts", "cli.ts"].every((entry) => modules.includes(entry)));
});
