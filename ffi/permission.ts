/**
 * Permission checks that never prompt: a prompt on the terminal would block the program that uses the library.
 *
 * @module
 */

/**
 * Throws if a permission is not granted. Deno itself would prompt for it on a terminal.
 *
 * @param descriptor the permission.
 * @throws {Deno.errors.NotCapable} with the permission and the flag that grants it.
 *
 * @example
 * ```ts ignore
 * import { requirePermission } from "./permission.ts";
 *
 * requirePermission({ name: "ffi" });
 * ```
 */
export function requirePermission(descriptor: Deno.PermissionDescriptor): void {
  if (Deno.permissions.querySync(descriptor).state === "granted") return;
  const { name, path, command } = { path: undefined, command: undefined, ...descriptor };
  const what = path ?? command;
  const to = what === undefined ? "" : ` to "${what}"`;
  throw new Deno.errors.NotCapable(`Requires ${name} access${to}, run again with the --allow-${name} flag`);
}
