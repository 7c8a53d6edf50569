/**
 * Programs that help: found where nobody can plant one, run under any SIGCHLD.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { requirePermission } from "../../ffi/permission.ts";
import { join } from "./path.ts";
import { delay } from "./delay.ts";
import { type WaitOptions, withTimeout } from "./cached_lookup.ts";
import { realpath } from "../syscalls/mod.ts";

const systemDirectories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** How a helper ended. */
export interface HelperResult {
  /** Its exit status; undefined where somebody else reaped it, or SIGCHLD is ignored, so that nobody knows. */
  code?: number;
  /** What it wrote to standard error, and where that is empty to standard output. */
  said: string;
}

/**
 * The directories of PATH that a program may be run from: an empty or relative entry stands for whatever directory
 * the process is in, and so does an absolute one that names the working directory.
 *
 * @returns absolute directories. Without the permission to read PATH, the system's own.
 */
export function safePath(): string[] {
  const granted = Deno.permissions.querySync({ name: "env", variable: "PATH" }).state === "granted";
  const path = granted ? Deno.env.get("PATH") : undefined;
  const entries = path === undefined ? systemDirectories : path.split(":");
  const here = canonical(".");
  return entries.filter((entry) =>
    entry.startsWith("/") && (systemDirectories.includes(entry) || canonical(entry) !== here)
  );
}

function canonical(path: string): string | undefined {
  try {
    return realpath(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES", "ELOOP")) return undefined;
    throw error;
  }
}

/**
 * Finds a program on the safe part of PATH.
 *
 * @param name the program's name.
 * @returns its absolute path; undefined where there is none.
 */
export function findProgram(name: string): string | undefined {
  return safePath().map((directory) => join(directory, name)).find((path) => canonical(path) !== undefined);
}

/**
 * Whether this process may run a program.
 *
 * @param program its absolute path.
 * @returns true where the permission is granted already; nothing prompts.
 */
export function mayRun(program: string): boolean {
  return Deno.permissions.querySync({ name: "run", command: program }).state === "granted";
}

/**
 * Runs a program to its end.
 *
 * @param program its absolute path.
 * @param args its arguments.
 * @param patience how long it may take; as long as it likes if left out.
 * @returns how it ended.
 * @throws {Deno.errors.NotCapable} without the permission `run` for it.
 * @throws {SyscallError} ETIMEDOUT where it takes longer; it is killed then.
 */
export async function runHelper(
  program: string,
  args: readonly string[],
  patience: WaitOptions = { timeout: Infinity },
): Promise<HelperResult> {
  const env = { PATH: safePath().join(":"), LC_ALL: "C" }; // a helper starts others by name
  const child = started(program, {
    args: [...args],
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
  const streams = [read(child.stderr), read(child.stdout)];
  const status = child.status.then(({ code }) => code, unknownStatus);
  const code = await withTimeout(status, patience, program).catch(async (error) => {
    giveUp(child);
    await Promise.all(streams.map((stream) => stream.end()));
    throw error;
  });
  // A server that the helper left running may hold the pipes for as long as it lives.
  await Promise.race([Promise.all(streams.map((stream) => stream.done)), delay(50)]);
  await Promise.all(streams.map((stream) => stream.end()));
  const [error = "", output = ""] = streams.map((stream) => stream.text().trim());
  return { ...(code === undefined ? {} : { code }), said: error || output };
}

/** One that waits for a dead server can't even be killed, but nobody has to wait for it. */
function giveUp(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
    child.unref();
  } catch (error) {
    // It has ended just now: Deno's words for that.
    if (!(error instanceof TypeError || error instanceof Deno.errors.BadResource)) throw error;
  }
}

/** As with any other call, the error has a code. */
function started(program: string, options: Deno.CommandOptions): Deno.ChildProcess {
  requirePermission({ name: "run", command: program });
  try {
    return new Deno.Command(program, options).spawn();
  } catch (error) {
    const errno = error instanceof Error ? /\(os error (\d+)\)$/.exec(error.message)?.[1] : undefined;
    throw errno ? new SyscallError({ syscall: "execve", errno: Number(errno), path: program }) : error;
  }
}

/** Deno has no class and no code for ECHILD, only its sentence. */
function unknownStatus(error: unknown): undefined {
  if (error instanceof Error && error.message.includes("(os error 10)")) return undefined;
  throw error;
}

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
