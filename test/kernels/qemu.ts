/**
 * A kernel in an emulated machine, whose serial port is read.
 *
 * @module
 */

import { TextLineStream } from "./lines.ts";
import type { Architecture } from "./target.ts";

const MEMORY = "4096"; // MiB, of which the archive and the tests' disk take what they fill

/** What is to run. */
export interface Guest {
  /** The architecture. */
  architecture: Architecture;
  /** The kernel's file. */
  kernel: string;
  /** The archive with everything else. */
  archive: string;
}

/**
 * Runs a guest until it turns itself off.
 *
 * @param guest what is to run.
 * @param signal ends it earlier.
 * @param onLine gets each line that it prints.
 */
export async function runMachine(
  { architecture, kernel, archive }: Guest,
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<void> {
  const [program = "", ...machine] = architecture.qemu;
  const append = `console=${architecture.console} quiet panic=-1 mitigations=off`;
  const args = [
    ...machine,
    ...["-accel", "tcg,thread=multi", "-smp", "2", "-m", MEMORY],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"],
    ...["-kernel", kernel, "-initrd", archive, "-append", append],
  ];
  // Killed at the end of its scope if it still runs.
  await using child = start(program, { args, stdin: "null", stdout: "piped", signal }, architecture);
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
  for await (const line of lines) onLine(line);
  await child.status;
}

function start(
  program: string,
  options: Deno.CommandOptions,
  { qemuPackage }: Architecture,
): Deno.ChildProcess {
  try {
    return new Deno.Command(program, options).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Error(`${program} is missing: install the package ${qemuPackage}`, { cause: error });
  }
}
