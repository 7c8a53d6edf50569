/**
 * The points at which an operation can be harmed: each call that the library makes, found by tracing it once.
 *
 * @module
 */

import type { Call, Threads } from "./strace.ts";

/** One call of an operation. */
export interface Point {
  /** The call's name, as strace knows it. */
  call: string;
  /** Which of the calls of this name, from 1. */
  nth: number;
  /** Whose calls are counted. */
  threads: Threads;
  /** Nothing is made after it: it belongs to the operation's own clearing up, or just looks. */
  undoing: boolean;
}

const STATMOUNT = "syscall_0x1c9"; // 457, which strace 6.1 has no name for

/**
 * The library's own calls among all that a process makes. Left out is close(2): strace does not make a call that it
 * has fail, so the descriptor would stay open by strace's doing, which no kernel does: there it is closed whatever
 * close(2) says.
 */
const ours: Record<string, RegExp> = {
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
  openat: /^(?!.*"\/dev\/null")/, // the runtime's own, for the helpers it starts
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
  pidfd_open: /^\d+, 0\b/, // the runtime asks with PIDFD_NONBLOCK
  pidfd_send_signal: /./,
  waitid: /P_PIDFD/,
  unshare: /./,
  chdir: /./,
  fanotify_init: /./,
  fanotify_mark: /./,
};

const makes = new Set(["move_mount", "mkdir", "clone", "mount_setattr"]);
const offThread = new Set(["mount", "umount2", "fsconfig", "unshare", "chdir"]);

/** Whether a call is one of the library's. */
export function isOurs({ name, rest }: Call): boolean {
  return ours[name]?.test(rest) ?? false;
}

/** Whether strace has made a call fail, and one of ours. */
export function hit(calls: readonly Call[]): "ours" | "another" | undefined {
  const struck = calls.filter(({ rest }) => rest.includes("(INJECTED)") || rest.includes("SIGKILL"));
  if (struck.length === 0) return undefined;
  return struck.every(isOurs) ? "ours" : "another";
}

/** The points of an operation, in the order that they come. What its helpers call is not ours to harm. */
export function pointsOf(calls: readonly Call[], main: number, helpers: boolean): Point[] {
  const last = calls.findLastIndex((call) => isOurs(call) && isMaking(call));
  const counts = new Map<string, number>();
  return calls.flatMap((call, index): Point[] => {
    const key = `${call.name} ${call.thread}`;
    const nth = (counts.get(key) ?? 0) + 1;
    counts.set(key, nth);
    if (!isOurs(call)) return [];
    const point = { call: call.name, nth, undoing: index > last };
    if (call.thread === main) return [{ ...point, threads: "main" }];
    if (helpers || !offThread.has(call.name)) return [];
    return [{ ...point, threads: "pool" }, { ...point, threads: "all" }];
  });
}

function isMaking({ name, rest }: Call): boolean {
  return makes.has(name) || name === "mount" && !rest.includes("MS_REC|MS_PRIVATE");
}

/** How a table or a message calls a point. */
export function nameOf({ call, nth, threads }: Point): string {
  const name = isStatmount({ call }) ? "statmount" : call;
  return `${name} #${nth}${threads === "main" ? "" : ` of ${threads} threads`}`;
}

/** Whether strace can't inject it, because it is newer. */
export function isStatmount({ call }: Pick<Point, "call">): boolean {
  return call === STATMOUNT;
}
