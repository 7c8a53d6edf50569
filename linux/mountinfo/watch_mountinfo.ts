/**
 * Mount events from mountinfo, for kernels before 6.15 and without CAP_SYS_ADMIN. poll(2) reports that the table has
 * changed; comparing it with the last one finds the changes. A mount that was unmounted in between is not found.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { O_RDONLY, POLLERR, POLLPRI } from "../syscalls/constants.ts";
import { diffTables, type MountEvent, type MountSource } from "./diff.ts";
import { type MountInfo, parseMountInfo } from "./parse_mountinfo.ts";
import { lseekStart, open, type PollFd, readAll } from "../syscalls/mod.ts";

/**
 * Opens a mountinfo file. The descriptor keeps the mount namespace alive after the process has ended.
 *
 * Needs the permission `ffi`.
 *
 * @param process the process: "self" or a pid.
 * @returns its descriptor; poll(2) returns POLLPRI when the table has changed.
 * @throws {SyscallError} ENOENT if the process does not exist, EACCES without the right to trace it.
 */
export function openMountinfo(process: string): OwnedFd {
  return open(`/proc/${process}/mountinfo`, O_RDONLY);
}

/** The changes of a mountinfo file. */
export class MountinfoPoll implements MountSource {
  readonly fds: readonly PollFd[];
  readonly #file: OwnedFd;
  readonly #changes: boolean;
  #mounts: Map<number, MountInfo>;

  /**
   * Begins to watch.
   *
   * @param process the process: "self" or a pid.
   * @param changes whether to report changed options.
   * @throws {SyscallError} as {@linkcode openMountinfo} does.
   */
  constructor(process: string, changes: boolean) {
    using opened = new DisposableStack();
    this.#file = opened.use(openMountinfo(process));
    this.#changes = changes;
    this.fds = [{ fd: this.#file.fd, events: POLLPRI | POLLERR }];
    this.#mounts = this.#list();
    opened.move();
  }

  read([table = 0]: readonly number[]): MountEvent[] {
    if (!table) return [];
    const now = this.#list();
    const events = diffTables(this.#mounts, now, this.#changes);
    this.#mounts = now;
    return events;
  }

  #list(): Map<number, MountInfo> {
    lseekStart(this.#file.fd);
    return new Map(parseMountInfo(readAll(this.#file.fd)).map((mount) => [mount.id, mount]));
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
