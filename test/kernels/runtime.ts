/**
 * Deno for the guest: its binary, and the packages that the project imports. The guest has no network.
 *
 * @module
 */

import { exists } from "./exists.ts";
import { run } from "./run.ts";
import type { Architecture } from "./target.ts";

/**
 * Finds or downloads the binary of this version of Deno.
 *
 * @param cache the directory for binaries of other architectures.
 * @param architecture the architecture of the guest.
 * @returns its path.
 */
export async function denoBinary(cache: string, architecture: Architecture): Promise<string> {
  if (architecture.deno === Deno.build.arch) return Deno.execPath();
  const directory = `${cache}/deno-${Deno.version.deno}-${architecture.deno}`;
  const binary = `${directory}/package/deno`;
  if (exists(binary)) return binary;
  await Deno.mkdir(directory, { recursive: true });
  const { stdout } = await run("npm", ["pack", "--silent", `${architecture.package}@${Deno.version.deno}`], {
    cwd: directory,
  });
  await run("tar", ["-xzf", `${directory}/${stdout.trim()}`, "-C", directory]);
  await Deno.remove(`${directory}/${stdout.trim()}`);
  return binary;
}

/**
 * Downloads the packages that the project imports.
 *
 * @param cache the directory that holds them.
 * @param project the project's directory.
 * @returns the directory, which is the guest's DENO_DIR.
 */
export async function denoPackages(cache: string, project: string): Promise<string> {
  const directory = `${cache}/deno-packages`;
  const options = { cwd: project, env: { DENO_DIR: directory } };
  // Programs that a test writes and runs have no lock file, so they resolve versions anew.
  await run(
    Deno.execPath(),
    ["cache", "--quiet", "--no-check", "--no-config", "--no-lock", "cli.ts"],
    options,
  );
  const tests = [...Deno.readDirSync(`${project}/test`)].map(({ name }) => `test/${name}`);
  const entries = ["cli.ts", ...tests.filter((name) => name.endsWith(".ts"))];
  await run(Deno.execPath(), ["cache", "--quiet", "--no-check", ...entries], options);
  return directory;
}
