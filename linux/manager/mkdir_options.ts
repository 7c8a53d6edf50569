/**
 * The options of the `mkdir/` modifier.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";
import type { Mount } from "../spec/mount.ts";
import { splitOptions } from "../spec/options.ts";

/** A directory that is made if it does not exist. */
export interface MkdirRequest {
  /** The directory. */
  readonly path: string;
  /** Its permission bits; 0o700 for a new one if left out. */
  readonly mode: number | undefined;
  /** Its owner; undefined for the process's own. */
  readonly uid: number | undefined;
  /** Its group; undefined for the process's own. */
  readonly gid: number | undefined;
}

const PREFIX = "X-containerd.mkdir.";

/**
 * Reads the options of the `mkdir/` modifier: `X-containerd.mkdir.path=DIR[:MODE[:UID:GID]]`, with the mode in octal.
 *
 * @param mount the mount.
 * @returns the directories in their order, and the mount without these options.
 * @throws {TypeError} for an option or a value that is not known.
 */
export function readMkdirs(mount: Mount): { requests: MkdirRequest[]; mount: Mount } {
  const requests: MkdirRequest[] = [];
  const options: string[] = [];
  for (const option of (mount.options ?? []).flatMap(splitOptions)) {
    if (option.startsWith(PREFIX)) requests.push(readMkdir(option));
    else options.push(option);
  }
  return { requests, mount: { ...mount, options } };
}

const FORM = /^path=([^:]+)(?::([0-7]{1,4})(?::(\d{1,10}):(\d{1,10}))?)?$/s;

function readMkdir(option: string): MkdirRequest {
  const [, path, mode, uid, gid] = FORM.exec(option.slice(PREFIX.length)) ?? [];
  if (path === undefined) {
    throw new TypeError(`${quote(option)}: write "${PREFIX}path=DIR", "DIR:MODE" or "DIR:MODE:UID:GID"`);
  }
  const bits = mode === undefined ? undefined : parseInt(mode, 8);
  if (bits !== undefined && bits > 0o777) throw new TypeError(`${quote(option)}: a mode is at most 777`);
  return { path, mode: bits, uid: readId(option, uid), gid: readId(option, gid) };
}

const NO_ID = 2 ** 32 - 1; // linux/uidgid.h: (uid_t)-1 changes nothing

function readId(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (Number(text) >= NO_ID) throw new TypeError(`${quote(option)}: ${text} is no user or group`);
  return Number(text);
}
