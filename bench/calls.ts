/**
 * Counts the system calls of one run of each contender, with strace: other than times, they don't depend on the machine.
 *
 * @module
 */

import type { Contender } from "./measure.ts";

/** What a runtime does for itself: memory, threads, signals, waiting and the clock. */
const OF_A_RUNTIME = [
  ...[
    "futex",
    "mmap",
    "munmap",
    "mremap",
    "madvise",
    "mprotect",
    "brk",
    "membarrier",
    "rseq",
    "set_robust_list",
  ],
  ...[
    "epoll_wait",
    "epoll_pwait",
    "epoll_ctl",
    "poll",
    "ppoll",
    "sched_yield",
    "sched_getaffinity",
    "gettid",
  ],
  ...[
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "tgkill",
    "getpid",
    "restart_syscall",
    "exit",
  ],
  ...["clock_gettime", "clock_nanosleep", "nanosleep", "prctl", "getrandom"],
];

/** strace's arguments; the traced command follows. */
export function straceArguments(log: string): string[] {
  return [
    "-f",
    "-qq",
    "-y",
    "-s",
    "64",
    "--seccomp-bpf",
    "-e",
    `trace=!${OF_A_RUNTIME.join(",")}`,
    "-o",
    log,
  ];
}

const MARK = "/proc/denomount-bench";

/** Leaves a line in strace's log. */
function mark(text: string): void {
  try {
    Deno.statSync(`${MARK}/${text}`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** What the traced process says of its run. */
export interface Traced {
  /** The runs between a contender's marks, by its name. */
  counts: Record<string, number>;
  /** The threads of the library's own process. */
  own: string[];
}

/** Runs each contender once for the caches, and once between two marks. */
export async function trace(contenders: readonly Contender[]): Promise<Traced> {
  const counts: Record<string, number> = {};
  const own = new Set<string>();
  for (const [index, { name, count, run }] of contenders.entries()) {
    if (count === undefined || await run() === undefined) continue;
    mark(`${index}`);
    await run();
    mark(`${index}`);
    for (const { name } of Deno.readDirSync("/proc/self/task")) own.add(name);
    counts[`${index} ${name}`] = count;
  }
  return { counts, own: [...own] };
}

// Every other contender runs in the library's own process.
const PEERS = ["C floor", "containerd", "libmount"];

// A wake-up of another thread, and the peer's request and answer.
const TALK =
  /^\d+ +(?:read|write|readv|writev|sendto|recvfrom)\(\d+<(?:anon_inode:\[eventfd\]|pipe:|socket:|UNIX)/;

/**
 * The calls of one run of each contender.
 *
 * @param log the text of strace's log.
 * @param traced what the traced process said.
 * @returns the calls by the contender's name.
 */
export function countCalls(log: string, { counts, own }: Traced): Record<string, number> {
  const lines = log.split("\n");
  return Object.fromEntries(
    Object.entries(counts).map(([key, count]) => {
      const [index, name] = [key.slice(0, key.indexOf(" ")), key.slice(key.indexOf(" ") + 1)];
      const [first, last] = lines.flatMap((line, at) => line.includes(`"${MARK}/${index}"`) ? [at] : []);
      const calls = lines.slice((first ?? 0) + 1, last).filter((line) => {
        const [pid = "", call = ""] = line.split(/ +/, 2);
        return /^[a-z_0-9]+\(/.test(call) && !TALK.test(line) &&
          (!PEERS.includes(name) || !own.includes(pid));
      });
      return [name, calls.length / count];
    }),
  );
}
