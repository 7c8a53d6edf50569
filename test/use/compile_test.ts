import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { readText } from "../kernel.ts";
import { allWorks, graph, map, project, type Said, say, selftest } from "./ways.ts";

/** Whether a module is built into the runtime, and so into a binary. */
const isOfRuntime = (specifier: string) => specifier.startsWith("node:");

const grants = ["--allow-ffi", "--allow-read", "--allow-write"];

function compile(file: string, env: Record<string, string> = {}): Promise<Said> {
  return say(Deno.execPath(), ["compile", ...grants, "-o", file, selftest], { env });
}

/** Whether `deno compile` works: it requires denort, the bare runtime, which it downloads unless DENORT_BIN names one. */
async function compiles(file: string): Promise<boolean> {
  const { code, err } = await compile(file);
  if (code === 0) return true;
  assert(err.includes("base binary"), err);
  console.log(
    "no denort (DENORT_BIN is not set, and the download fails): checking only the files in the binary",
  );
  return false;
}

kernelTest("a compiled program works completely, as one file", {
  permissions: { run: true, env: true },
}, async (t) => {
  const binary = `${t.dir}/selftest`;
  if (await compiles(binary)) {
    t.make("empty");
    const { code, out, err } = await say(binary, [map], { cwd: `${t.dir}/empty` });
    assertEquals([code, out], [0, allWorks], err);
    assertEquals(t.mounts(), []);
  } else await holdsEveryModule(binary);
});

/** Compiles with deno instead of denort: the binary does not run, but it contains the same files. */
async function holdsEveryModule(binary: string): Promise<void> {
  const { code, err } = await compile(binary, { DENORT_BIN: Deno.execPath() });
  assertEquals(code, 0, err);
  const bytes = await Deno.readTextFile(binary);
  for (const { local, kind } of await graph(selftest)) {
    if (kind !== "esm" || local === undefined) continue;
    assert(bytes.includes(await Deno.readTextFile(local)), `${local} is not in the binary`);
  }
}

const entries = [
  selftest,
  ...["cli.ts", "containerd/mod.ts", "linux/sandbox/mod.ts"].map((file) => new URL(file, project).pathname),
];

Deno.test("a program imports only files of the library, npm packages and the runtime, and no module is missing", async () => {
  for (const entry of entries) {
    const modules = await graph(entry);
    const others = modules.filter(({ specifier }) =>
      !specifier.startsWith(project.href) && !specifier.startsWith("npm:/") && !isOfRuntime(specifier)
    );
    assertEquals(others, []);
    assertEquals(modules.filter(({ error }) => error !== undefined), []);
    assert(modules.length > 30);
  }
});

// A literal specifier is in the module graph, and so in a binary, in a package and in what a URL import fetches.
Deno.test("every dynamic import has a literal specifier, whose module is in the graph", async () => {
  for (const entry of entries) {
    const modules = await graph(entry);
    const known = new Set(modules.map(({ specifier }) => specifier.replace(/^npm:\//, "npm:")));
    for (const { specifier, local = "", dependencies = [] } of modules) {
      if (!specifier.startsWith(project.href)) continue;
      const dynamic = dependencies.filter(({ isDynamic }) => isDynamic);
      assertEquals(dynamic.filter(({ code }) => !known.has(code?.specifier ?? "")), [], specifier);
      assertEquals(dynamicImports(Deno.readTextFileSync(local)), dynamic.length, specifier);
    }
  }
});

/** How many dynamic imports a module has, outside of its comments; the graph has those with a literal specifier only. */
function dynamicImports(text: string): number {
  return text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "").match(/(?<!typeof )\bimport\s*\(/g)?.length ?? 0;
}

kernelTest("a program opens no file of the library except its modules", {
  tools: ["strace"],
  permissions: { run: true, env: true },
}, async (t) => {
  const trace = ["-f", "-z", "-qq", "-e", "trace=open,openat,openat2", "-o", `${t.dir}/trace`];
  const args = [
    ...trace,
    Deno.execPath(),
    "run",
    "--no-prompt",
    "--no-config",
    "--no-lock",
    ...grants,
    selftest,
    map,
  ];
  const { code, out, err } = await say("strace", args, { cwd: t.dir });
  assertEquals([code, out], [0, allWorks], err);
  const modules = new Set((await graph(selftest)).map(({ specifier }) => specifier));
  const opened = [...(readText(`${t.dir}/trace`) ?? "").matchAll(/open\w*\([^"]*"([^"]+)"/g)]
    .map(([, path = ""]) => path).filter((path) => path.startsWith(project.pathname));
  assert(opened.includes(selftest));
  assertEquals(opened.filter((path) => !modules.has(`file://${path}`)), []);
});
