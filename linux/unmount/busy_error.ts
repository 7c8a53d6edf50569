/**
 * The error of an unmount that fails because the mount is busy.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import type { Holder, MountUse } from "./holders.ts";

const NAMED = 10; // holders in a message
const USES_NAMED = 3; // uses of a process in a message

/**
 * An unmount that failed with EBUSY. The message names the holders: what keeps the mount busy.
 *
 * @example
 * ```ts
 * import { BusyError, mount, unmount } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * await using _root = await mount({ type: "tmpfs", source: "tmpfs" }, target);
 * {
 *   using _file = await Deno.create(`${target}/file`);
 *   try {
 *     await unmount(target, { timeout: 100 });
 *   } catch (error) {
 *     if (!(error instanceof BusyError)) throw error;
 *     console.log(error.holders); // [{ kind: "process", pid: 4711, name: "deno", … }]
 *   }
 * }
 * ```
 */
export class BusyError extends SyscallError {
  /** The class's name, "BusyError". */
  override readonly name = "BusyError";
  /**
   * What keeps the mount busy; empty if nothing was found. A process of another user is found only with CAP_SYS_PTRACE.
   */
  readonly holders: readonly Holder[];

  /**
   * Adds the holders to the error of the call.
   *
   * @param cause the error of umount2(2).
   * @param holders what keeps the mount busy.
   */
  constructor({ syscall, errno, path, dest, message }: SyscallError, holders: readonly Holder[]) {
    super({ syscall, errno, path, dest });
    this.holders = holders;
    const lines = describeHolders(holders);
    this.message = lines.length === 0 ? message : `${message}: used by ${lines.join("; ")}`;
  }
}

/**
 * Describes holders, at most ten of them.
 *
 * @param holders the holders.
 * @returns a text for each, and "and N more" if there are more.
 */
export function describeHolders(holders: readonly Holder[]): string[] {
  const more = holders.length - NAMED;
  return [...holders.slice(0, NAMED).map(describe), ...more > 0 ? [`and ${more} more`] : []];
}

function describe(holder: Holder): string {
  switch (holder.kind) {
    case "process":
      return `${processName(holder)}: ${describeUses(holder.uses)}`;
    case "mount":
      return `the ${holder.fsType} mount on ${holder.mountpoint}`;
    case "loop":
      return `the loop device ${holder.device}, whose file is ${holder.backingFile}`;
    case "swap":
      return `the swap file ${holder.path}`;
    case "namespace":
      return `possibly the mount namespace of ${processName(holder)}, which contains a copy of the mount`;
  }
}

function processName(
  { pid, name, isThisProcess }: { pid: number; name: string; isThisProcess?: boolean },
): string {
  return isThisProcess ? `this process (pid ${pid})` : `${name} (pid ${pid})`;
}

function describeUses(uses: readonly MountUse[]): string {
  const named = uses.slice(0, USES_NAMED).map(({ by, path, fd }) => {
    const what = `${useNames[by]} ${path}`;
    return fd === undefined ? what : `${what} (descriptor ${fd})`;
  });
  return [...named, ...uses.length > USES_NAMED ? ["…"] : []].join(", ");
}

const useNames: Record<MountUse["by"], string> = {
  cwd: "working directory",
  root: "root directory",
  exe: "program",
  file: "open file",
  map: "mapped file",
  socket: "socket",
};
