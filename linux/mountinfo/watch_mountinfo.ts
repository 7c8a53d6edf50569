/**
 * Mount events from mountinfo, for kernels before 6.15 and without CAP_SYS_ADMIN. poll(2) reports that the table has
 * changed; comparing it with the last one finds the changes. A mount that was unmounted in between is not found.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { POLLERR, POLLPRI } from "../syscalls/constants.ts";
import { diffTables, type MountEvent, type MountSource } from "./diff.ts";
import { type MountInfo, MountinfoParser, pieces } from "./parse_mountinfo.ts";
import { each, inSteps } from "../path/steps.ts";
import { openMountinfo, readMountinfo } from "./read_mountinfo.ts";
import { lseekStart, type PollFd, readAll } from "../syscalls/mod.ts";

/** The changes of a mountinfo file. */
export class MountinfoPoll implements MountSource {
  readonly fds: readonly PollFd[];
  readonly #file: OwnedFd;
  readonly #changes: boolean;
  readonly #beginning: Generator<void, Table>;
  #mounts: Table | Promise<Table>;

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
    // Read at once, and parsed in steps: a mount of the next moment must not be in it.
    this.#beginning = parsed(readAll(this.#file.fd));
    this.#mounts = inSteps(this.#beginning);
    if (this.#mounts instanceof Promise) this.#mounts.catch(() => {}); // read() throws it
    opened.move();
  }

  async read([table = 0]: readonly number[]): Promise<MountEvent[]> {
    if (!table) return [];
    const before = await this.#mounts;
    const now = await inSteps(tableOf(this.#file));
    this.#mounts = now;
    return await inSteps(diffTables(before, now, this.#changes));
  }

  end(): void {
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#beginning.return(new Map());
    this.#file.close();
  }
}

type Table = Map<number, MountInfo>;

function* tableOf(file: OwnedFd): Generator<void, Table> {
  lseekStart(file.fd);
  const parser = new MountinfoParser();
  yield* readMountinfo(file, parser);
  return yield* byId(parser);
}

function* parsed(text: Uint8Array): Generator<void, Table> {
  const parser = new MountinfoParser();
  for (const piece of pieces(text)) {
    parser.parse(piece);
    yield;
  }
  return yield* byId(parser);
}

function* byId({ mounts }: MountinfoParser): Generator<void, Table> {
  const table: Table = new Map();
  yield* each(mounts, (mount) => table.set(mount.id, mount));
  return table;
}
