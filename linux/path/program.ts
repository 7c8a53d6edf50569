/**
 * Helper programs such as fusermount3(1): found in absolute directories only, and run whether or not SIGCHLD is ignored.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { type OwnedFd, withDisposable } from "../../ffi/fd.ts";
import { requirePermission } from "../../ffi/permission.ts";
import { join } from "./path.ts";
import { delay } from "./delay.ts";
import { UNRESOLVABLE } from "./cached_lookup.ts";
import { readTextFile } from "./text_file.ts";
import { type WaitOptions, withTimeout } from "./wait.ts";
import { AT_FDCWD, S_IFMT, S_IFREG, SIGKILL, STATX_BASIC_STATS } from "../syscalls/constants.ts";
import { killGroup, pidfdOpen, pidfdSendSignal, realpath, statx } from "../syscalls/mod.ts";

/** Searched if PATH is not set or can't be read. */
const defaultPath = ["/usr/local/sbin", "/usr/local/bin"];

/** Searched last. The PATH of an ordinary user of Debian lacks the directories of sbin, where mount.fuse3 and chroot are. */
const systemDirectories = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/** How a helper ended. */
export interface HelperResult {
  /** Its exit status; undefined if SIGCHLD is ignored or other code in this process reaped it. */
  code?: number;
  /** Its output on stderr; on stdout if stderr is empty. */
  said: string;
  /** Its output on stdout. */
  output: string;
}

/**
 * The directories to run programs from: the absolute entries of PATH, then those of the system. Entries that mean the
 * working directory are left out, because another user may have put a program into it: empty and relative entries, and
 * absolute ones of the working directory itself.
 *
 * @returns absolute directories.
 */
export function safePath(): string[] {
  const granted = Deno.permissions.querySync({ name: "env", variable: "PATH" }).state === "granted";
  const path = granted ? Deno.env.get("PATH") : undefined;
  const workingDirectory = canonical(".");
  const entries = (path?.split(":") ?? defaultPath).filter((entry) =>
    entry.startsWith("/") && (systemDirectories.includes(entry) || canonical(entry) !== workingDirectory)
  );
  return [...new Set([...entries, ...systemDirectories])];
}

function canonical(path: string): string | undefined {
  try {
    return realpath(path);
  } catch (error) {
    if (isErrno(error, ...UNRESOLVABLE)) return undefined;
    throw error;
  }
}

/**
 * Finds a program in the directories of {@linkcode safePath}.
 *
 * @param name the program's name.
 * @returns its absolute path; undefined if it is not installed.
 */
export function findProgram(name: string): string | undefined {
  return safePath().map((directory) => join(directory, name)).find(isExecutable);
}

/** Whether a path is a regular file that a user may execute: a shell skips others. */
function isExecutable(path: string): boolean {
  try {
    const { mode } = statx(AT_FDCWD, path, 0, STATX_BASIC_STATS);
    return (mode & S_IFMT) === S_IFREG && (mode & 0o111) !== 0;
  } catch (error) {
    if (isErrno(error, ...UNRESOLVABLE)) return false;
    throw error;
  }
}

/**
 * Whether this process may run a program.
 *
 * @param program its absolute path.
 * @returns true if the permission `run` is granted; Deno does not prompt.
 */
export function mayRun(program: string): boolean {
  return Deno.permissions.querySync({ name: "run", command: program }).state === "granted";
}

/**
 * Runs a program in a new session and waits for its end.
 *
 * Needs the permissions `ffi`, and `run` for the program.
 *
 * @param program its absolute path.
 * @param args its arguments.
 * @param wait the timeout and the signal; no timeout if left out.
 * @returns its exit status and output.
 * @throws {Deno.errors.NotCapable} without the permission `run` for it.
 * @throws {SyscallError} ETIMEDOUT after the timeout. The program, and what it has started in its session, is killed then,
 * as it is if the signal aborts.
 */
export async function runHelper(
  program: string,
  args: readonly string[],
  wait: WaitOptions = { timeout: Infinity },
): Promise<HelperResult> {
  const env = { PATH: safePath().join(":"), LC_ALL: "C" }; // a helper starts other programs by name
  const child = start(program, {
    args: [...args],
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    detached: true, // setsid(2): its pid is the id of its process group
  });
  const streams = [read(child.stderr), read(child.stdout)];
  const status = child.status.then(({ code }) => code, unknownStatus);
  const code = await withTimeout(status, wait, program).catch(async (error) => {
    killAndForget(child);
    await Promise.all(streams.map((stream) => stream.end()));
    throw error;
  });
  // A FUSE server that the helper has started keeps the pipes open for as long as it runs.
  await Promise.race([Promise.all(streams.map((stream) => stream.done)), delay(50)]);
  await Promise.all(streams.map((stream) => stream.end()));
  const [error = "", output = ""] = streams.map((stream) => stream.text().trim());
  return { ...(code === undefined ? {} : { code }), said: error || output, output };
}

/**
 * Kills a helper that has not been waited for, with its process group and with its descendants, which may have left it: a
 * server that becomes a daemon has a session of its own. A process in uninterruptible sleep ignores SIGKILL; unref() keeps
 * it from holding the event loop.
 */
function killAndForget(child: Deno.ChildProcess): void {
  try {
    const descendants = pidfdsBelow(child.pid);
    killGroup(child.pid);
    for (const pidfd of descendants) withDisposable(pidfd, kill);
    child.kill("SIGKILL");
    child.unref();
  } catch (error) {
    // Deno's errors for a process that has already ended.
    if (!(error instanceof TypeError || error instanceof Deno.errors.BadResource)) throw error;
  }
}

function kill(pidfd: OwnedFd): void {
  try {
    pidfdSendSignal(pidfd.fd, SIGKILL);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // it has ended, or changed its user
  }
}

/** Opens the descendants of a process. While their parent has not ended, their pids are not reused. */
function pidfdsBelow(pid: number): OwnedFd[] {
  const found: OwnedFd[] = [];
  for (const child of childrenOf(pid)) {
    try {
      found.push(pidfdOpen(child), ...pidfdsBelow(child));
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // it has ended
    }
  }
  return found;
}

function childrenOf(pid: number): number[] {
  try {
    const children = readTextFile(`/proc/${pid}/task/${pid}/children`);
    return children.split(" ").filter((text) => text !== "").map(Number);
  } catch (error) {
    if (error instanceof SyscallError) return []; // it has ended, or the kernel lacks CONFIG_PROC_CHILDREN
    throw error;
  }
}

/** Starts a program. A failure of execve(2) is thrown as a {@linkcode SyscallError}. */
function start(program: string, options: Deno.CommandOptions): Deno.ChildProcess {
  requirePermission({ name: "run", command: program });
  try {
    return new Deno.Command(program, options).spawn();
  } catch (error) {
    const errno = error instanceof Error ? /\(os error (\d+)\)$/.exec(error.message)?.[1] : undefined;
    throw errno ? new SyscallError({ syscall: "execve", errno: Number(errno), path: program }) : error;
  }
}

/** ECHILD, which Deno throws as a plain Error with this text: the status is unknown. Any other error is thrown. */
function unknownStatus(error: unknown): undefined {
  if (error instanceof Error && error.message.includes("(os error 10)")) return undefined;
  throw error;
}

/** Reads a stream in the background, and keeps its first 64 KiB. */
function read(stream: ReadableStream<Uint8Array>) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let text = "";
  const done = (async () => {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      if (text.length < 65536) text += decoder.decode(chunk.value, { stream: true });
    }
  })();
  return { done, text: () => text, end: () => reader.cancel() };
}
