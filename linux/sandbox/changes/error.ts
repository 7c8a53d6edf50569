/**
 * The error of a file that can't be what the caller asks for.
 *
 * @module
 */

import { quote } from "../../../ffi/text.ts";

/**
 * A file of an upper directory that can't be read, or can't be in a layer. The command in the overlay may have made it on
 * purpose.
 *
 * @example
 * ```ts
 * import { exportLayer, UnsupportedEntryError } from "@denomount/mount/sandbox";
 *
 * const upper = await Deno.makeTempDir(); // of an overlay
 * await Deno.writeTextFile(`${upper}/.wh.passwd`, "");
 * try {
 *   await exportLayer(upper, new WritableStream());
 * } catch (error) {
 *   if (!(error instanceof UnsupportedEntryError)) throw error;
 *   console.error(error.path); // ".wh.passwd"
 * }
 * await Deno.remove(upper, { recursive: true });
 * ```
 */
export class UnsupportedEntryError extends Error {
  /** The class's name, "UnsupportedEntryError". */
  override readonly name: string = "UnsupportedEntryError";
  /** The file's path below the upper directory. */
  readonly path: string;
  /** Always "EOPNOTSUPP". */
  readonly code: string = "EOPNOTSUPP";

  /**
   * Makes the error.
   *
   * @param path the file's path below the upper directory.
   * @param reason what is wrong with it, as the rest of a sentence.
   */
  constructor(path: string, reason: string) {
    super(`${quote(path)} ${reason}`);
    this.path = path;
  }
}
