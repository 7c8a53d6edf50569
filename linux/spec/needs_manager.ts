/**
 * Lists that only a mount manager can prepare.
 *
 * @module
 */

/**
 * Whether a type is for a mount manager: containerd 2.2's snapshotters return such types, which are no file systems.
 *
 * @param type the type of a mount.
 * @returns true for "loop" and for a type with a modifier before it.
 */
export function isManagerType(type: string): boolean {
  return /^(format|mkfs|mkdir)\//.test(type) || type === "loop";
}

/**
 * Says what a list needs a mount manager for, and how to get it mounted.
 *
 * @param what the type or option, in words.
 * @returns the error.
 */
export function needsManager(what: string): TypeError {
  return new TypeError(
    `${what} is for a mount manager: "const { system } = await manager.activate(name, mounts)" prepares the list, ` +
      'and "await mountAll(system, target)" mounts it; mountAll(mounts, target, { manager }) does both',
  );
}
