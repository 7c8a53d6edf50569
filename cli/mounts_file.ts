/**
 * Lists of mounts as JSON, in containerd's shape.
 *
 * @module
 */

import { quote } from "../ffi/text.ts";
import type { Mount } from "../mod.ts";

/** Go encodes a field without a JSON tag under its capitalized name, and a nil slice as null. */
type Fields = Record<string, unknown>;

/**
 * Reads a list of mounts.
 *
 * @param text the JSON text.
 * @param name the file's name, for error messages.
 * @returns the mounts.
 * @throws {TypeError} if the text is not a list of mounts; the message names the entry and the field.
 */
export function parseMounts(text: string, name: string): Mount[] {
  const value = parseJson(text, name);
  if (!Array.isArray(value)) throw new TypeError(`${name}: must be a list of mounts, got ${kind(value)}`);
  return value.map((entry, index) => readMount(entry, `${name}: entry ${index + 1}`));
}

function parseJson(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new TypeError(`${name}: ${error instanceof Error ? error.message.replaceAll("\n", " ") : error}`);
  }
}

const known = new Set(["type", "source", "target", "options"]);

function readMount(entry: unknown, where: string): Mount {
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) {
    throw new TypeError(`${where}: must be an object, got ${kind(entry)}`);
  }
  const unknown = Object.keys(entry).find((key) => !known.has(key.toLowerCase()));
  if (unknown !== undefined) throw new TypeError(`${where}: ${quote(unknown)} is no field of a mount`);
  const fields: Fields = Object.fromEntries(
    Object.entries(entry).map(([key, value]) => [key.toLowerCase(), value]),
  );
  const target = text(fields, "target", where);
  const options = list(fields, where);
  return {
    type: text(fields, "type", where),
    source: text(fields, "source", where),
    ...(target === "" ? {} : { target }),
    ...(options.length === 0 ? {} : { options }),
  };
}

function text(fields: Fields, field: string, where: string): string {
  const value = fields[field] ?? "";
  if (typeof value !== "string") {
    throw new TypeError(`${where}: "${field}" must be a string, got ${kind(value)}`);
  }
  return value;
}

function list(fields: Fields, where: string): string[] {
  const value = fields.options ?? [];
  if (!Array.isArray(value)) {
    throw new TypeError(`${where}: "options" must be a list of strings, got ${kind(value)}`);
  }
  const wrong = value.find((option) => typeof option !== "string");
  if (wrong !== undefined) {
    throw new TypeError(`${where}: "options" must hold strings only, got ${kind(wrong)}`);
  }
  return value;
}

function kind(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/**
 * Reads a list of mounts from a file.
 *
 * @param file its path, or "-" for standard input.
 * @returns the mounts.
 */
export async function readMounts(file: string): Promise<Mount[]> {
  if (file === "-") return parseMounts(await new Response(Deno.stdin.readable).text(), "standard input");
  return parseMounts(await readFile(file), file);
}

async function readFile(file: string): Promise<string> {
  try {
    return await Deno.readTextFile(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new Error(`${file} does not exist`, { cause: error });
    throw error;
  }
}
