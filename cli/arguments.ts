/**
 * Parsers of the command's arguments.
 *
 * @module
 */

import { InvalidArgumentError } from "./deps.ts";

/**
 * Parses a number of bytes.
 *
 * @param text the argument.
 * @returns the number.
 * @throws {InvalidArgumentError} for any other text.
 */
export function bytes(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("Must be a whole number of bytes.");
  return Number(text);
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
