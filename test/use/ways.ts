/**
 * The three ways in which the library is used, for the tests of each: one program, `examples/selftest.ts`, does the same
 * jobs in all of them.
 *
 * @module
 */

import { hasRoot } from "../harness.ts";

/** The checkout. */
export const project = new URL("../..", import.meta.url);

/** The program's path. */
export const selftest = new URL("examples/selftest.ts", project).pathname;

/** The id map that this user may make: in a user namespace with one id, that one. */
export const map = hasRoot ? "0:100000:65536" : "0:0:1";

const owner = hasRoot ? "100000:100000" : "0:0";

/** What the program prints where all of it works. */
export const allWorks = [
  "bind: read-only",
  "overlay: 400 layers layer by layer, 0:0",
  `id-mapped overlay: 400 layers layer by layer, ${owner}`,
  `id-mapped bind: ${owner}`,
  "in a mount namespace: tmpfs",
  "watched: mounted",
  "overlay, the older way: 400 layers in one page, 0:0",
  `id-mapped overlay, the older way: 400 layers in one page, ${owner}`,
];

/** A command's exit status, standard output as lines, and standard error. */
export interface Said {
  code: number;
  out: string[];
  err: string;
}

/**
 * Runs a command to its end.
 *
 * @param program the program.
 * @param args its arguments.
 * @param options its directory and environment.
 * @returns what it said.
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

/** Serves the checkout over http on this machine, as a code host would. */
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
