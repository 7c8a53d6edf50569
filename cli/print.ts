/**
 * Output of the command.
 *
 * @module
 */

import { encodeName } from "../ffi/text.ts";
import type { MountInfo } from "../linux/mountinfo/parse_mountinfo.ts";

/**
 * Writes a line to standard output. If the reader has closed (`| head`), the command exits with status 0.
 *
 * @param line the line.
 * @throws {Error} if standard output can't be written, for example because its disk is full.
 */
export function print(line: string): void {
  try {
    writeOutput(line);
  } catch (error) {
    if (isBrokenPipe(error)) Deno.exit(0);
    throw error;
  }
}

/**
 * Writes the result of a change to standard output. If it can't be written, undoes the change: the caller of the command
 * doesn't know it. A reader that has closed is an error too.
 *
 * @param lines the lines.
 * @param undo undoes the change.
 * @throws {Error} if standard output can't be written; a SuppressedError if the change can't be undone either.
 */
export async function printOrUndo(lines: readonly string[], undo: () => void | Promise<void>): Promise<void> {
  if (lines.length === 0) return;
  try {
    writeOutput(lines.join("\n"));
  } catch (error) {
    try {
      await undo();
    } catch (failure) {
      throw new SuppressedError(failure, error);
    }
    throw error;
  }
}

function writeOutput(line: string): void {
  try {
    const bytes = new TextEncoder().encode(line + "\n");
    for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`cannot write to standard output: ${reason}`, { cause: error });
  }
}

function isBrokenPipe(error: unknown): boolean {
  return error instanceof Error && error.cause instanceof Deno.errors.BrokenPipe;
}

/**
 * Writes a line to standard error. Ignores a failure to write, such as on a closed terminal.
 *
 * @param line the line.
 */
export function printError(line: string): void {
  try {
    const bytes = new TextEncoder().encode(line + "\n");
    for (let at = 0; at < bytes.length;) at += Deno.stderr.writeSync(bytes.subarray(at));
  } catch {
    // the error stream itself failed
  }
}

/**
 * Makes text safe to print on a terminal: replaces control characters, bidirectional controls and bytes that are not
 * UTF-8 with octal escapes, as mountinfo does.
 *
 * @param text any text.
 * @returns the escaped text.
 */
export function escapeControl(text: string): string {
  return text.replace(/\p{Cc}|\p{Bidi_Control}|[\udc80-\udcff]|\\(?=[0-7]{3})/gu, (character) => {
    const code = character.charCodeAt(0);
    if (code < 0x80) return octal[code] ?? "";
    return Array.from(encodeName(character), (byte) => octal[byte]).join("");
  });
}

const octal = Array.from({ length: 256 }, (_, byte) => "\\" + byte.toString(8).padStart(3, "0"));

/**
 * Formats rows as columns without borders, each as wide as its widest cell on a terminal.
 *
 * @param head the columns' names.
 * @param rows the cells, each one line.
 * @returns the lines.
 */
export async function columns(head: readonly string[], rows: readonly string[][]): Promise<string> {
  const { loadStringWidth } = await import("./deps.ts");
  const stringWidth = await loadStringWidth();
  const lines = [head, ...rows];
  const widths = head.map((_, column) =>
    lines.reduce((most, row) => Math.max(most, stringWidth(row[column] ?? "")), 0)
  );
  const padded = (cell: string, column: number) =>
    cell + " ".repeat((widths[column] ?? 0) - stringWidth(cell));
  return lines.map((row) => row.map(padded).join("  ").trimEnd()).join("\n");
}

/**
 * Formats a mount, one field per line.
 *
 * @param info the mount.
 * @returns the lines.
 */
export function mountLines(info: MountInfo): string {
  const fields = Object.entries({
    mountpoint: info.mountpoint,
    type: info.fsType,
    source: info.source,
    root: info.root,
    options: info.options,
    "file system": info.vfsOptions,
    propagation: info.optional || "private",
    device: `${info.major}:${info.minor}`,
    id: `${info.id}, below ${info.parent}`,
  });
  return fields.map(([name, value]) => `${name.padEnd(12)} ${escapeControl(value)}`).join("\n");
}

/**
 * Formats a size.
 *
 * @param bytes the size in bytes.
 * @returns such as "1.5 MiB".
 */
export function sizeText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${value >= 10 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
