/**
 * From the options of a box to its ordered steps: the most specific path last, and pins above what has to stay in place.
 *
 * @module
 */

import { tryMkdir } from "../path/try_mkdir.ts";
import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { shown } from "../../ffi/text.ts";
import { canonicalizePath, directoriesAbove, dirname, join } from "../path/path.ts";
import type { WaitOptions } from "../path/wait.ts";
import { subpathOf } from "../spec/mount.ts";
import { readTextFile } from "../path/text_file.ts";
import {
  AT_FDCWD,
  AT_STATX_DONT_SYNC,
  AT_SYMLINK_NOFOLLOW,
  S_IFMT,
  S_IFSOCK,
  STATX_TYPE,
} from "../syscalls/constants.ts";
import { realpath, statx } from "../syscalls/mod.ts";
import { SandboxError } from "./error.ts";
import type { OverlayDirectory, SandboxOptions, TmpfsDirectory } from "./options.ts";
import type { Step } from "./steps.ts";

/** The steps of a box, and what has to be removed after it. */
export interface Compiled {
  /** The steps, in order. */
  readonly steps: readonly Step[];
  /** Directories of this machine that the box makes to mount on. */
  readonly holds: readonly string[];
}

/** What is at a path of the box. */
interface Entry {
  /** The option that asks for it; "default" may be replaced by any. */
  readonly option: "default" | "readonly" | "writable" | "overlay" | "hidden" | "tmpfs" | "mounts" | "pin";
  /** Its steps. */
  readonly steps: readonly Step[];
}

/**
 * Compiles the options of a box. It resolves their paths, and makes the directories of an overlay's state.
 *
 * @param options the options.
 * @returns the steps.
 * @throws {TypeError} for options that contradict each other.
 * @throws {SandboxError} ENOENT for paths that don't exist, all of them named.
 */
export async function compileSteps(options: SandboxOptions): Promise<Compiled> {
  const compiler = new Compiler(options);
  await compiler.add();
  return compiler.compile();
}

class Compiler {
  readonly #options: SandboxOptions;
  readonly #wait: WaitOptions;
  readonly #entries = new Map<string, Entry>();
  /** Paths of readonly and hidden that don't exist, with the canonical directory that does and the next name. */
  readonly #absent: { path: string; option: "readonly" | "hidden"; first: string }[] = [];
  readonly #missing: string[] = [];
  readonly #holds: string[] = [];
  readonly #last: Step[] = []; // after all others
  /** In a box with a root of its own, the paths of its own are not those of this machine. */
  readonly #isHostRoot: boolean;

  constructor(options: SandboxOptions) {
    this.#options = options;
    this.#wait = { timeout: options.timeout, signal: options.signal };
    this.#isHostRoot = options.root === undefined;
  }

  async add(): Promise<void> {
    const { readonly = [], writable = [], overlay = [], hidden = [], tmpfs = [], mounts = [] } =
      this.#options;
    this.#addDefaults();
    for (const path of writable) {
      await this.#addPath(path, "writable", (exact) => [{ kind: "bind", ...exact, source: exact.target }]);
    }
    for (const path of readonly) {
      await this.#addPath(path, "readonly", (exact) => [
        { kind: "bind", ...exact, source: exact.target, readonly: true },
      ]);
    }
    for (const directory of overlay) await this.#addOverlay(directory);
    for (const path of hidden) await this.#addPath(path, "hidden", (exact) => [{ kind: "hide", ...exact }]);
    for (const directory of tmpfs) await this.#addTmpfs(directory);
    for (const mount of mounts) {
      this.#set(subpathOf(mount.target), "mounts", [{ kind: "mount", mount }]);
    }
    await this.#addResolver();
    await this.#hideSockets();
    this.#holdAbsent();
    if (this.#missing.length > 0) throw missingError(this.#missing);
    this.#adapt();
    this.#pin();
  }

  #addDefaults(): void {
    const { root, proc = true, dev = "minimal" } = this.#options;
    if (root === undefined) {
      this.#set("/", "default", [{ kind: "bind", source: "/", target: "/", readonly: true, exact: true }]);
      this.#set("/tmp", "default", [{ kind: "tmpfs", target: "/tmp", mode: 0o1777 }]);
      // The sockets of this machine's services are there: a read-only file system does not keep a user from connecting.
      this.#set("/run", "default", [{ kind: "tmpfs", target: "/run" }]);
    } else this.#set("/", "default", root.map((mount) => ({ kind: "mount", mount })));
    if (proc) this.#set("/proc", "default", [{ kind: "proc", target: "/proc" }]);
    this.#set(
      "/dev",
      "default",
      dev === "minimal" ? [{ kind: "dev", target: "/dev" }] : [
        { kind: "bind", source: "/dev", target: "/dev", readonly: true, devices: true },
        { kind: "tmpfs", target: "/dev/shm", mode: 0o1777 },
      ],
    );
  }

  async #addPath(
    path: string,
    option: "readonly" | "writable" | "hidden",
    steps: (exact: { target: string; exact: true }) => Step[],
  ): Promise<void> {
    if (option === "hidden" && !this.#isHostRoot) {
      const target = subpathOf(absolute(path));
      return this.#set(target, option, [{ kind: "hide", target }]);
    }
    const real = await this.#resolve(path, option);
    if (real !== undefined) this.#set(real, option, steps({ target: real, exact: true }));
  }

  async #addOverlay(directory: string | OverlayDirectory): Promise<void> {
    const { path, state } = typeof directory === "string" ? { path: directory } : directory;
    const real = await this.#resolve(path, "overlay");
    if (real === undefined) return;
    const upper = state === undefined ? "memory" : await this.#makeState(state);
    this.#set(real, "overlay", [{ kind: "overlay", lower: [real], target: real, upper, exact: true }]);
  }

  async #makeState(state: string): Promise<{ upper: string; work: string }> {
    const real = await canonicalizePath(state, this.#wait);
    const directories = { upper: join(real, "upper"), work: join(real, "work") };
    for (const path of Object.values(directories)) tryMkdir(path, 0o755);
    return directories;
  }

  async #addTmpfs(directory: string | TmpfsDirectory): Promise<void> {
    const { path, ...rest } = typeof directory === "string" ? { path: directory } : directory;
    const target = this.#isHostRoot
      ? await this.#tryCanonicalize(path) ?? subpathOf(absolute(path))
      : subpathOf(absolute(path));
    this.#set(target, "tmpfs", [{ kind: "tmpfs", target, ...rest }]);
  }

  /** The names of hosts are looked up by a file that is often a link into /run. */
  async #addResolver(): Promise<void> {
    if (!this.#options.network || !this.#isHostRoot) return;
    const real = await this.#tryCanonicalize("/etc/resolv.conf");
    if (real === undefined || !real.startsWith("/run/") || this.#entries.has(real)) return;
    this.#set(real, "default", [{
      kind: "bind",
      source: real,
      target: real,
      readonly: true,
      optional: true,
    }]);
  }

  /**
   * A read-only file system does not keep a user from connecting to a socket in it. What has a socket that no option names,
   * is of a service of this machine.
   */
  async #hideSockets(): Promise<void> {
    if (!this.#isHostRoot) return;
    for (const path of boundSockets()) {
      const above = this.#above(path);
      if (above === undefined || !showsHost(above.entry) || isWritten(above.entry)) continue;
      const real = await this.#socketAt(path);
      if (real === undefined || this.#entries.has(real)) continue;
      this.#set(real, "default", [{ kind: "hide", target: real, exact: true, optional: true }]);
    }
  }

  /** The canonical path, if there still is a socket. */
  async #socketAt(path: string): Promise<string | undefined> {
    try {
      const real = await canonicalizePath(path, this.#wait);
      const { mode } = statx(AT_FDCWD, real, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, STATX_TYPE);
      return (mode & S_IFMT) === S_IFSOCK ? real : undefined;
    } catch (error) {
      if (error instanceof SyscallError) return undefined;
      throw error;
    }
  }

  /** The canonical path; undefined if the path does not exist. */
  async #resolve(path: string, option: Entry["option"]): Promise<string | undefined> {
    const found = await this.#tryCanonicalize(path);
    if (found !== undefined) return found;
    if (option === "readonly" || option === "hidden") await this.#noteAbsent(path, option);
    else this.#noteMissing(path);
    return undefined;
  }

  #noteMissing(path: string): void {
    if (this.#options.missing !== "skip") this.#missing.push(path);
  }

  async #noteAbsent(path: string, option: "readonly" | "hidden"): Promise<void> {
    for (let at = absolute(path); at !== "/"; at = dirname(at)) {
      const parent = await this.#tryCanonicalize(dirname(at));
      if (parent === undefined) continue;
      const name = at.slice(at.lastIndexOf("/") + 1);
      this.#absent.push({ path, option, first: join(parent, name) });
      return;
    }
  }

  async #tryCanonicalize(path: string): Promise<string | undefined> {
    try {
      return await canonicalizePath(path, this.#wait);
    } catch (error) {
      if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
      throw error;
    }
  }

  /** What does not exist below a writable directory could be made there. */
  #holdAbsent(): void {
    for (const { path, option, first } of this.#absent) {
      const above = this.#above(first);
      if (above === undefined || !isWritten(above.entry)) {
        this.#noteMissing(path);
        continue;
      }
      if (this.#entries.has(first)) continue; // another path begins with the same directory
      this.#set(first, option, [{ kind: "hide", target: first, held: true, exact: true }]);
      if (above.entry.option === "writable") this.#holds.push(first);
    }
  }

  /** The nearest entry above a path. */
  #above(path: string): { path: string; entry: Entry } | undefined {
    for (const directory of directoriesAbove(path).reverse()) {
      const entry = this.#entries.get(directory);
      if (entry && entry.option !== "pin") return { path: directory, entry };
    }
    return undefined;
  }

  /**
   * What depends on what is above a path: a directory that is hidden, with paths in it that are not, is a tmpfs to make their
   * mountpoints in; a path that is not there needs not be hidden; an empty directory may have been made by another box.
   */
  #adapt(): void {
    for (const [path, { option }] of [...this.#entries]) {
      const above = this.#above(path);
      if (above?.entry.option === "hidden" && option !== "hidden") this.#open(above.path, above.entry);
    }
    for (const [path, { option, steps }] of [...this.#entries]) {
      const above = this.#above(path)?.entry;
      if (above === undefined || (option !== "hidden" && option !== "readonly")) continue;
      if (above.option === "writable") this.#entries.set(path, { option, steps: withLock(path, steps) });
      else if (!showsHost(above)) this.#entries.set(path, { option, steps: steps.map(whereItExists) });
    }
  }

  #open(path: string, { option, steps }: Entry): void {
    if (steps.some(({ kind }) => kind === "tmpfs")) return;
    this.#entries.set(path, { option, steps: [{ kind: "tmpfs", target: path }] });
    this.#last.push({ kind: "remount-readonly", target: path });
  }

  /** A mountpoint can't be renamed, so neither can a directory above it be moved away with it. */
  #pin(): void {
    for (const [path, { option, steps }] of [...this.#entries]) {
      if (option === "default" || option === "writable") continue;
      if (steps.some((step) => step.kind === "hide" && step.optional)) continue;
      const above = this.#above(path);
      if (above === undefined || !isWritten(above.entry)) continue;
      for (const target of directoriesAbove(path)) {
        if (target.length <= above.path.length || this.#entries.has(target)) continue;
        const exact = showsHost(above.entry);
        this.#entries.set(target, { option: "pin", steps: [{ kind: "pin", target, exact }] });
      }
    }
  }

  #set(path: string, option: Entry["option"], steps: readonly Step[]): void {
    const other = this.#entries.get(path);
    if (path === "/" && option === "hidden") throw new TypeError("the root directory can't be hidden");
    if (other && other.option !== "default" && other.option !== option) {
      throw new TypeError(`${shown(path)} is in ${other.option} and in ${option}`);
    }
    this.#entries.set(path, { option, steps });
  }

  compile(): Compiled {
    const depth = (path: string) => path === "/" ? 0 : path.split("/").length - 1;
    const sorted = [...this.#entries].sort(([one], [other]) => depth(one) - depth(other));
    const steps = sorted.flatMap(([, entry]) => entry.steps);
    return { steps: [...steps, ...this.#last, { kind: "hide-proc" }], holds: this.#holds };
  }
}

/** Whether a command can make and rename things in it. */
function isWritten({ option, steps }: Entry): boolean {
  return ["writable", "overlay", "tmpfs", "mounts"].includes(option) ||
    option === "default" && steps.some(({ kind }) => kind === "tmpfs" || kind === "mount");
}

/** The paths of Unix sockets that processes in this network namespace have, as they have named them. */
function boundSockets(): Set<string> {
  const paths = readTextFile("/proc/net/unix").split("\n").map((line) => / (\/.*)$/.exec(line)?.[1]);
  return new Set(paths.filter((path) => path !== undefined));
}

/** What is made to be mounted on is locked before. */
function withLock(target: string, steps: readonly Step[]): Step[] {
  const isHeld = steps.some((step) => step.kind === "hide" && step.held);
  return [
    ...isHeld ? [{ kind: "directory", target } as const] : [],
    { kind: "lock", target, exact: true },
    ...steps,
  ];
}

function whereItExists(step: Step): Step {
  return step.kind === "hide" && !step.held ? { ...step, optional: true } : step;
}

/** Whether its content is that of this machine: then the directories on the way to another path exist in it. */
function showsHost({ option, steps }: Entry): boolean {
  return ["writable", "readonly", "overlay"].includes(option) ||
    option === "default" && steps.some((step) => step.kind === "bind");
}

function absolute(path: string): string {
  return join(path.startsWith("/") ? "/" : realpath("."), path);
}

const MOST_NAMED = 50;

function missingError(paths: readonly string[]): SandboxError {
  const named = paths.slice(0, MOST_NAMED).map((path) => shown(path)).join(", ");
  const rest = paths.length > MOST_NAMED ? ` and ${paths.length - MOST_NAMED} more` : "";
  const [does, path] = paths.length === 1 ? ["does", paths[0]] : ["do", undefined];
  return new SandboxError(`${named}${rest} ${does} not exist; missing: "skip" leaves out what is missing`, {
    code: "ENOENT",
    path,
  });
}
