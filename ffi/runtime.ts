/**
 * Which Deno the library runs on.
 *
 * @module
 */

/**
 * Refuses a Deno that lacks what the library is written with: a later failure would leave a descriptor open, or name
 * something else.
 *
 * @throws {Error} with the version that is needed, and this one.
 *
 * @example
 * ```ts ignore
 * import { requireDeno } from "./runtime.ts";
 *
 * requireDeno();
 * ```
 */
export function requireDeno(): void {
  if (typeof DisposableStack === "function") return; // Deno 2.2; the tests run from 2.3 up
  throw new Error(`denomount needs Deno 2.3 or later; this is Deno ${Deno.version.deno}`);
}
