/**
 * Security contexts such as `context="system_u:object_r:tmp_t:s0"`, which only a kernel with SELinux knows. As mount(8)
 * does, they are left out on another one: container engines add them to every mount.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { SELINUX_MAGIC } from "../syscalls/constants.ts";
import { statfs } from "../syscalls/mod.ts";

/**
 * A plan as this kernel takes it.
 *
 * @param plan the plan.
 * @returns the plan without its security contexts, if the kernel has no SELinux.
 */
export function withoutLabels<T extends { readonly labels: readonly string[] }>(plan: T): T {
  return plan.labels.length === 0 || hasSelinux() ? plan : { ...plan, labels: [] };
}

function hasSelinux(): boolean {
  try {
    return statfs("/sys/fs/selinux").type === SELINUX_MAGIC;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return false;
    throw error;
  }
}
