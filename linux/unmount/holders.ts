/**
 * What keeps a mount busy: processes, mounts on it, loop devices, swap files.
 *
 * The links of /proc are read with readlink(2), which needs no file system. Only a link whose text is below the mountpoint
 * is followed, and only on a mount that no server serves: NFS and 9p ask their server even if a link of /proc is followed
 * with O_PATH. All paths begin with /proc/self, so that the calls are made in this mount namespace, whose /proc is known,
 * also for a mount in another namespace. Mount ids are the same in all of them.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { scratchCString } from "../../ffi/memory.ts";
import { decodeName, encodeName, unescapeOctal } from "../../ffi/text.ts";
import { isServed } from "../mountinfo/filesystem_types.ts";
import { listMounts } from "../mountinfo/list_mounts.ts";
import { type MountInfo, parseMountInfo } from "../mountinfo/parse_mountinfo.ts";
import { statxMount } from "../mountinfo/statx_mount.ts";
import { withTimeout } from "../path/wait.ts";
import { delay } from "../path/delay.ts";
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from "../syscalls/constants.ts";
import { getdents64, readAll, readOffThread } from "../syscalls/mod.ts";

/** How a process uses a mount. */
export interface MountUse {
  /** Its working directory, root directory, program, an open file, a mapped file, or a bound Unix socket. */
  readonly by: "cwd" | "root" | "exe" | "file" | "map" | "socket";
  /** The path, as /proc shows it. */
  readonly path: string;
  /** The descriptor of an open file or a socket. */
  readonly fd?: number;
}

/** A process that uses a mount. */
export interface ProcessHolder {
  /** The kind of the holder. */
  readonly kind: "process";
  /** The process ID. */
  readonly pid: number;
  /** The name of the process, as ps(1) prints it: the first 15 bytes of the name of its program. */
  readonly name: string;
  /** Whether it is the process that unmounts. */
  readonly isThisProcess: boolean;
  /** How it uses the mount: the first eight uses. */
  readonly uses: readonly MountUse[];
}

/** A mount whose mountpoint is on the busy mount. */
export interface MountHolder {
  /** The kind of the holder. */
  readonly kind: "mount";
  /** The mountpoint. */
  readonly mountpoint: string;
  /** The type of its file system. */
  readonly fsType: string;
}

/** A loop device whose backing file is on the mount. */
export interface LoopHolder {
  /** The kind of the holder. */
  readonly kind: "loop";
  /** The device, such as "/dev/loop0". */
  readonly device: string;
  /** The backing file. */
  readonly backingFile: string;
}

/** A swap file on the mount. */
export interface SwapHolder {
  /** The kind of the holder. */
  readonly kind: "swap";
  /** The file. */
  readonly path: string;
}

/**
 * A process in another mount namespace, which contains a mount of the same directory. It keeps a mount busy if that mount
 * is a peer and in use. Only looked for if nothing else is found.
 */
export interface NamespaceHolder {
  /** The kind of the holder. */
  readonly kind: "namespace";
  /** A process in the namespace. */
  readonly pid: number;
  /** The name of the process. */
  readonly name: string;
}

/** What keeps a mount busy. */
export type Holder = ProcessHolder | MountHolder | LoopHolder | SwapHolder | NamespaceHolder;

const SEARCH_TIME = 1000; // ms; a hundred processes take 30 ms, and several times as long on a busy machine
const PROCESSES_MAX = 5000;
const USES_MAX = 8; // of a process
const READ_TIME_MIN = 100; // ms; a read that takes longer is blocked
const YIELD_INTERVAL = 20; // ms: how long the search may keep the event loop

const PROC = "/proc/self/.."; // see above
const SYS_BLOCK = "/proc/self/../../sys/block";

/**
 * Finds what keeps a mount busy. The search ends after a second or 5000 processes; the newest are looked at first.
 *
 * @param mountId the id of the mount, as in mountinfo.
 * @param signal ends the search early.
 * @returns the holders; none if the mount is not in the mount table.
 * @throws {SyscallError} if the mount table can't be read.
 */
export async function findHolders(mountId: number, signal?: AbortSignal): Promise<Holder[]> {
  const table = await listMounts();
  const mount = table.find(({ id }) => id === mountId);
  if (mount === undefined) return [];
  const busy = new BusyMount(mount, table.filter(({ parent, id }) => parent === mountId && id !== mountId));
  const limit = new SearchLimit(signal);
  const submounts = busy.submounts.map(({ mountpoint, fsType }): Holder => ({
    kind: "mount",
    mountpoint,
    fsType,
  }));
  const processes = await new ProcessSearch(busy, limit).run();
  const found: Holder[] = [...submounts, ...processes, ...loopHolders(busy), ...swapHolders(busy)];
  return found.length > 0 ? found : await namespaceHolders(busy, limit);
}

/** The limit of the time of a search, which keeps the event loop running meanwhile. */
class SearchLimit {
  readonly #signal: AbortSignal | undefined;
  readonly #end = performance.now() + SEARCH_TIME;
  #nextYield = performance.now() + YIELD_INTERVAL;

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
  }

  /** The time left, in milliseconds. */
  get left(): number {
    return this.#signal?.aborted ? 0 : this.#end - performance.now();
  }

  async isOver(): Promise<boolean> {
    if (performance.now() >= this.#nextYield) {
      await delay(0);
      this.#nextYield = performance.now() + YIELD_INTERVAL;
    }
    return this.left <= 0;
  }
}

/** All processes, the newest first: the kernel's own have the lowest pids. */
function processIds(): number[] {
  const pids = directoryNames(PROC).filter((name) => /^\d+$/.test(name)).map(Number);
  return pids.sort((a, b) => b - a).slice(0, PROCESSES_MAX);
}

/** The busy mount, and whether a path of /proc is on it. */
class BusyMount {
  readonly #prefix: Uint8Array;
  readonly #isServed: boolean;

  constructor(readonly info: MountInfo, readonly submounts: readonly MountInfo[]) {
    this.#prefix = encodeName(info.mountpoint);
    this.#isServed = isServed(info.fsType);
  }

  get id(): number {
    return this.info.id;
  }

  /** Whether a path is at or below the mountpoint; on a submount too. */
  covers(path: Uint8Array): boolean {
    const prefix = this.#prefix;
    if (path.length < prefix.length || prefix.some((byte, index) => path[index] !== byte)) return false;
    return prefix.length === 1 || path.length === prefix.length || path[prefix.length] === SLASH;
  }

  /** Whether a path that it covers is on it, by its text. Wrong for a mount below it that is covered. */
  hasPath(path: string): boolean {
    return !this.submounts.some(({ mountpoint }) => path === mountpoint || path.startsWith(`${mountpoint}/`));
  }

  /** Whether a link of /proc is on it. Its text is used if the link can't be followed. */
  hasLink(link: string, path: string): boolean {
    if (this.#isServed) return this.hasPath(path);
    try {
      return statxMount(link).mountId === this.id;
    } catch (error) {
      if (error instanceof SyscallError) return this.hasPath(path);
      throw error;
    }
  }
}

const SLASH = 47; // ASCII

/** The search through all processes. */
class ProcessSearch {
  readonly #mount: BusyMount;
  readonly #own = Number(linkText(`${PROC}/self`) ?? Deno.pid);
  readonly #sockets: ReadonlyMap<string, string>;
  readonly #limit: SearchLimit;
  /** The processes whose program can be read. A kernel thread has none, and no maps. */
  readonly #withProgram = new Set<number>();

  constructor(mount: BusyMount, limit: SearchLimit) {
    this.#mount = mount;
    this.#limit = limit;
    this.#sockets = boundSockets(mount);
  }

  async run(): Promise<ProcessHolder[]> {
    const pids = [this.#own, ...processIds().filter((pid) => pid !== this.#own)];
    const uses = new Map<number, MountUse[]>();
    for (const pid of pids) {
      if (await this.#limit.isOver()) break;
      const found = [...this.#links(pid), ...this.#files(pid)];
      if (found.length > 0) uses.set(pid, found.slice(0, USES_MAX));
    }
    for (const pid of pids) {
      if (await this.#limit.isOver()) break;
      if (uses.has(pid) || !this.#withProgram.has(pid)) continue;
      const maps = await this.#maps(pid);
      if (maps === "blocked") break;
      if (maps.length > 0) uses.set(pid, maps.slice(0, USES_MAX));
    }
    return Array.from(uses, ([pid, uses]): ProcessHolder => ({
      kind: "process",
      pid,
      name: processName(pid),
      isThisProcess: pid === this.#own,
      uses,
    }));
  }

  /** The directories and the program of a process. Only the threads of this process are looked at one by one. */
  #links(pid: number): MountUse[] {
    const bases = pid === this.#own
      ? directoryNames(`${PROC}/${pid}/task`).map((thread) => `${PROC}/${pid}/task/${thread}`)
      : [`${PROC}/${pid}`];
    const found = bases.flatMap((base) =>
      (["cwd", "root", "exe"] as const).flatMap((by): MountUse[] => {
        const link = readlinkBytes(`${base}/${by}`);
        if (link !== undefined && by === "exe") this.#withProgram.add(pid);
        const path = link !== undefined && this.#mount.covers(link) ? decodeName(link) : undefined;
        return path !== undefined && this.#mount.hasLink(`${base}/${by}`, path) ? [{ by, path }] : [];
      })
    );
    return found.filter(({ by, path }, index) =>
      found.findIndex((each) => each.by === by && each.path === path) === index
    );
  }

  /** The open files of a process, by the mount ids in fdinfo. */
  #files(pid: number): MountUse[] {
    const found: MountUse[] = [];
    for (const name of directoryNames(`${PROC}/${pid}/fd`)) {
      if (found.length >= USES_MAX) break;
      const link = readlinkBytes(`${PROC}/${pid}/fd/${name}`);
      if (link === undefined) continue;
      if (this.#mount.covers(link)) {
        const id = /^mnt_id:\s*(\d+)/m.exec(fileText(`${PROC}/${pid}/fdinfo/${name}`) ?? "")?.[1];
        if (Number(id) === this.#mount.id) {
          found.push({ by: "file", path: decodeName(link), fd: Number(name) });
        }
      } else if (this.#sockets.size > 0) {
        const path = this.#sockets.get(decodeName(link));
        if (path !== undefined) found.push({ by: "socket", path, fd: Number(name) });
      }
    }
    return found;
  }

  /**
   * The mapped files of a process. The kernel takes a lock of the process's memory, which a process can hold while it waits
   * for a server: the first read is made on another thread.
   */
  async #maps(pid: number): Promise<MountUse[] | "blocked"> {
    const text = await this.#mapsText(pid);
    if (text === undefined) return "blocked";
    const paths = new Map<string, string>(); // with the addresses, which name the link in map_files
    for (const [, range = "", escaped = ""] of text.matchAll(/^(\S+) \S+ \S+ \S+ \d+ +(\/.*)$/gm)) {
      const path = unescapeOctal(escaped);
      if (!paths.has(path) && this.#mount.covers(encodeName(path))) paths.set(path, range);
    }
    return Array.from(paths).filter(([path, range]) =>
      this.#mount.hasLink(`${PROC}/${pid}/map_files/${range.replace(/\b0+(?=\w)/g, "")}`, path)
    ).map(([path]): MountUse => ({ by: "map", path }));
  }

  /** undefined if the read blocks. */
  async #mapsText(pid: number): Promise<string | undefined> {
    const file = tryOpen(`${PROC}/${pid}/maps`, O_RDONLY);
    if (file === undefined) return "";
    const first = new Uint8Array(4096);
    const reading = readOffThread(file.fd, first);
    try {
      const length = await withTimeout(
        reading,
        { timeout: Math.max(READ_TIME_MIN, this.#limit.left) },
        "read",
      );
      if (length <= 0) return ""; // a kernel thread
      return decodeName(first.subarray(0, length)) + (tryRead(file) ?? "");
    } catch (error) {
      if (error instanceof SyscallError) return undefined;
      throw error;
    } finally {
      reading.finally(() => file.close()); // a blocked read may not have used the descriptor yet
    }
  }
}

/** The Unix sockets that are bound to a path on the mount: from their links in /proc/PID/fd to their paths. */
function boundSockets(mount: BusyMount): Map<string, string> {
  const sockets = new Map<string, string>();
  // Num RefCount Protocol Flags Type St Inode Path
  for (const [, inode, path = ""] of (fileText("/proc/self/net/unix") ?? "").matchAll(/ (\d+) (\/.*)$/gm)) {
    if (mount.covers(encodeName(path)) && mount.hasPath(path)) sockets.set(`socket:[${inode}]`, path);
  }
  return sockets;
}

function loopHolders(mount: BusyMount): LoopHolder[] {
  return directoryNames(SYS_BLOCK).filter((name) => name.startsWith("loop")).flatMap((name): LoopHolder[] => {
    const backingFile = fileText(`${SYS_BLOCK}/${name}/loop/backing_file`)?.replace(/\n$/, "");
    if (backingFile === undefined || !isOn(mount, backingFile)) return [];
    return [{ kind: "loop", device: `/dev/${name}`, backingFile }];
  });
}

function swapHolders(mount: BusyMount): SwapHolder[] {
  const [, ...lines] = (fileText(`${PROC}/swaps`) ?? "").trim().split("\n");
  const paths = lines.map((line) => unescapeOctal(line.slice(0, Math.max(0, line.search(/\s/)))));
  return paths.filter((path) => isOn(mount, path)).map((path): SwapHolder => ({ kind: "swap", path }));
}

function isOn(mount: BusyMount, path: string): boolean {
  return mount.covers(encodeName(path)) && mount.hasPath(path);
}

/** The first process of each other mount namespace that has a mount of the same directory of the file system. */
async function namespaceHolders({ info, id }: BusyMount, limit: SearchLimit): Promise<NamespaceHolder[]> {
  const seen = new Set<string>();
  const found: NamespaceHolder[] = [];
  for (const pid of processIds()) {
    if (await limit.isOver()) break;
    const namespace = linkText(`${PROC}/${pid}/ns/mnt`);
    if (namespace === undefined || seen.has(namespace)) continue;
    seen.add(namespace);
    const table = parseMountInfo(fileText(`${PROC}/${pid}/mountinfo`) ?? "");
    const isCopy = (each: MountInfo) =>
      each.major === info.major && each.minor === info.minor && each.root === info.root;
    // In the namespace of the mount itself, other mounts of the directory are binds, which keep nothing busy.
    if (table.some((each) => each.id === id) || !table.some(isCopy)) continue;
    found.push({ kind: "namespace", pid, name: processName(pid) });
  }
  return found;
}

function processName(pid: number): string {
  return fileText(`${PROC}/${pid}/comm`)?.replace(/\n$/, "") ?? "?";
}

// A process may exit or belong to another user: its files are then absent. An error for each would take longer than the
// rest of the search.

const linkMemory = new Uint8Array(4096); // PATH_MAX of linux/limits.h

/** The target of a link, valid until the next call; undefined if it can't be read. */
function readlinkBytes(path: string): Uint8Array | undefined {
  const length = Number(libc().readlink(scratchCString(path), linkMemory, BigInt(linkMemory.length)));
  return length < 0 ? undefined : linkMemory.subarray(0, length);
}

function linkText(path: string): string | undefined {
  const bytes = readlinkBytes(path);
  return bytes && decodeName(bytes);
}

function tryOpen(path: string, flags: number): OwnedFd | undefined {
  const fd = libc().open(scratchCString(path), flags | O_CLOEXEC, 0);
  return fd < 0 ? undefined : new OwnedFd(fd);
}

/** The rest of a file; undefined if it can't be read. */
function tryRead({ fd }: OwnedFd): string | undefined {
  try {
    return decodeName(readAll(fd));
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

function fileText(path: string): string | undefined {
  using file = tryOpen(path, O_RDONLY);
  return file && tryRead(file);
}

function directoryNames(path: string): string[] {
  using directory = tryOpen(path, O_RDONLY | O_DIRECTORY);
  if (directory === undefined) return [];
  try {
    return getdents64(directory.fd);
  } catch (error) {
    if (error instanceof SyscallError) return [];
    throw error;
  }
}
