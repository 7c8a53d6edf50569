/**
 * The owner and mode of a new mount's root: `X-mount.owner=`, `X-mount.group=` and `X-mount.mode=`.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { quote } from "../../ffi/text.ts";
import { procFdPath } from "../path/mount_target.ts";
import { readTextFile } from "../path/text_file.ts";
import { type Call, call, quoted } from "../spec/call.ts";
import { ExplainedError } from "../spec/error.ts";
import type { RootChange } from "../spec/plan.ts";
import { AT_EMPTY_PATH } from "../syscalls/constants.ts";
import { chmod, fchownat } from "../syscalls/mod.ts";

const KEEP = -1; // chown(2)

/**
 * Changes the owner and the mode of a mount's root.
 *
 * @param mounted the root of the mount.
 * @param change the changes; undefined for none.
 * @throws {TypeError} for a user or group that does not exist.
 */
export function changeRoot(mounted: OwnedFd, change: RootChange | undefined): void {
  if (change === undefined) return;
  const owner = change.owner === undefined ? KEEP : idOf(change.owner, "/etc/passwd", "user");
  const group = change.group === undefined ? KEEP : idOf(change.group, "/etc/group", "group");
  if (owner !== KEEP || group !== KEEP) {
    naming(
      '"X-mount.owner=" and "X-mount.group="',
      () => fchownat(mounted.fd, "", owner, group, AT_EMPTY_PATH),
    );
  }
  // After the owner, because a chown(2) clears set-user-id bits.
  const { mode } = change;
  if (mode !== undefined) naming('"X-mount.mode="', () => chmod(procFdPath(mounted), mode));
}

/** The kernel's error has the path of a descriptor, and does not say which option asked for the call. */
function naming(options: string, change: () => void): void {
  try {
    change();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    const reason = error.code === "EROFS" ? "the mount is read-only" : "the kernel refuses it";
    throw new ExplainedError(error, [], `${options} can't be carried out: ${reason}`);
  }
}

/** passwd(5) and group(5): the name is the first field, and the id the third. */
function idOf(name: string, path: string, kind: string): number {
  if (/^\d+$/.test(name)) {
    if (Number(name) < 2 ** 32 - 1) return Number(name);
    throw new TypeError(`${quote(name)} is no ${kind} id: ids end below 2^32 - 1`);
  }
  const lines = readTextFile(path).split("\n");
  const fields = lines.map((line) => line.split(":")).find(([first]) => first === name);
  if (fields?.[2] === undefined) throw new TypeError(`there is no ${kind} ${quote(name)} in ${path}`);
  return Number(fields[2]);
}

/**
 * Describes {@linkcode changeRoot}.
 *
 * @param change the changes.
 * @returns its calls.
 */
export function describeRootChange(change: RootChange | undefined): Call[] {
  if (change === undefined) return [];
  const { owner, group, mode } = change;
  const isOwned = owner !== undefined || group !== undefined;
  const chown = call(
    "fchownat",
    ["mount", quoted(""), owner ?? KEEP, group ?? KEEP, "AT_EMPTY_PATH"],
    "the owner of its root",
  );
  return [
    ...isOwned ? [chown] : [],
    ...mode === undefined ? [] : [call("chmod", ["mount", `0${mode.toString(8)}`], "the mode of its root")],
  ];
}
