/**
 * Sizes as losetup(8) takes them.
 *
 * @module
 */

/**
 * Reads a number of bytes: with K, M, G or T after it, with or without iB, for powers of 1024.
 *
 * @param text such as "1048576" or "1M".
 * @returns the number; undefined for any other text, and for a number that is too large.
 */
export function readSize(text: string): number | undefined {
  const [, digits, unit] = /^(\d+)(?:([KMGT])(?:iB)?)?$/.exec(text) ?? [];
  if (digits === undefined) return undefined;
  const size = unit === undefined ? Number(digits) : Number(digits) * 1024 ** ("KMGT".indexOf(unit) + 1);
  return Number.isSafeInteger(size) ? size : undefined;
}
