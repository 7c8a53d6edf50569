/**
 * One kernel: its parts are fetched and put together, it runs, and what it printed is read.
 *
 * @module
 */

import { Packages } from "./apt.ts";
import { type Parts, programs, writeArchive } from "./archive.ts";
import { exists } from "./exists.ts";
import { modulesDirectory } from "./modules.ts";
import { type Job, readResult, type Result } from "./protocol.ts";
import { runMachine } from "./qemu.ts";
import { denoBinary, denoPackages } from "./runtime.ts";
import type { Target } from "./target.ts";

/** Where things are. */
export interface Places {
  /** What is kept for the next run. */
  cache: string;
  /** The project. */
  project: string;
}

/** How a kernel is run. */
export interface BootOptions {
  /** What it is to do. */
  job: Job;
  /** How long it may take. */
  seconds: number;
  /** Ends it earlier. */
  signal: AbortSignal;
  /** Gets each line that it prints. */
  onLine: (line: string) => void;
}

/** A guest that did not come to its end. */
export class GuestError extends Error {
  override name = "GuestError";
}

/**
 * Runs the tests on a kernel.
 *
 * @param target the kernel.
 * @param places where things are.
 * @param options how.
 * @returns what came of it; undefined if its Debian suite has no such kernel.
 * @throws {GuestError} where the guest ended in the middle, with the last that it printed.
 */
export async function boot(
  target: Target,
  places: Places,
  options: BootOptions,
): Promise<Result | undefined> {
  const parts = await gather(target, places);
  if (parts === undefined) return undefined;
  const directory = await Deno.makeTempDir({ dir: places.cache, prefix: "guest-" });
  await using _removed = { [Symbol.asyncDispose]: () => Deno.remove(directory, { recursive: true }) };
  const archive = `${directory}/initramfs`;
  await writeArchive(archive, parts, options.job, options.seconds);
  const lines: string[] = [];
  const timeout = AbortSignal.timeout((options.seconds + BOOT) * 1000);
  const signal = AbortSignal.any([options.signal, timeout]);
  const guest = { architecture: target.architecture, kernel: imageOf(parts.kernel), archive };
  await runMachine(guest, signal, (line) => {
    lines.push(line);
    options.onLine(line);
  });
  const result = readResult(lines);
  if (result === undefined) throw new GuestError(reason(signal) + lines.slice(-40).join("\n"));
  return result;
}

async function gather(
  { architecture, release, suite }: Target,
  { cache, project }: Places,
): Promise<Parts | undefined> {
  const packages = await Packages.open(cache, architecture.debian);
  const kernels = suite === undefined ? packages : await Packages.open(cache, architecture.debian, suite);
  const kernel = await kernels.kernel(release);
  if (kernel === undefined) return undefined;
  return {
    kernel: await kernels.unpack(kernel, false),
    programs: await packages.unpack(programs, true),
    deno: await denoBinary(cache, architecture),
    packages: await denoPackages(cache, project),
    project,
  };
}

const BOOT = 60; // seconds, at the longest

function reason(signal: AbortSignal): string {
  if (!signal.aborted) return "the guest ended before its tests did; it printed at last:\n";
  return "the guest was ended before its tests were through; it printed at last:\n";
}

/** boot/vmlinuz-VERSION, or modules/VERSION/vmlinuz where the kernel has a package of its own. */
function imageOf(kernel: string): string {
  const directories = [`${kernel}/boot`, ...listIn(modulesDirectory(kernel))].filter(exists);
  const image = directories.flatMap(listIn).find((path) => /\/vmlinuz[^/]*$/.test(path));
  if (image === undefined) throw new Error(`no kernel in ${kernel}`);
  return image;
}

const listIn = (directory: string) =>
  [...Deno.readDirSync(directory)].map(({ name }) => `${directory}/${name}`);
