/**
 * This command started again, in namespaces of its own.
 *
 * @module
 */

import { DeferredSignals } from "./signals.ts";

const permissions = ["read", "write", "run", "env", "ffi", "sys"] as const;

/** The command line that starts this program again, with the permissions that it has itself. */
function self(): string[] {
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

/** Where the command is: beside this module, or in the one file that `deno bundle` has made of all of them. */
function commandUrl(here: string): string {
  return here.endsWith("/cli/self.ts") ? new URL("../cli.ts", here).href : here;
}

/** Whether this user can mount, or needs a user namespace for it. */
export function isRoot(): boolean {
  return Deno.uid() === 0;
}

/**
 * Runs this command in a mount namespace of its own; for an ordinary user, in a user namespace as well.
 *
 * @param args its arguments.
 * @returns its exit status.
 */
export async function runIsolated(args: readonly string[]): Promise<number> {
  const namespaces = [
    ...isRoot() ? [] : ["--user", "--map-root-user"],
    "--mount",
    "--propagation",
    "private",
  ];
  return await runCommand(["unshare", ...namespaces, "--", ...self(), ...args]);
}

/**
 * Runs a command in the foreground, and waits for it whatever signal comes: what is to be done afterwards is done. SIGTERM
 * and SIGHUP are passed on to it. Ctrl-C and Ctrl-\ the terminal sends to it as well; without a terminal, they are passed
 * on too.
 *
 * @param command the program and its arguments.
 * @param options its directory and environment.
 * @returns its exit status, 128 and more for a signal, as a shell has it.
 */
export async function runCommand(
  command: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<number> {
  const [program = "", ...args] = command;
  const isOnTerminal = [Deno.stdin, Deno.stdout, Deno.stderr].some((stream) => stream.isTerminal());
  // Before it starts, for what it says can make somebody send one.
  using _signals = new DeferredSignals((signal) => {
    const isTerminals = isOnTerminal && (signal === "SIGINT" || signal === "SIGQUIT");
    if (!isTerminals) child.kill(signal);
  });
  const child = start(program, args, options);
  return (await child.status).code;
}

function start(program: string, args: string[], options: Deno.CommandOptions): Deno.ChildProcess {
  try {
    return new Deno.Command(program, { ...options, args }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      const hint = program === "unshare" ? ": install the package util-linux" : "";
      throw new Error(`there is no program "${program}"${hint}`, { cause: error });
    }
    throw error;
  }
}
