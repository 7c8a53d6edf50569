/**
 * A mount namespace watched through its table, before Linux 6.15 and without rights: the kernel says that the table has
 * changed, and what has changed is found by comparing. What came and went in between is not seen.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { O_RDONLY, POLLERR, POLLPRI } from "../syscalls/constants.ts";
import { diffTables, type MountEvent, type MountSource } from "./diff.ts";
import { type MountInfo, parseMountInfo } from "./parse_mountinfo.ts";
import { lseekStart, open, type PollFd, readAll } from "../syscalls/mod.ts";

/**
 * Opens a mount table, which holds its namespace from here on, whatever becomes of the process.
 *
 * @param process whose, such as "self" or a pid.
 * @returns its descriptor. Polled for POLLPRI, it tells that the table has changed.
 */
export function openMountinfo(process: string): OwnedFd {
  return open(`/proc/${process}/mountinfo`, O_RDONLY);
}

/** The changes of a mount table. */
export class MountinfoPoll implements MountSource {
  readonly fds: readonly PollFd[];
  readonly #file: OwnedFd;
  readonly #changes: boolean;
  #mounts: Map<number, MountInfo>;

  /**
   * Begins to watch.
   *
   * @param process whose table, such as "self" or a pid.
   * @param changes whether changed options are of interest.
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
