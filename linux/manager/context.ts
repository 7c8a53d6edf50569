/**
 * What the parts of a manager share.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { readTextFile } from "../path/text_file.ts";
import { O_DIRECTORY, O_RDONLY } from "../syscalls/constants.ts";
import { getdents64, open, readlink } from "../syscalls/mod.ts";
import type { ActivationRecord, MountRow, Row } from "./record.ts";
import type { Activation, ActiveMount, MountHandler } from "./types.ts";

/** An open manager. */
export interface Manager {
  /** The directory of the mountpoints, canonical. */
  readonly root: string;
  /** The directories in which the modifiers make files: the root and those that the caller allows. */
  readonly roots: readonly string[];
  /** The handlers by their types. */
  readonly handlers: ReadonlyMap<string, MountHandler>;
  /** The record. */
  readonly record: ActivationRecord;
  /** This boot of the machine. */
  readonly boot: string;
  /** The mount namespace of this process. */
  readonly namespace: string;
}

/** The names of the directories that activations have in the root directory. */
export const PREFIX = "a-";

/**
 * This boot of the machine.
 *
 * @returns a random text that every boot has another of.
 */
export function bootId(): string {
  return readTextFile("/proc/sys/kernel/random/boot_id").trim();
}

/**
 * The mount namespace of this process.
 *
 * @returns a text that no other namespace of this boot has while this one exists.
 */
export function mountNamespace(): string {
  return readlink("/proc/self/ns/mnt");
}

/**
 * Whether a process that this one can see is in a mount namespace.
 *
 * @param namespace the namespace.
 * @returns false if there is none.
 */
export function isInUse(namespace: string): boolean {
  using proc = open("/proc", O_RDONLY | O_DIRECTORY);
  return getdents64(proc.fd).filter((name) => /^\d+$/.test(name)).some((pid) => {
    try {
      return readlink(`/proc/${pid}/ns/mnt`) === namespace;
    } catch (error) {
      if (isErrno(error, "ENOENT", "ESRCH", "EACCES", "EPERM")) return false; // it has ended, or is another user's
      throw error;
    }
  });
}

/**
 * An activation as the caller sees it.
 *
 * @param row its record.
 * @returns the activation.
 */
export function toActivation(row: Row): Activation {
  return {
    name: row.name,
    active: row.mounts.filter(({ mountedAt }) => mountedAt !== undefined).map(toActiveMount),
    system: row.system,
    labels: row.labels,
    ...row.state === "lost" ? { lost: true } : {},
  };
}

/**
 * A mount as the caller sees it.
 *
 * @param row its record.
 * @returns the mount.
 */
export function toActiveMount({ mount, mountPoint, mountedAt, data }: MountRow): ActiveMount {
  return { ...mount, mountPoint, mountedAt: mountedAt ?? new Date(0), data };
}
