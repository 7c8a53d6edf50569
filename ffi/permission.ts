/**
 * Permissions that are asked about and never asked for: a library that has a terminal prompt for one stops its program.
 *
 * @module
 */

/**
 * Refuses to go on without a permission, where Deno would prompt for it on a terminal.
 *
 * @param descriptor the permission.
 * @throws {Deno.errors.NotCapable} naming the permission and the flag that grants it.
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
