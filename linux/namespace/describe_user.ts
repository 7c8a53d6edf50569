/**
 * The calls that make a user namespace with id maps, for `explain()`.
 *
 * @module
 */

import { type Call, call, quoted } from "../spec/call.ts";
import type { IdMaps } from "../spec/options.ts";
import { hasFeature, requireIdMapping } from "../syscalls/features.ts";
import type { UserNamespace } from "./open_user.ts";

/**
 * Describes how the user namespace of an id-mapped mount is made.
 *
 * @param maps its maps.
 * @param made the maps of this list that have a namespace already; these are added.
 * @returns the calls; none if a mount before has the same maps.
 * @throws {TypeError} if the kernel has no id-mapped mounts.
 */
export function describeUserNamespace({ uid, gid, file, ofCall }: IdMaps, made: Set<string>): Call[] {
  requireIdMapping();
  if (ofCall !== undefined) return [];
  if (file !== undefined) return [call("open", [quoted(file), "O_RDONLY"], "the user namespace")];
  const key = `${uid}/${gid}`;
  if (made.has(key)) return [];
  made.add(key);
  const written = (file: string, text: string) =>
    call("write", [file, quoted(text)], "the first id inside, the first outside, and how many");
  return [
    call("clone", ["sleep", "CLONE_NEWUSER|CLONE_PIDFD"], "a user namespace, held by a child that sleeps"),
    written("uid_map", uid),
    written("gid_map", gid),
    call("pidfd_send_signal", ["child", "SIGKILL"], "the namespace's descriptor holds it from here on"),
  ];
}

/**
 * Describes how the user namespace of a call is opened.
 *
 * @param namespace the namespace.
 * @returns the calls; none for a descriptor.
 * @throws {TypeError} if the kernel has no id-mapped mounts.
 */
export function describeOpenedNamespace(namespace: UserNamespace | undefined): Call[] {
  if (namespace === undefined) return [];
  requireIdMapping();
  if (typeof namespace === "string") {
    return [call("open", [quoted(namespace), "O_RDONLY"], "the user namespace of all mounts")];
  }
  if (typeof namespace !== "number") return [];
  return hasFeature("pidfdNamespaces")
    ? [
      call("pidfd_open", [namespace], "the process"),
      call("ioctl", ["process", "PIDFD_GET_USER_NAMESPACE"], "its user namespace, of all mounts"),
    ]
    : [call("open", [quoted(`/proc/${namespace}/ns/user`), "O_RDONLY"], "the user namespace of all mounts")];
}
