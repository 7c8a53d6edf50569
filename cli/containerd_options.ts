/**
 * The options of `--containerd`, and what the other options mean with it and without it.
 *
 * This file does not load gRPC: `containerd.ts` does, when the option is used.
 *
 * @module
 */

import { InvalidArgumentError, pid, type SnapshotKey, snapshotKey } from "./arguments.ts";
import type { Definition } from "./reader.ts";

/**
 * Adds `--containerd` and `--address` to a subcommand, whose `--namespace <PID|NAME>` both uses share.
 *
 * @param command the subcommand.
 * @param what what `--containerd` does, for the help.
 * @param conflicts the options that are only for mounts, as the names of their values.
 */
export function addContainerdOptions(command: Definition, what: string, conflicts: string[]): void {
  command.addOption(command.createOption("--containerd", what).conflicts(conflicts)).option(
    "--address <SOCKET>",
    "with --containerd, its socket (default: $CONTAINERD_ADDRESS, or /run/containerd/containerd.sock)",
  );
}

/**
 * Reads the options of a subcommand that is used without `--containerd`: `--namespace` is a process then.
 *
 * @param command the subcommand, which ends with a usage error for an option that is for containerd.
 * @param flags its options.
 * @returns the options.
 */
export function withoutContainerd<T extends { address?: string; namespace?: string }>(
  command: Definition,
  { address, namespace, ...flags }: T,
): Omit<T, "address" | "namespace"> & { namespace?: number } {
  if (address !== undefined) command.error("error: option '--address <SOCKET>' is for --containerd");
  if (namespace === undefined) return flags;
  const what = `option '--namespace <PID|NAME>' argument '${namespace}' is invalid`;
  return { ...flags, namespace: parsed(command, what, () => pid(namespace)) };
}

/**
 * Reads the argument of a subcommand that is used with `--containerd`.
 *
 * @param command the subcommand, which ends with a usage error for another text.
 * @param text the argument.
 * @returns the snapshot.
 */
export function snapshotOf(command: Definition, text: string): SnapshotKey {
  const what = `command-argument value '${text}' is invalid for argument 'FILE'`;
  return parsed(command, what, () => snapshotKey(text));
}

/** What depends on another option can't be parsed with it; the error has the words of the parser's own. */
function parsed<T>(command: Definition, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    return command.error(`error: ${what}. ${error.message}`);
  }
}
