/**
 * How much text the kernel takes: a value of fsconfig(2), and the data of mount(2).
 *
 * @module
 */

/** The longest string that fsconfig(2) takes, in bytes: strndup_user(…, 256) in fs/fsopen.c. */
export const LONGEST_STRING = 255;

/** The most that mount(2) takes as data, in bytes: a page without the NUL. */
export const LONGEST_DATA = 4095;

/** What is measured: a mount's source and its file system's parameters. */
interface Parameters {
  readonly source: string;
  readonly data: readonly string[];
}

// deno-lint-ignore no-control-regex
const ASCII = /^[\x00-\x7f]*$/;

/**
 * Whether fsconfig(2) takes a value as a string.
 *
 * @param text the value.
 * @returns false if it is longer than 255 bytes.
 */
export function fitsString(text: string): boolean {
  if (text.length * 3 <= LONGEST_STRING) return true; // UTF-8 needs three bytes for a UTF-16 unit at the most
  if (text.length > LONGEST_STRING) return false;
  return ASCII.test(text) || new TextEncoder().encode(text).length <= LONGEST_STRING;
}

/**
 * Whether fsconfig(2) takes every value of a file system.
 *
 * @param parameters the source and the parameters, such as "size=1m".
 * @returns false if one of them is too long.
 */
export function fitsFsconfig({ source, data }: Parameters): boolean {
  if (!fitsString(source)) return false;
  for (const option of data) {
    if (!fitsString(option) && !fitsString(option.slice(option.indexOf("=") + 1))) return false;
  }
  return true;
}

/**
 * Refuses parameters that neither fsconfig(2) nor mount(2) takes.
 *
 * @param parameters the source and the parameters.
 * @param isMapped whether the mount gets an id map, which mount(2) can't give it.
 * @throws {TypeError} if they are too long.
 */
export function refuseLongData(parameters: Parameters, isMapped: boolean): void {
  if (isMapped && !fitsFsconfig(parameters)) {
    throw new TypeError(`with an id map, no option can be longer than ${LONGEST_STRING} bytes`);
  }
  if (parameters.data.length === 0) return;
  const text = parameters.data.join(",");
  if (text.length * 3 <= LONGEST_DATA) return;
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > LONGEST_DATA && !fitsFsconfig(parameters)) {
    throw new TypeError(
      `the options are ${bytes} bytes long, and one of them over ${LONGEST_STRING}: the kernel takes ${LONGEST_DATA} in all`,
    );
  }
}
