/**
 * The assertions of std, with the types that the npm package lacks.
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
/** Fails unless both values are deeply equal. */
export const assertEquals: Assertions["assertEquals"] = typed.assertEquals;
/** Fails if both values are deeply equal. */
export const assertNotEquals: Assertions["assertNotEquals"] = typed.assertNotEquals;
/** Fails unless the text contains the other text. */
export const assertStringIncludes: Assertions["assertStringIncludes"] = typed.assertStringIncludes;
/** Fails unless the text matches the pattern. */
export const assertMatch: Assertions["assertMatch"] = typed.assertMatch;
/** Fails unless the function throws an error of the class; returns the error. */
export const assertThrows: Assertions["assertThrows"] = typed.assertThrows;
/** Fails unless the promise rejects with an error of the class; returns the error. */
export const assertRejects: Assertions["assertRejects"] = typed.assertRejects;
