/**
 * The points of an operation for faults: each call that the library makes, found by tracing the operation once.
 *
 * @module
 */

import type { Call, Threads } from "./strace.ts";

/** One call of an operation. */
export interface Point {
  /** The name of the call in strace. */
  call: string;
  /** The ordinal among the calls of this name, from 1. */
  nth: number;
  /** The threads whose calls are counted. */
  threads: Threads;
  /**
   * True if the call belongs to a clean-up: the operation creates nothing after it, or it removes a temporary directory
   * before it attaches what was mounted there.
   */
  undoing: boolean;
}

const STATMOUNT = "syscall_0x1c9"; // 457: strace 6.1 has no name for it

/**
 * The library's calls among all calls of the process. close(2) is left out: a call that strace makes fail is not executed,
 * so the descriptor would stay open, while the kernel closes it even if close(2) returns an error.
 */
const libraryCalls: Record<string, RegExp> = {
  mount: /./,
  umount2: /./,
  open_tree: /./,
  move_mount: /./,
  fsopen: /./,
  fsconfig: /./,
  fsmount: /./,
  fspick: /./,
  mount_setattr: /./,
  statx: /./,
  [STATMOUNT]: /./,
  statfs: /./,
  openat: /^(?!.*"\/dev\/null")/, // the runtime opens it for the helpers that it starts
  openat2: /./,
  readlink: /./,
  readlinkat: /./,
  lstat: /./,
  newfstatat: /./,
  mkdir: /./,
  rmdir: /./,
  flock: /./,
  getrandom: /./,
  read: /^\d+<(\/proc\/|anon_inode:\[fs)/,
  write: /[ug]id_map/,
  ioctl: /^\d+<(\/dev\/loop|anon_inode:\[pidfd|.*pidfd|user:)/,
  clone: /CLONE_NEWUSER/,
  pidfd_open: /^\d+, 0\b/, // the runtime passes PIDFD_NONBLOCK
  pidfd_send_signal: /./,
  waitid: /P_PIDFD/,
  unshare: /./,
  chdir: /./,
  fanotify_init: /./,
  fanotify_mark: /./,
};

const creatingCalls = new Set(["move_mount", "mkdir", "clone", "mount_setattr"]);
const blockingCalls = new Set(["mount", "umount2", "fsconfig", "unshare", "chdir"]);

/** Calls of one operation, in the place of {@linkcode libraryCalls}. */
export type MoreCalls = Readonly<Record<string, RegExp>>;

/** Whether the library makes this call. */
export function isLibraryCall({ name, rest }: Call, more: MoreCalls = {}): boolean {
  return (more[name] ?? libraryCalls[name])?.test(rest) ?? false;
}

/** Whose call strace made fail: the library's or the runtime's; undefined if none. */
export function injectedCall(
  calls: readonly Call[],
  more: MoreCalls = {},
): "library" | "runtime" | undefined {
  const injected = calls.filter(({ rest }) => rest.includes("(INJECTED)") || rest.includes("SIGKILL"));
  if (injected.length === 0) return undefined;
  return injected.every((call) => isLibraryCall(call, more)) ? "library" : "runtime";
}

/** The points of an operation, in order. Calls of helper processes get no fault. */
export function pointsOf(
  calls: readonly Call[],
  main: number,
  helpers: boolean,
  more: MoreCalls = {},
): Point[] {
  const last = calls.findLastIndex((call) => isLibraryCall(call, more) && isCreating(call));
  const counts = new Map<string, number>();
  return calls.flatMap((call, index): Point[] => {
    const key = `${call.name} ${call.thread}`;
    const nth = (counts.get(key) ?? 0) + 1;
    counts.set(key, nth);
    if (!isLibraryCall(call, more)) return [];
    const point = { call: call.name, nth, undoing: index > last || isRemovalOfTemporary(call) };
    if (call.thread === main) return [{ ...point, threads: "main" }];
    if (helpers || !blockingCalls.has(call.name)) return [];
    return [{ ...point, threads: "pool" }, { ...point, threads: "all" }];
  });
}

function isCreating({ name, rest }: Call): boolean {
  return creatingCalls.has(name) || name === "mount" && !rest.includes("MS_REC|MS_PRIVATE");
}

function isRemovalOfTemporary({ name, rest }: Call): boolean {
  return ["umount2", "rmdir", "statx"].includes(name) && rest.includes("/temporary/denomount-");
}

/** The name of a point in messages. */
export function nameOf({ call, nth, threads }: Point): string {
  const name = isStatmount({ call }) ? "statmount" : call;
  return `${name} #${nth}${threads === "main" ? "" : ` of ${threads} threads`}`;
}

/** Whether the call is statmount(2), which strace 6.1 can't inject. */
export function isStatmount({ call }: Pick<Point, "call">): boolean {
  return call === STATMOUNT;
}
