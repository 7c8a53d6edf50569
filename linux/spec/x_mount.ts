/**
 * The instructions of mount(8) that begin with `X-mount.`.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";
import type { IdMapping } from "./id_mapping.ts";
import { X_MOUNT } from "./option_table.ts";

/** Id maps as `X-mount.idmap=` writes them: ranges, or the file of a user namespace. */
export type IdMapText =
  | { readonly uid: readonly IdMapping[]; readonly gid: readonly IdMapping[] }
  | { readonly file: string };

/** What the instructions say. */
export interface XMount {
  /** The mode of a mountpoint that is made if it is missing. */
  readonly mkdir?: number;
  /** The directory of the file system that is mounted instead of its root. */
  readonly subdir?: string;
  /** The id maps. */
  readonly idmap?: IdMapText;
  /** The owner that the root of the mount gets, by name or number. */
  readonly owner?: string;
  /** The group that the root of the mount gets, by name or number. */
  readonly group?: string;
  /** The mode that the root of the mount gets. */
  readonly mode?: number;
  /** No loop device is attached for a file; this library attaches none without the word `loop`. */
  readonly noloop?: boolean;
}

/**
 * Whether an option is one of them; mount(8) also takes the older `x-mount.mkdir`.
 *
 * @param option the option.
 * @returns true if it begins with `X-mount.`, or is `x-mount.mkdir`.
 */
export function isXMount(option: string): boolean {
  return option.startsWith("X-mount.") || /^x-mount\.mkdir(=|$)/.test(option);
}

/**
 * Reads one of them.
 *
 * @param option the option.
 * @param before what those before it say.
 * @returns what they say together.
 * @throws {TypeError} for an unknown one, or a value that is none.
 */
export function readXMount(option: string, before: XMount): XMount {
  const at = option.indexOf("=");
  const name = option.slice("X-mount.".length, at < 0 ? undefined : at);
  const takes = Object.hasOwn(X_MOUNT, name) ? X_MOUNT[name] : undefined;
  if (takes === undefined) throw new TypeError(`${quote(option)} is no instruction that this library knows`);
  const value = at < 0 ? undefined : option.slice(at + 1).replace(/^"(.*)"$/s, "$1");
  if (takes === "value" && !value) throw new TypeError(`${quote(option)} needs a value after "="`);
  if (takes === "none" && value !== undefined) throw new TypeError(`${quote(option)} takes no value`);
  return { ...before, ...readValue(name, value, option) };
}

function readValue(name: string, value: string | undefined, option: string): XMount {
  switch (name) {
    case "mkdir":
      return { mkdir: value ? parseMode(value, option) : 0o755 };
    case "subdir":
      return { subdir: value ?? "" };
    case "idmap":
      return { idmap: parseIdMap(value ?? "", option) };
    case "owner":
      return { owner: value ?? "" };
    case "group":
      return { group: value ?? "" };
    case "mode":
      return { mode: parseMode(value ?? "", option) };
    case "noloop":
      return { noloop: true };
    case "nocanonicalize":
      if (value && value !== "source" && value !== "target") {
        throw new TypeError(`${quote(option)}: after "=" comes "source" or "target"`);
      }
      return {}; // sources are passed as they are written, and targets are opened, not canonicalized
    default:
      throw new TypeError(`${quote(option)} is about the type "auto": name the file system's type`);
  }
}

function parseMode(text: string, option: string): number {
  if (!/^[0-7]{1,5}$/.test(text) || parseInt(text, 8) > 0o7777) {
    throw new TypeError(`${quote(option)}: a mode is an octal number up to 7777`);
  }
  return parseInt(text, 8);
}

/** `[TYPE:]MOUNT:HOST:RANGE`, several with spaces between them, where TYPE is u, g, or b for both; or a path. */
function parseIdMap(text: string, option: string): IdMapText {
  if (text.startsWith("/")) return { file: text };
  const maps: { uid: IdMapping[]; gid: IdMapping[] } = { uid: [], gid: [] };
  for (const part of text.split(" ").filter((word) => word !== "")) {
    const match = /^(?:([bug]):)?(\d+):(\d+):(\d+)$/.exec(part);
    if (!match) {
      throw new TypeError(`${quote(option)}: ${quote(part)} is not written TYPE:MOUNT:HOST:RANGE`);
    }
    const [, type = "b", containerId, hostId, size] = match;
    const mapping = { containerId: Number(containerId), hostId: Number(hostId), size: Number(size) };
    if (type !== "g") maps.uid.push(mapping);
    if (type !== "u") maps.gid.push(mapping);
  }
  return maps;
}
