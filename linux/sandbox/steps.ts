/**
 * A box as data: the ordered steps that make its root directory, and what its processes share with the host.
 *
 * `compileSteps()` in `compile.ts` makes them of the options of `sandbox()`, sorted so that the most specific path comes
 * last. A caller with an order of its own, such as bubblewrap's arguments, writes them by hand. `startBox()` in `start.ts`
 * has them executed by `buildRoot()` in `build.ts`, inside of the new namespaces.
 *
 * Steps are plain values, which JSON can carry: they go to the stage in a file in memory.
 *
 * @module
 */

import type { IdMapping } from "../spec/id_mapping.ts";
import type { Mount } from "../spec/mount.ts";

/**
 * One step. Each `target` is a path in the box. Directories on the way to it that are missing are made with mode 0755, and
 * so is the mountpoint, where the file system of the box permits it. A `source` is a path of the host, and an absolute one.
 */
export type Step =
  | BindStep
  | TmpfsStep
  | OverlayStep
  | DirectoryStep
  | FileStep
  | SymlinkStep
  | ChmodStep
  | HideStep
  | PinStep
  | LockStep
  | RemountReadonlyStep
  | LockFileStep
  | MountStep
  | KernelStep;

/** Binds a path of the host, with all mounts below it. Set-user-ID bits never count. */
export interface BindStep {
  readonly kind: "bind";
  readonly source: string;
  readonly target: string;
  /** Read-only, recursively. */
  readonly readonly?: boolean;
  /** Devices work. */
  readonly devices?: boolean;
  /** A source that does not exist is skipped. */
  readonly optional?: boolean;
  /** The file that the source has to be, as {@linkcode fileId} of `target.ts` writes it: another one is an error. */
  readonly file?: string;
  /**
   * Source and target are one canonical path: a symbolic link in it, or another file at the target, is an error, because
   * another process has changed the path.
   */
  readonly exact?: boolean;
}

/** A new tmpfs. */
export interface TmpfsStep {
  readonly kind: "tmpfs";
  readonly target: string;
  /** The mode of its root; 0755 if left out. */
  readonly mode?: number;
  /** The limit of its size in bytes; half of the memory if left out. */
  readonly size?: number;
}

/** An overlay. */
export interface OverlayStep {
  readonly kind: "overlay";
  /** The lower layers, the topmost first. */
  readonly lower: readonly string[];
  readonly target: string;
  /**
   * Where the writes go: directories of the host, on one file system; "memory" for a tmpfs that ends with the box; left out
   * for a read-only overlay.
   */
  readonly upper?: { readonly upper: string; readonly work: string } | "memory";
  /** As that of a bind, for the one lower layer. */
  readonly exact?: boolean;
  /** Its marks are user.overlay.* attributes; only in a user namespace if left out. */
  readonly userxattr?: true;
}

/** A directory, unless there is one. Directories above that are missing have no more rights for group and others. */
export interface DirectoryStep {
  readonly kind: "directory";
  readonly target: string;
  /** 0755 if left out. */
  readonly mode?: number;
}

/** A regular file with a content. */
export interface FileStep {
  readonly kind: "file";
  readonly target: string;
  /** Its content, in base64. */
  readonly content: string;
  /** 0666 if left out. */
  readonly mode?: number;
  /**
   * How: "create" writes it into the file system of the target, the others bind a file in memory onto it; "create" if left
   * out.
   */
  readonly how?: "create" | "bind" | "bind-readonly";
}

/** A symbolic link, unless the same one exists. */
export interface SymlinkStep {
  readonly kind: "symlink";
  /** Where it is. */
  readonly target: string;
  /** What it leads to. */
  readonly to: string;
}

/**
 * Locks a directory, if it is empty, for as long as the box exists: another box that has made it for the time of its own
 * life then does not remove it.
 */
export interface LockStep {
  readonly kind: "lock";
  readonly target: string;
  /** As that of a bind. */
  readonly exact?: boolean;
}

/** Changes the mode of a path. */
export interface ChmodStep {
  readonly kind: "chmod";
  readonly target: string;
  readonly mode: number;
}

/** Mounts an empty read-only directory, or an empty read-only file, on a path. */
export interface HideStep {
  readonly kind: "hide";
  readonly target: string;
  /** The target does not exist on the host: a directory is made for it. */
  readonly held?: boolean;
  /** A target that does not exist in the box is skipped: it is hidden already. */
  readonly optional?: boolean;
  /** As that of a bind. */
  readonly exact?: boolean;
}

/**
 * Mounts a directory of the box on itself, with the mounts below it. The kernel refuses to rename or remove a mountpoint,
 * so what is mounted below stays at its path.
 */
export interface PinStep {
  readonly kind: "pin";
  readonly target: string;
  /** As that of a bind; a target that is missing is an error then, and made otherwise. */
  readonly exact?: boolean;
}

/** Makes one mount read-only, not those below it. */
export interface RemountReadonlyStep {
  readonly kind: "remount-readonly";
  readonly target: string;
}

/** Takes a POSIX lock for reading on a file of the box, for as long as the box exists. */
export interface LockFileStep {
  readonly kind: "lock-file";
  readonly target: string;
}

/** Any mount, as `mountAll()` takes it. */
export interface MountStep {
  readonly kind: "mount";
  readonly mount: Mount;
}

/**
 * What the kernel serves: proc of the box's PID namespace, with all of it read-only but the directories of processes; a
 * minimal /dev; mqueue. "hide-proc" covers each proc of the host that binds have brought in: the directories of host
 * processes in it lead out of the box.
 */
export type KernelStep =
  | { readonly kind: "proc" | "mqueue"; readonly target: string }
  | {
    readonly kind: "dev";
    readonly target: string;
    /** Later steps, and commands, can make files in it. */
    readonly writable?: boolean;
  }
  | { readonly kind: "hide-proc" };

/** What the processes of a box share with the host, and how they begin. */
export interface Life {
  /** Whether they use the host's network. */
  readonly network: boolean;
  /** Whether they use the host's System V IPC and message queues; false if left out. */
  readonly shareIpc?: boolean;
  /** Whether they use the host's hostname, which they can't change; false if left out. */
  readonly shareUts?: boolean;
  /** Whether they see the host's cgroups; false if left out. */
  readonly shareCgroup?: boolean;
  /** The name of the host inside. */
  readonly hostname?: string | undefined;
  /** The ids inside: the one user and group id that this process's get, or ranges. */
  readonly ids?: { readonly uid: number; readonly gid: number } | IdRanges | undefined;
  /** The environment of commands, all of it. */
  readonly env: Readonly<Record<string, string>>;
  /** The working directory of commands, a path in the box; this process's if left out and the box has it, else "/". */
  readonly cwd?: string | undefined;
  /** What takes the place of this process's working directory, if the box has it and not that. */
  readonly cwdElse?: string | undefined;
  /** Commands can make no user namespace; only where the box has a user namespace. */
  readonly disableUserNamespaces?: boolean;
  /** Whether `Sandbox.info` is needed. */
  readonly reportsInfo?: boolean;
}

/** What identifies a box outside of it. */
export interface BoxInfo {
  /** The first process of the box, in the starting process's PID namespace. */
  readonly pid: number;
  /** The inode numbers of its namespaces, by their names in /proc/PID/ns. */
  readonly namespaces: Readonly<Record<string, number>>;
}

/** Id maps of a box. */
export interface IdRanges {
  /** The user ids. */
  readonly uidMap: string | readonly IdMapping[];
  /** The group ids. */
  readonly gidMap: string | readonly IdMapping[];
}

/** What the stage gets. */
export interface Plan {
  readonly steps: readonly Step[];
  readonly hostname?: string | undefined;
  readonly bringUpLoopback: boolean;
  /** The working directory of commands. */
  readonly cwd: string;
  /** Whether "/" takes the place of a working directory that is not in the box. */
  readonly cwdIsOptional: boolean;
  readonly cwdElse?: string | undefined;
  readonly disableUserNamespaces?: boolean | undefined;
  readonly reportsInfo?: boolean | undefined;
  /** The stage waits until the id maps are written. */
  readonly waitsForMaps: boolean;
  /** Where a new devpts is mounted that the stage takes; it can't mount one itself. */
  readonly devpts?: string | undefined;
}

/** An overlay whose writes are held back. */
export interface HeldOverlay {
  /** The directory, as the box sees it. */
  readonly path: string;
  /** The lower layers, paths of this machine, the topmost first. */
  readonly lower: readonly string[];
  /** Whether overlayfs keeps its marks in user.overlay.* and not in trusted.overlay.*. */
  readonly usesUserXattr: boolean;
  /** Directories in it that the box made to mount on, relative to it. */
  readonly made: readonly string[];
}
