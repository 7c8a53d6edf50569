/**
 * Tests whether a path exists.
 *
 * @module
 */

/** Returns true if a path exists; does not follow a symbolic link. */
export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
