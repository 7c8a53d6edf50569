/**
 * std's assertions with their types, which the npm package does not carry.
 *
 * @module
 */

import * as untyped from "@std/assert";

interface Assertions {
  assert(condition: unknown, message?: string): asserts condition;
  assertEquals<T>(actual: T, expected: T, message?: string): void;
  assertNotEquals<T>(actual: T, expected: T, message?: string): void;
  assertStringIncludes(actual: string, expected: string, message?: string): void;
  assertMatch(actual: string, expected: RegExp, message?: string): void;
  assertThrows<E extends Error>(
    fn: () => unknown,
    errorClass: abstract new (...args: never[]) => E,
    includes?: string,
  ): E;
  assertRejects<E extends Error>(
    fn: () => PromiseLike<unknown>,
    errorClass: abstract new (...args: never[]) => E,
    includes?: string,
  ): Promise<E>;
}

const typed: Assertions = untyped;

/** Fails unless the condition holds. */
export const assert: Assertions["assert"] = typed.assert;
/** Fails unless both are equal in depth. */
export const assertEquals: Assertions["assertEquals"] = typed.assertEquals;
/** Fails where both are equal in depth. */
export const assertNotEquals: Assertions["assertNotEquals"] = typed.assertNotEquals;
/** Fails unless the text holds the other. */
export const assertStringIncludes: Assertions["assertStringIncludes"] = typed.assertStringIncludes;
/** Fails unless the text matches. */
export const assertMatch: Assertions["assertMatch"] = typed.assertMatch;
/** Fails unless it throws such an error, which it returns. */
export const assertThrows: Assertions["assertThrows"] = typed.assertThrows;
/** Fails unless it rejects with such an error, which it returns. */
export const assertRejects: Assertions["assertRejects"] = typed.assertRejects;
