/**
 * Runs a kernel in an emulated machine, and reads its serial port.
 *
 * @module
 */

import { TextLineStream } from "./lines.ts";
import type { Architecture } from "./target.ts";

const MEMORY = "4096"; // MiB; holds the archive and the tests' disk too

/** What the machine runs. */
export interface Guest {
  /** The architecture. */
  architecture: Architecture;
  /** The path of the kernel's image. */
  kernel: string;
  /** The path of the initramfs. */
  archive: string;
}

/**
 * Runs a guest until it powers off.
 *
 * @param guest what the machine runs.
 * @param signal kills it if it aborts.
 * @param onLine is called with each line of the output.
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
