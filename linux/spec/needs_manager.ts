/**
 * The error for a list that only a mount manager can prepare.
 *
 * @module
 */

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
