import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";
import { allWorks, map, npmPackages, project, runInTmpfs, say, selftest } from "./ways.ts";

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

// The parts of JSR's score that the package decides. Description and runtimes are set on the package's page on JSR, and
// provenance by the publisher.
Deno.test("every entry point has a description and an example, and the README has an example", async () => {
  const all = await documentation();
  assertEquals(all.length, entries.length);
  for (const [entry, { module_doc }] of all) {
    assert((module_doc.doc ?? "").length > 0, `${entry} has no description`);
    assert(hasExample(module_doc), `${entry} has no example`);
  }
  assert(Deno.readTextFileSync(new URL("README.md", project)).includes("```ts"));
});

Deno.test("every public symbol is documented, and every function has an example", async () => {
  for (const [entry, { symbols }] of await documentation()) {
    for (const { name, declarations } of symbols) {
      for (const { kind, jsDoc = {} } of declarations) {
        if (kind === "reference") continue; // documented at the first entry point that exports it
        assert((jsDoc.doc ?? "").length > 0, `${name} of ${entry} is not documented`);
        assert(kind !== "function" || hasExample(jsDoc), `${name} of ${entry} has no example`);
      }
    }
  }
});

/** The files that would be published; fails on slow types and other errors of the registry. */
async function published(): Promise<string[]> {
  const args = ["publish", "--dry-run", "--allow-dirty"];
  const { code, err } = await say(Deno.execPath(), args, { cwd: project.pathname });
  assertEquals(code, 0, err);
  const files = [...err.matchAll(/file:\/\/(\S+)/g)].map(([, path = ""]) =>
    path.slice(project.pathname.length)
  );
  return files.filter((path) => path !== ".git"); // a worktree's
}

Deno.test("the published package has no slow types, and contains only the library and the command", async () => {
  const modules = (await published()).filter((path) => path.endsWith(".ts"));
  assertEquals(modules.filter((path) => !/^(mod|cli|(ffi|linux|cli|containerd)\/.*)\.ts$/.test(path)), []);
  assert(
    ["mod.ts", "linux/mod.ts", "linux/manager/mod.ts", "linux/sandbox/mod.ts", "cli.ts"]
      .every((entry) => modules.includes(entry)),
  );
});

const STD = ["deno-std@1.4.0"];
const GRPC = ["@bufbuild/protobuf@2.17.0", "@grpc/grpc-js@1.14.7"];

/** The npm packages that each entry point may load. Only the command and the client of containerd need gRPC. */
const PACKAGES: Record<string, string[]> = {
  ".": STD,
  "./linux": [],
  "./manager": STD,
  "./sandbox": [...STD, "tar@7.5.23"],
  "./cli": [...GRPC, "commander@14.0.2", ...STD, "diff@9.0.0", "string-width@9.0.0", "tar@7.5.23"],
  "./containerd": [...GRPC, ...STD],
};

Deno.test("the core loads no gRPC and no protobuf: each entry point has its own npm packages only", async () => {
  assertEquals(Object.keys(config.exports).sort(), Object.keys(PACKAGES).sort());
  for (const [name, path] of Object.entries<string>(config.exports)) {
    assertEquals(await npmPackages(new URL(path, project).pathname), PACKAGES[name], name);
  }
});

/** The npm packages in the cache of a program that has run. */
function fetchedPackages(cache: string): string[] {
  return names(`${cache}/npm`).flatMap((host) => names(`${cache}/npm/${host}`));
}

/** A registry on this machine with this package, as it would be published. */
async function registry(): Promise<Deno.HttpServer<Deno.NetAddr>> {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const path of await published()) files.set(`/${path}`, Deno.readFileSync(new URL(path, project)));
  const manifest: Record<string, { size: number; checksum: string }> = {};
  for (const [path, bytes] of files) {
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
    manifest[path] = { size: bytes.length, checksum: `sha256-${hash}` };
  }
  const { name, version, exports } = config;
  const [scope, short] = name.slice(1).split("/");
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, ({ url }) => {
    const path = new URL(url).pathname.slice(`/${name}`.length);
    if (path === "/meta.json") {
      return Response.json({ scope, name: short, latest: version, versions: { [version]: {} } });
    }
    if (path === `/${version}_meta.json`) return Response.json({ manifest, exports });
    const file = files.get(path.slice(`/${version}`.length));
    return new Response(file ?? "", {
      status: file ? 200 : 404,
      headers: { "content-type": "text/typescript" },
    });
  });
}

const permissions: Deno.PermissionOptionsObject = { run: true, net: ["127.0.0.1"], env: true };

kernelTest(
  "a program that imports the package from JSR works completely",
  { permissions },
  async (t) => {
    await using server = await registry();
    const program = Deno.readTextFileSync(selftest)
      .replace('"../mod.ts"', `"jsr:${config.name}"`)
      .replace('"../linux/mod.ts"', `"jsr:${config.name}/linux"`);
    Deno.writeTextFileSync(`${t.dir}/user.ts`, program);
    const grants = ["--allow-ffi", "--allow-read", "--allow-write"];
    const args = ["run", "--no-prompt", "--no-config", "--no-lock", ...grants, `${t.dir}/user.ts`, map];
    const env = { DENO_DIR: `${t.dir}/cache`, JSR_URL: `http://127.0.0.1:${server.addr.port}/` };
    const { code, out, err } = await say(Deno.execPath(), args, { cwd: t.dir, env });
    assertEquals([code, out], [0, allWorks], err);
    assertEquals(fetchedPackages(`${t.dir}/cache`).filter((name) => name !== "registry.json"), ["deno-std"]);
  },
);

kernelTest(
  "the command installs from JSR with its own dependencies only, and starts itself in a namespace",
  {
    tools: ["unshare"],
    permissions,
  },
  async (t) => {
    await using server = await registry();
    const env = { DENO_DIR: `${t.dir}/cache`, JSR_URL: `http://127.0.0.1:${server.addr.port}/` };
    const args = ["install", "-gA", "--root", t.dir, "--name", "denomount", `jsr:${config.name}/cli`];
    const install = await say(Deno.execPath(), args, { cwd: t.dir, env });
    assertEquals(install.code, 0, install.err);
    const { code, out, err } = await say(`${t.dir}/bin/denomount`, runInTmpfs(t.dir), { cwd: t.dir, env });
    assertEquals([code, out], [0, ["tmpfs"]], err);
    const fetched = fetchedPackages(`${t.dir}/cache`);
    for (const dependency of ["@bufbuild", "@grpc", "commander", "deno-std", "string-width"]) {
      assert(fetched.includes(dependency), dependency);
    }
    for (const other of ["fast-check", "modern-tar", "typescript"]) {
      assert(!fetched.includes(other), `${fetched}`);
    }
  },
);
