/**
 * Starting this command again in new namespaces, and running other commands.
 *
 * @module
 */

import { findProgram } from "../linux/path/program.ts";
import { DeferredSignals } from "./signals.ts";

const permissions = ["read", "write", "run", "env", "ffi", "sys"] as const;

/** The command line that starts this program again with the same permissions. */
function ownCommandLine(): string[] {
  if (Deno.build.standalone) return [Deno.execPath()];
  const granted = permissions.filter((name) => Deno.permissions.querySync({ name }).state === "granted");
  return [
    Deno.execPath(),
    "run",
    "--quiet",
    "--no-prompt",
    ...granted.map((name) => `--allow-${name}`),
    commandUrl(import.meta.url),
  ];
}

/** The URL of cli.ts, or of the file that `deno bundle` made of all modules. */
function commandUrl(moduleUrl: string): string {
  return moduleUrl.endsWith("/cli/self.ts") ? new URL("../cli.ts", moduleUrl).href : moduleUrl;
}

/** Whether the user is root; others need a user namespace to mount. */
export function isRoot(): boolean {
  return Deno.uid() === 0;
}

/** The Debian packages of the programs that `run` starts. */
const packages = { chroot: "coreutils", unshare: "util-linux" } as const;

/**
 * Finds a program that `run` starts, never in the working directory.
 *
 * @param name the program's name.
 * @returns its absolute path.
 * @throws {Error} if it is not installed.
 */
export function requireProgram(name: keyof typeof packages): string {
  const program = findProgram(name);
  if (program === undefined) {
    throw new Error(`program not found: "${name}": install the package ${packages[name]}`);
  }
  return program;
}

/**
 * Runs this command in a new mount namespace, and in a new user namespace if the user is not root.
 *
 * @param args the arguments.
 * @returns the exit status.
 */
export async function runIsolated(args: readonly string[]): Promise<number> {
  const namespaces = [
    ...isRoot() ? [] : ["--user", "--map-root-user"],
    "--mount",
    "--propagation",
    "private",
  ];
  return await runCommand([requireProgram("unshare"), ...namespaces, "--", ...ownCommandLine(), ...args]);
}

/**
 * Runs a command in the foreground and waits for it to exit, also if this process gets a signal, so that the caller can
 * clean up. Forwards SIGTERM and SIGHUP to the command. Forwards SIGINT and SIGQUIT only without a terminal: a terminal
 * sends them to the whole foreground process group.
 *
 * @param command the program and its arguments.
 * @param options its directory and environment.
 * @returns the exit status; 128 plus the signal number if a signal ended the command, as in a shell.
 */
export async function runCommand(
  command: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<number> {
  const [program = "", ...args] = command;
  const isOnTerminal = [Deno.stdin, Deno.stdout, Deno.stderr].some((stream) => stream.isTerminal());
  // Before the command starts: its output can prompt another process to send a signal.
  using _signals = new DeferredSignals((signal) => {
    const isSentByTerminal = isOnTerminal && (signal === "SIGINT" || signal === "SIGQUIT");
    if (!isSentByTerminal) child.kill(signal);
  });
  const child = spawn(program, args, options);
  return (await child.status).code;
}

function spawn(program: string, args: string[], options: Deno.CommandOptions): Deno.ChildProcess {
  try {
    return new Deno.Command(program, { ...options, args }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Error(`program not found: "${program}"`, { cause: error });
  }
}
