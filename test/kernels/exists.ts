/**
 * Whether a path exists.
 *
 * @module
 */

/** Whether a path exists, of whatever type. */
export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
