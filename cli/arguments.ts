/**
 * Parsers of the command's arguments.
 *
 * @module
 */

import { readSize } from "../linux/spec/size.ts";

/** A wrong argument. The parser knows it by its code, as its own class of this name. */
export class InvalidArgumentError extends Error {
  /** What the parser looks at. */
  readonly code = "commander.invalidArgument";
  /** The exit status that the parser reports. */
  readonly exitCode = 1;
}

/**
 * Parses a number of bytes.
 *
 * @param text the argument, such as "1048576" or "1M".
 * @returns the number.
 * @throws {InvalidArgumentError} for any other text.
 */
export function bytes(text: string): number {
  const size = readSize(text);
  if (size === undefined) throw new InvalidArgumentError("Must be a number of bytes, such as 1048576 or 1M.");
  return size;
}

/**
 * Parses a number of milliseconds.
 *
 * @param text the argument.
 * @returns the number.
 * @throws {InvalidArgumentError} for any other text.
 */
export function milliseconds(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("Must be a whole number of milliseconds.");
  return Number(text);
}

/**
 * Parses types of file systems, separated by commas. The option may be repeated.
 *
 * @param text the argument.
 * @param previous the types of the earlier options.
 * @returns all types.
 */
export function types(text: string, previous: string[] = []): string[] {
  return [...previous, ...text.split(",")];
}

/**
 * Parses a process ID.
 *
 * @param text the argument.
 * @returns the number.
 * @throws {InvalidArgumentError} for any other text.
 */
export function pid(text: string): number {
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new InvalidArgumentError("Must be a process ID.");
  return Number(text);
}

/**
 * Parses a label. The option may be repeated; the last value of a key counts.
 *
 * @param text the argument, as KEY=VALUE.
 * @param previous the labels of the earlier options.
 * @returns all labels.
 * @throws {InvalidArgumentError} for any other text.
 */
export function label(text: string, previous: Record<string, string> = {}): Record<string, string> {
  const [, key, value = ""] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (key === undefined) throw new InvalidArgumentError("Must be KEY=VALUE.");
  return { ...previous, [key]: value };
}

/**
 * Parses a directory. The option may be repeated.
 *
 * @param text the argument.
 * @param previous the directories of the earlier options.
 * @returns all directories.
 */
export function directories(text: string, previous: string[] = []): string[] {
  return [...previous, text];
}

/** The columns of `ls`. */
export const COLUMN_NAMES = [
  "mountpoint",
  "type",
  "source",
  "options",
  "notable",
  "used",
  "propagation",
  "root",
  "file",
  "device",
  "id",
  "parent",
] as const;

/** The name of a column of `ls`. */
export type ColumnName = typeof COLUMN_NAMES[number];

/**
 * Parses names of columns, separated by commas.
 *
 * @param text the argument.
 * @returns the names.
 * @throws {InvalidArgumentError} for any other text.
 */
export function columnNames(text: string): ColumnName[] {
  return text.split(",").map((word) => {
    const found = COLUMN_NAMES.find((name) => name === word.toLowerCase());
    if (found === undefined) throw new InvalidArgumentError(`Must be of ${COLUMN_NAMES.join(", ")}.`);
    return found;
  });
}

/** The shells that have completions. */
export const SHELLS = ["bash", "zsh", "fish"] as const;

/** A shell that has completions. */
export type Shell = typeof SHELLS[number];

/**
 * Parses the name of a shell.
 *
 * @param text the argument.
 * @returns the shell.
 * @throws {InvalidArgumentError} for any other text.
 */
export function shellName(text: string): Shell {
  const shell = SHELLS.find((name) => name === text);
  if (shell === undefined) throw new InvalidArgumentError("There are completions for bash, zsh and fish.");
  return shell;
}

/**
 * Collects the texts of an option that may be repeated.
 *
 * @param text the argument.
 * @param previous those of the earlier options.
 * @returns all texts.
 */
export function texts(text: string, previous: string[] = []): string[] {
  return [...previous, text];
}

/** A snapshot of containerd. */
export interface SnapshotKey {
  /** The name of its snapshotter. */
  snapshotter: string;
  /** Its key, which may have slashes in it. */
  key: string;
}

/**
 * Parses the name of a snapshot of containerd.
 *
 * @param text the argument.
 * @returns the snapshotter and the key.
 * @throws {InvalidArgumentError} for any other text.
 */
export function snapshotKey(text: string): SnapshotKey {
  const [, snapshotter, key] = /^([^/]+)\/(.+)$/s.exec(text) ?? [];
  if (snapshotter === undefined || key === undefined) {
    throw new InvalidArgumentError("Must be SNAPSHOTTER/KEY, as denomount ls --containerd prints it.");
  }
  return { snapshotter, key };
}
