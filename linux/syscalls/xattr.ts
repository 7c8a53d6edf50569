/**
 * listxattr(2), getxattr(2) and setxattr(2).
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { cString, offThread, scratchCString } from "../../ffi/memory.ts";
import { decodeName } from "../../ffi/text.ts";

const LARGEST = 65536; // XATTR_LIST_MAX and XATTR_SIZE_MAX, linux/limits.h
const answer = new Uint8Array(LARGEST); // reused: allocating it takes longer than the calls

/**
 * listxattr(2): the names of a file's extended attributes.
 *
 * Needs the permission `ffi`. The names of `trusted.` are listed with CAP_SYS_ADMIN only.
 *
 * @param path the file; a symbolic link is followed.
 * @returns the names.
 * @throws {SyscallError} EOPNOTSUPP if the file system has no extended attributes.
 *
 * @example
 * ```ts
 * import { listxattr } from "@denomount/mount/linux";
 *
 * console.log(listxattr("/usr"));
 * ```
 */
export function listxattr(path: string): string[] {
  const result = libc().listxattr(scratchCString(path), answer, BigInt(LARGEST));
  return splitNames(answer.subarray(0, check(result, errno[0], "listxattr", path)));
}

/**
 * getxattr(2): the value of an extended attribute.
 *
 * Needs the permission `ffi`.
 *
 * @param path the file; a symbolic link is followed.
 * @param name the attribute.
 * @returns its bytes.
 * @throws {SyscallError} ENODATA if the file does not have it.
 *
 * @example
 * ```ts
 * import { getxattr, listxattr } from "@denomount/mount/linux";
 *
 * for (const name of listxattr("/usr")) console.log(name, getxattr("/usr", name));
 * ```
 */
export function getxattr(path: string, name: string): Uint8Array<ArrayBuffer> {
  const result = libc().getxattr(scratchCString(path), scratchCString(name), answer, BigInt(LARGEST));
  return answer.slice(0, check(result, errno[0], "getxattr", path));
}

/**
 * listxattr(2) and getxattr(2) on another thread, for a file on a server that may not answer.
 *
 * Needs the permission `ffi`.
 *
 * @param path the file; a symbolic link is followed.
 * @returns the attributes that can be read, with their values; none if the list can't be read.
 *
 * @example
 * ```ts
 * import { xattrsOffThread } from "@denomount/mount/linux";
 *
 * console.log([...(await xattrsOffThread("/usr")).keys()]);
 * ```
 */
export async function xattrsOffThread(path: string): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const [file, list] = [cString(path), new Uint8Array(LARGEST)];
  const call = () => libc().listxattr_nonblocking(file, list, BigInt(LARGEST));
  const length = Number(await offThread(call, file, list));
  const found = new Map<string, Uint8Array<ArrayBuffer>>();
  if (length <= 0) return found;
  const value = new Uint8Array(LARGEST);
  for (const name of splitNames(list.subarray(0, length))) {
    const attribute = cString(name);
    const get = () => libc().getxattr_nonblocking(file, attribute, value, BigInt(LARGEST));
    const size = Number(await offThread(get, file, attribute, value));
    if (size >= 0) found.set(name, value.slice(0, size));
  }
  return found;
}

/**
 * setxattr(2): sets an extended attribute.
 *
 * Needs the permission `ffi`, and CAP_SYS_ADMIN for `trusted.` names.
 *
 * @param path the file; a symbolic link is followed.
 * @param name the attribute.
 * @param value its bytes.
 * @throws {SyscallError} EOPNOTSUPP if the file system does not have it.
 *
 * @example
 * ```ts
 * import { mkdtemp, rmdir, setxattr } from "@denomount/mount/linux";
 *
 * const path = mkdtemp("/var/tmp/example-");
 * setxattr(path, "user.example", new TextEncoder().encode("value"));
 * rmdir(path);
 * ```
 */
export function setxattr(path: string, name: string, value: Uint8Array<ArrayBuffer>): void {
  const result = libc().setxattr(scratchCString(path), scratchCString(name), value, BigInt(value.length), 0);
  check(result, errno[0], "setxattr", path);
}

/** The names of a list in which each ends with a NUL. */
function splitNames(list: Uint8Array): string[] {
  const names: string[] = [];
  for (let at = 0; at < list.length;) {
    const end = list.indexOf(0, at);
    names.push(decodeName(list.subarray(at, end)));
    at = end + 1;
  }
  return names;
}
