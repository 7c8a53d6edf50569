/**
 * Boots one kernel: downloads what it needs, runs the tests in a virtual machine, and reads the output.
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

/** Directories on this machine. */
export interface Directories {
  /** Downloads, which the next run uses again. */
  cache: string;
  /** The project. */
  project: string;
}

/** How to run a kernel. */
export interface BootOptions {
  /** The tests to run. */
  job: Job;
  /** The timeout of the tests, in seconds. */
  seconds: number;
  /** Kills the virtual machine if it aborts. */
  signal: AbortSignal;
  /** Is called with each line of the output. */
  onLine: (line: string) => void;
}

/** The guest ended before its tests did. */
export class GuestError extends Error {
  override name = "GuestError";
}

/**
 * Runs the tests on a kernel.
 *
 * @param target the kernel.
 * @param directories the cache and the project.
 * @param options the tests, and their limits.
 * @returns the result; undefined if its Debian suite has no such kernel.
 * @throws {GuestError} if the guest ends before its tests, with the last lines of its output.
 */
export async function boot(
  target: Target,
  directories: Directories,
  options: BootOptions,
): Promise<Result | undefined> {
  const parts = await gather(target, directories);
  if (parts === undefined) return undefined;
  const directory = await Deno.makeTempDir({ dir: directories.cache, prefix: "guest-" });
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
  { cache, project }: Directories,
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

const BOOT = 60; // seconds

function reason(signal: AbortSignal): string {
  if (!signal.aborted) return "the guest ended before its tests did; its last output:\n";
  return "the guest was killed before its tests ended; its last output:\n";
}

/** boot/vmlinuz-VERSION, or modules/VERSION/vmlinuz if linux-binary is a separate package. */
function imageOf(kernel: string): string {
  const directories = [`${kernel}/boot`, ...listIn(modulesDirectory(kernel))].filter(exists);
  const image = directories.flatMap(listIn).find((path) => /\/vmlinuz[^/]*$/.test(path));
  if (image === undefined) throw new Error(`no kernel in ${kernel}`);
  return image;
}

const listIn = (directory: string) =>
  [...Deno.readDirSync(directory)].map(({ name }) => `${directory}/${name}`);
