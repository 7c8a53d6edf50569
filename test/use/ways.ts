/**
 * Helpers for the tests of the three ways to use the library: URL import, JSR package and compiled binary. All run
 * `examples/selftest.ts`.
 *
 * @module
 */

import { hasRoot } from "../harness.ts";

/** The directory of the project. */
export const project = new URL("../..", import.meta.url);

/** The path of the program. */
export const selftest = new URL("examples/selftest.ts", project).pathname;

/** The id map that this user may create: one id, in a user namespace with one id. */
export const map = hasRoot ? "0:100000:65536" : "0:0:1";

const owner = hasRoot ? "100000:100000" : "0:0";

/** The output of the program if everything works. */
export const allWorks = [
  "bind: read-only",
  "overlay: 400 layers layer by layer, 0:0",
  `id-mapped overlay: 400 layers layer by layer, ${owner}`,
  `id-mapped bind: ${owner}`,
  "in a mount namespace: tmpfs",
  "watched: mounted",
  "overlay, with mount(2): 400 layers in one page, 0:0",
  `id-mapped overlay, with mount(2): 400 layers in one page, ${owner}`,
];

/** The exit status of a command, its standard output as lines, and its standard error. */
export interface Said {
  code: number;
  out: string[];
  err: string;
}

/**
 * Runs a command and waits for it.
 *
 * @param program the program.
 * @param args its arguments.
 * @param options its directory and environment.
 * @returns its exit status and output.
 */
export async function say(program: string, args: string[], options: Deno.CommandOptions = {}): Promise<Said> {
  const env = { NO_COLOR: "1", ...options.env };
  const { code, stdout, stderr } = await new Deno.Command(program, { ...options, args, env }).output();
  const [out = "", err = ""] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out.trimEnd().split("\n"), err };
}

/**
 * The arguments of a `denomount run` that starts itself again in a mount namespace and prints the type of its mount.
 *
 * @param dir where the list of mounts is written.
 * @returns the arguments.
 */
export function runInTmpfs(dir: string): string[] {
  Deno.writeTextFileSync(`${dir}/list.json`, JSON.stringify([{ type: "tmpfs", source: "scratch" }]));
  return ["run", "--private", `${dir}/list.json`, "--", "stat", "--file-system", "--format=%T", "."];
}

/** A module of a module graph. */
export interface Module {
  specifier: string;
  /** Its file, if it has one. */
  local?: string;
  kind?: string;
  /** Why it can't be loaded. */
  error?: string;
  dependencies?: { specifier: string; isDynamic?: boolean; code?: { specifier: string } }[];
}

/**
 * The module graph of a program: what `deno compile` puts in a binary, `deno publish` checks and an import from a URL
 * fetches.
 *
 * @param entry the program's file.
 * @returns all modules that `deno info` shows, those of dynamic imports too.
 */
export async function graph(entry: string): Promise<Module[]> {
  const { code, out, err } = await say(Deno.execPath(), ["info", "--json", entry]);
  if (code !== 0) throw new Error(err);
  return JSON.parse(out.join("\n")).modules;
}

/**
 * The npm packages that a program imports, now or later.
 *
 * @param entry the program's file.
 * @returns their names and versions, such as "commander@14.0.2", sorted.
 */
export async function npmPackages(entry: string): Promise<string[]> {
  const found = (await graph(entry)).map(({ specifier }) =>
    /^npm:\/((?:@[^/]+\/)?[^/]+)/.exec(specifier)?.[1]
  );
  return [...new Set(found)].filter((name) => name !== undefined).sort();
}

/** Serves the project over http on this machine. */
export function serveProject(): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const file = new URL("." + new URL(request.url).pathname, project);
    try {
      const body = await Deno.readFile(file);
      return new Response(body, { headers: { "content-type": "application/typescript" } });
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return new Response("", { status: 404 });
      throw error;
    }
  });
}
