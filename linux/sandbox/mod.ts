/**
 * Commands in a root directory made of mounts, and the changes that they made.
 *
 * @example
 * ```ts
 * import { readChanges } from "@denomount/mount/sandbox";
 *
 * const upper = await Deno.makeTempDir(); // of an overlay
 * await Deno.writeTextFile(`${upper}/hostname`, "example");
 * for await (const { kind, path } of readChanges(upper, { lower: "/etc" })) console.log(kind, path);
 * await Deno.remove(upper, { recursive: true });
 * ```
 *
 * @module
 */

export * from "./changes/mod.ts";
