/**
 * What a file system's type says about it.
 *
 * @module
 */

const served = /^(fuse(blk)?(\..*)?|nfs4?|cifs|smb3|9p|ceph|afs|autofs|virtiofs)$/;

/**
 * Whether a process or a network peer serves a file system (FUSE, NFS, CIFS, 9p, Ceph). A system call on such a mount
 * can block for as long as the server does not answer.
 *
 * @param type the file system's type, such as "nfs4" or "fuse.sshfs".
 * @returns false for file systems that the kernel serves by itself, from a disk, from memory or from its own state.
 *
 * @example
 * ```ts ignore
 * import { isServed } from "./filesystem_types.ts";
 *
 * isServed("fuse.sshfs"); // true
 * ```
 */
export function isServed(type: string): boolean {
  return served.test(type);
}

/** File systems that show the kernel's own state: they hold no data that an unmount would have to write or free. */
export const PSEUDO_FILESYSTEMS: ReadonlySet<string> = new Set([
  "binfmt_misc",
  "bpf",
  "cgroup",
  "cgroup2",
  "configfs",
  "debugfs",
  "devpts",
  "devtmpfs",
  "efivarfs",
  "fusectl",
  "mqueue",
  "nsfs",
  "proc",
  "pstore",
  "rpc_pipefs",
  "securityfs",
  "selinuxfs",
  "sysfs",
  "tracefs",
]);
