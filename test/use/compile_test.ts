import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { readText } from "../kernel.ts";
import { allWorks, map, project, type Said, say, selftest } from "./ways.ts";

/** Whether a module is built into the runtime, and so into a binary. */
const isOfRuntime = (specifier: string) => specifier.startsWith("node:");

const grants = ["--allow-ffi", "--allow-read", "--allow-write"];

interface Module {
  local?: string;
  kind?: string;
  specifier: string;
  dependencies?: { specifier: string; isDynamic?: boolean }[];
}

function compile(file: string, env: Record<string, string> = {}): Promise<Said> {
  return say(Deno.execPath(), ["compile", ...grants, "-o", file, selftest], { env });
}

async function graph(entry = selftest): Promise<Module[]> {
  const { code, out, err } = await say(Deno.execPath(), ["info", "--json", entry]);
  assertEquals(code, 0, err);
  return JSON.parse(out.join("\n")).modules;
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
  for (const { local, kind } of await graph()) {
    if (kind !== "esm" || local === undefined) continue;
    assert(bytes.includes(await Deno.readTextFile(local)), `${local} is not in the binary`);
  }
}

Deno.test("a program imports only files of the library and std, and none of them dynamically", async () => {
  const command = /^npm:\/(deno-std@1\.4\.0|commander@14\.0\.2|cli-table3@0\.6\.5)(\/|$)/;
  const grpc = /^npm:\/(deno-std@1\.4\.0|@grpc\/grpc-js@1\.14\.7|@bufbuild\/protobuf@2\.17\.0)(\/|$)/;
  const allowed: [string, RegExp][] = [
    [selftest, /^npm:\/deno-std@1\.4\.0\//],
    [new URL("cli.ts", project).pathname, command],
    [new URL("containerd/mod.ts", project).pathname, grpc],
  ];
  for (const [entry, packages] of allowed) {
    const modules = await graph(entry);
    const ours = modules.filter(({ specifier }) => specifier.startsWith(project.href));
    const others = modules.filter((module) => !ours.includes(module)).map(({ specifier }) => specifier)
      .filter((specifier) => !isOfRuntime(specifier));
    assertEquals(others.filter((specifier) => !packages.test(specifier)), []);
    const dynamic = ours.flatMap(({ dependencies = [] }) => dependencies)
      .filter(({ isDynamic, specifier }) => isDynamic && !isOfRuntime(specifier));
    assertEquals(dynamic, []);
    assert(ours.length > 30);
  }
});

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
  const modules = new Set((await graph()).map(({ specifier }) => specifier));
  const opened = [...(readText(`${t.dir}/trace`) ?? "").matchAll(/open\w*\([^"]*"([^"]+)"/g)]
    .map(([, path = ""]) => path).filter((path) => path.startsWith(project.pathname));
  assert(opened.includes(selftest));
  assertEquals(opened.filter((path) => !modules.has(`file://${path}`)), []);
});
