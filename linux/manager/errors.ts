/**
 * The errors of a mount manager, named as containerd's codes.
 *
 * @module
 */

import type { Activation } from "./types.ts";

/**
 * No activation has the name. `NotFoundError` of `./containerd` is a subclass, so code that is given any mount manager
 * catches this one.
 *
 * @example
 * ```ts
 * import { LocalMountManager, NotFoundError } from "@denomount/mount/manager";
 *
 * const root = await Deno.makeTempDir();
 * await using manager = await LocalMountManager.open({ root });
 * const error = await manager.info("none").catch((error) => error);
 * console.log(error instanceof NotFoundError);
 * await Deno.remove(root, { recursive: true });
 * ```
 */
export class NotFoundError extends Error {
  /** "NotFoundError". */
  override readonly name = "NotFoundError";
}

/**
 * An activation has the name already, or another process is just making or removing it. `AlreadyExistsError` of
 * `./containerd` is a subclass.
 *
 * @example
 * ```ts
 * import { AlreadyExistsError, LocalMountManager } from "@denomount/mount/manager";
 *
 * const root = await Deno.makeTempDir();
 * await using manager = await LocalMountManager.open({ root });
 * await manager.activate("one", []);
 * const error = await manager.activate("one", []).catch((error) => error);
 * console.log(error instanceof AlreadyExistsError && error.activation?.name); // "one"
 * await manager.deactivate("one");
 * await Deno.remove(root, { recursive: true });
 * ```
 */
export class AlreadyExistsError extends Error {
  /** "AlreadyExistsError". */
  override readonly name = "AlreadyExistsError";
  /** The activation that has the name; undefined in an error of containerd, which does not say. */
  readonly activation: Activation | undefined;

  /**
   * Composes the message.
   *
   * @param message the sentence.
   * @param options the activation that has the name, and the error below it.
   */
  constructor(message: string, { activation, ...options }: ErrorOptions & { activation?: Activation } = {}) {
    super(message, options);
    this.activation = activation;
  }
}

/**
 * The activation, or a file, is in a state that does not permit the call. `FailedPreconditionError` of `./containerd` is
 * a subclass.
 *
 * @example
 * ```ts
 * import { FailedPreconditionError } from "@denomount/mount/manager";
 *
 * console.log(new FailedPreconditionError("a directory is where the image goes").name);
 * ```
 */
export class FailedPreconditionError extends Error {
  /** "FailedPreconditionError". */
  override readonly name = "FailedPreconditionError";
}

/**
 * The record of the activations can't be read or written: damaged, on a full disk, or of a newer version.
 *
 * @example
 * ```ts
 * import { LocalMountManager, RecordError } from "@denomount/mount/manager";
 *
 * const root = await Deno.makeTempDir();
 * await Deno.writeTextFile(`${root}/activations.db`, "not a database".repeat(99));
 * const error = await LocalMountManager.open({ root }).catch((error) => error);
 * console.log(error instanceof RecordError);
 * await Deno.remove(root, { recursive: true });
 * ```
 */
export class RecordError extends Error {
  /** "RecordError". */
  override readonly name = "RecordError";
}

/**
 * What an error says.
 *
 * @param error what was thrown.
 * @returns its message.
 */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
