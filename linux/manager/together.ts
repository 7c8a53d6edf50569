/**
 * Images in files, which are mounted and unmounted at the same time: each waits for a disk, on one of the runtime's
 * threads, and none for another.
 *
 * @module
 */

import type { Manager } from "./context.ts";
import { erofsHandler } from "./erofs_handler.ts";

const AT_ONCE = 4; // each takes a thread, of which the runtime has 32

/**
 * Whether the handler of a type mounts an image, on the mountpoint that it is given.
 *
 * @param manager the manager.
 * @param handler the handler's type; undefined for a mount of the kernel.
 * @returns false also for a handler of the caller's own, which may wait for the mounts before it.
 */
export function mountsImage({ handlers }: Manager, handler: string | undefined): boolean {
  return handler !== undefined && handlers.get(handler) === erofsHandler;
}

/**
 * Carries steps out in their order, neighbours of images at the same time.
 *
 * @param steps the steps.
 * @param isImage whether a step need not wait for those before it.
 * @param work one step.
 * @throws the error of the first step that fails. The later ones are not begun, except those at the same time: they have
 * ended.
 */
export async function inOrder<T>(
  steps: readonly T[],
  isImage: (step: T) => boolean,
  work: (step: T) => Promise<void>,
): Promise<void> {
  for (let begin = 0; begin < steps.length;) {
    const rest = steps.slice(begin, begin + AT_ONCE);
    const other = rest.findIndex((step) => !isImage(step));
    const next = other < 0 ? rest : rest.slice(0, Math.max(1, other));
    for (const result of await Promise.allSettled(next.map(work))) {
      if (result.status === "rejected") throw result.reason;
    }
    begin += next.length;
  }
}
