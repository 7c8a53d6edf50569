/**
 * From bubblewrap's arguments to a box.
 *
 * @module
 */

import { isErrno } from "../../../ffi/errno.ts";
import { quote } from "../../../ffi/text.ts";
import { readTextFile } from "../../path/text_file.ts";
import { geteuid } from "../../syscalls/mod.ts";
import type { Life, Step } from "../steps.ts";
import type { OptionName } from "./options.ts";
import { PassedFd } from "./passed_fd.ts";
import { BwrapPlan, idsOf } from "./plan.ts";
import { parseFd, readArguments, type ReadOption } from "./read.ts";
import { consoleStep, stepOf } from "./steps.ts";

/** How the arguments are taken. */
export interface FromBwrapOptions {
  /** The environment that `--setenv`, `--unsetenv` and `--clearenv` change; this process's if left out. */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * Whether the descriptors that the arguments name are those that this process was started with: a descriptor that is
   * close-on-exec is refused then. False if left out.
   */
  readonly inheritedFds?: boolean;
}

/**
 * Takes the arguments of bubblewrap's command `bwrap`, for a program that builds them already. The steps are carried out in
 * the order of the arguments, as bubblewrap does. An argument that a box can't carry out is refused by its name.
 *
 * A box is closed more tightly than bubblewrap's: it always has a PID namespace and a session of its own, ends with this
 * process, and its command has no capability and no descriptor but its three. docs/sandbox.md has a table.
 *
 * Needs the permission `ffi`, and `env` unless `env` is given.
 *
 * @param argv the arguments, without the name `bwrap`.
 * @param options the environment, and which descriptors may be named.
 * @returns what they ask for.
 * @throws {TypeError} for an argument that is wrong or not supported, with its name.
 * @throws {SandboxError} EBADF for a descriptor that is not open.
 *
 * @example
 * ```ts
 * import { fromBwrapArgs } from "@denomount/mount/sandbox";
 *
 * const plan = await fromBwrapArgs(["--unshare-all", "--ro-bind", "/", "/", "--tmpfs", "/tmp", "id"]);
 * await using box = await plan.start();
 * const { code } = await plan.spawn(box).status;
 * console.log(code);
 * ```
 */
export async function fromBwrapArgs(
  argv: readonly string[],
  options: FromBwrapOptions = {},
): Promise<BwrapPlan> {
  const open = (option: string, fd: number) => new PassedFd(option, fd, options.inheritedFds ?? false);
  const { options: read, command } = await readArguments(argv, async (fd) => {
    const words = new TextDecoder().decode(await open("--args", fd).read()).split("\0");
    return words.at(-1) === "" ? words.slice(0, -1) : words;
  });
  const has = (name: OptionName) => read.some((option) => option.name === name);
  const info = has("--help") ? "help" : has("--version") ? "version" : undefined;
  if (info === undefined && command.length === 0) throw new TypeError("a command is missing");
  const passed = (name: OptionName) => {
    const [fd] = lastOf(read, name) ?? [];
    return fd === undefined ? undefined : open(name, parseFd(name, fd));
  };
  const infoFd = passed("--info-fd");
  const statusFd = passed("--json-status-fd");
  passed("--sync-fd"); // it stays open for as long as this process exists
  return new BwrapPlan({
    command,
    argv0: lastOf(read, "--argv0")?.[0],
    steps: info === undefined ? await stepsOf(read, open) : [],
    life: { ...lifeOf(read, options.env ?? Deno.env.toObject()), reportsInfo: Boolean(infoFd ?? statusFd) },
    asksFor: info,
    diesWithParent: has("--die-with-parent"),
    usesLevelPrefix: has("--level-prefix"),
    warnings: warningsOf(read),
    infoFd,
    statusFd,
    blockFd: passed("--block-fd"),
  });
}

async function stepsOf(
  read: readonly ReadOption[],
  open: (option: string, fd: number) => PassedFd,
): Promise<Step[]> {
  const steps: Step[] = [];
  for (const option of read) {
    const step = await stepOf(option, { open });
    if (step === undefined) continue;
    steps.push(step);
    const terminal = step.kind === "dev" ? consoleStep(step.target) : undefined;
    if (terminal) steps.push(terminal);
  }
  return steps;
}

function lastOf(read: readonly ReadOption[], name: OptionName): readonly string[] | undefined {
  return read.findLast((option) => option.name === name)?.operands;
}

const TAKES_LAST: readonly OptionName[] = [
  "--chdir",
  "--hostname",
  "--uid",
  "--gid",
  "--info-fd",
  "--block-fd",
];

function warningsOf(read: readonly ReadOption[]): string[] {
  const counted = TAKES_LAST.map((name) =>
    [name, read.filter((option) => option.name === name).length] as const
  );
  return counted.flatMap(([name, count]) => count > 1 ? [`of several ${name}, the last one counts`] : []);
}

function lifeOf(read: readonly ReadOption[], env: Readonly<Record<string, string>>): Life {
  const has = (name: OptionName) => read.some((option) => option.name === name);
  const own = (...names: OptionName[]) => has("--unshare-all") || names.some(has);
  const hostname = lastOf(read, "--hostname")?.[0];
  if (hostname !== undefined && !own("--unshare-uts")) throw new TypeError("--hostname needs --unshare-uts");
  const hasUserNamespace = geteuid() !== 0 || has("--unshare-user") ||
    own("--unshare-user-try") && !areUserNamespacesOff();
  const disableUserNamespaces = has("--disable-userns");
  if (disableUserNamespaces && !has("--unshare-user")) {
    throw new TypeError("--disable-userns needs --unshare-user");
  }
  if (has("--assert-userns-disabled") && !disableUserNamespaces && !areUserNamespacesOff()) {
    throw new TypeError(
      "--assert-userns-disabled: the box could make user namespaces without --disable-userns",
    );
  }
  const changed = changedEnvironment(read, env);
  const cwd = lastOf(read, "--chdir")?.[0];
  return {
    network: !hasOwnNetwork(read),
    shareIpc: !own("--unshare-ipc"),
    shareUts: !own("--unshare-uts"),
    shareCgroup: !own("--unshare-cgroup", "--unshare-cgroup-try"),
    hostname,
    ids: idsOf(idOf(read, "--uid"), idOf(read, "--gid"), hasUserNamespace),
    env: changed,
    cwd: cwd === undefined ? undefined : `/${cwd.replace(/^\/+/, "")}`,
    cwdElse: changed["HOME"],
    disableUserNamespaces,
  };
}

/** The last of the words that speak of it counts. */
function hasOwnNetwork(read: readonly ReadOption[]): boolean {
  const word = read.findLast(({ name }) => ["--unshare-all", "--unshare-net", "--share-net"].includes(name));
  return word !== undefined && word.name !== "--share-net";
}

const NO_ID = 2 ** 32 - 1; // uid_t -1

function idOf(read: readonly ReadOption[], name: "--uid" | "--gid"): number | undefined {
  const [text] = lastOf(read, name) ?? [];
  if (text === undefined) return undefined;
  if (!/^\d{1,10}$/.test(text) || Number(text) >= NO_ID) {
    throw new TypeError(`${name} takes an id, not ${quote(text)}`);
  }
  return Number(text);
}

function changedEnvironment(
  read: readonly ReadOption[],
  env: Readonly<Record<string, string>>,
): Record<string, string> {
  let changed: Record<string, string> = { ...env };
  for (const { name, operands: [variable = "", value = ""] } of read) {
    if (name === "--clearenv") changed = {};
    else if (name === "--unsetenv") delete changed[variable];
    else if (name === "--setenv") {
      if (variable === "" || variable.includes("=")) {
        throw new TypeError(`${quote(variable)} is no name of a variable`);
      }
      changed[variable] = value;
    }
  }
  return changed;
}

function areUserNamespacesOff(): boolean {
  try {
    return readTextFile("/proc/sys/user/max_user_namespaces").trim() === "0";
  } catch (error) {
    if (isErrno(error, "ENOENT", "EACCES")) return false;
    throw error;
  }
}
