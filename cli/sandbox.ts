/**
 * `denomount sandbox`: a command in a box, by the words of the library.
 *
 * @module
 */

import { sandbox, type SandboxOptions } from "../linux/sandbox/mod.ts";
import { runInBox } from "./in_box.ts";
import { readMounts } from "./mounts_file.ts";

/** The options of `sandbox`, as they are typed. */
export interface BoxFlags {
  readonly?: string[];
  writable?: string[];
  overlay?: string[];
  state?: string;
  hidden?: string[];
  tmpfs?: string[];
  mounts?: string;
  root?: string;
  proc?: boolean;
  dev?: string;
  network?: true;
  hostname?: string;
  cwd?: string;
  env?: string[];
  clearEnv?: true;
  uid?: number;
  gid?: number;
  uidMap?: string;
  gidMap?: string;
  missing?: string;
  timeout?: number;
}

/**
 * Runs a command in a box.
 *
 * @param command the program and its arguments.
 * @param flags what the box may do.
 * @returns the exit status of the command.
 */
export async function sandboxCommand(command: readonly string[], flags: BoxFlags): Promise<number> {
  const options = await boxOptions(flags);
  const [program = "", ...args] = command;
  const { status } = await runInBox({
    start: (signal) => sandbox({ ...options, signal }),
    spawn: (box, streams) => box.spawn(program, { ...streams, args }),
    hasTerminals: options.dev !== "host",
  });
  return status;
}

/**
 * The options of the library.
 *
 * @param flags what was typed.
 * @returns the options.
 * @throws {TypeError} for words that contradict each other.
 */
export async function boxOptions(flags: BoxFlags): Promise<SandboxOptions> {
  const { state, overlay = [], mounts, root, dev, missing, env, readonly = [], ...rest } = flags;
  if (state !== undefined && overlay.length !== 1) throw new TypeError("--state goes with one --overlay");
  if (dev !== undefined && dev !== "minimal" && dev !== "host") {
    throw new TypeError("--dev is minimal or host");
  }
  if (missing !== undefined && missing !== "error" && missing !== "skip") {
    throw new TypeError("--missing is error or skip");
  }
  return {
    ...rest,
    readonly: [...readonly, ...shownDirectory(flags)],
    overlay: overlay.map((path) => state === undefined ? path : { path, state }),
    ...mounts === undefined ? {} : { mounts: await readMounts(mounts) },
    ...root === undefined ? {} : { root: await readMounts(root) },
    ...dev === undefined ? {} : { dev },
    ...missing === undefined ? {} : { missing },
    env: Object.fromEntries((env ?? []).flatMap(variable)),
  };
}

/** A box has a /tmp and a /run of its own. The working directory is there all the same, if no option speaks of it. */
function shownDirectory(flags: BoxFlags): string[] {
  const { readonly = [], writable = [], overlay = [], hidden = [], tmpfs = [] } = flags;
  const cwd = Deno.cwd();
  if (flags.root !== undefined || flags.cwd !== undefined || !/^\/(tmp|run)\//.test(cwd)) return [];
  const named = [...readonly, ...writable, ...overlay, ...hidden, ...tmpfs].map(canonical);
  return named.some((path) => cwd === path || cwd.startsWith(`${path}/`)) ? [] : [cwd];
}

/** The path as it is if it does not exist: the library says so. */
function canonical(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return path;
    throw error;
  }
}

function variable(text: string): [name: string, value: string][] {
  const at = text.indexOf("=");
  if (at === 0 || text === "") throw new TypeError("--env takes NAME or NAME=VALUE");
  if (at > 0) return [[text.slice(0, at), text.slice(at + 1)]];
  const value = Deno.env.get(text);
  return value === undefined ? [] : [[text, value]];
}
