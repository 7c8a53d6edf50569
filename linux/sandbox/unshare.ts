/**
 * The command line that starts a stage in new namespaces, by unshare(1) of util-linux, and why that can fail.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { findProgram } from "../path/program.ts";
import { readTextFile } from "../path/text_file.ts";
import { mayMount } from "../syscalls/features.ts";
import { getegid, geteuid } from "../syscalls/mod.ts";
import { SandboxError } from "./error.ts";
import { STAGE } from "./protocol.ts";
import type { IdRanges, Life, Step } from "./steps.ts";

/** Where an ordinary user's devpts is mounted, for the stage to take it from. */
const DEVPTS = "/dev/pts";

/** The packages of Debian that have the programs. */
const packages = {
  unshare: "util-linux",
  sh: "dash",
  mount: "mount",
  rmdir: "coreutils",
  flock: "util-linux",
} as const;

/**
 * Finds a program of the system, never in the working directory.
 *
 * @param name its name.
 * @returns its absolute path.
 * @throws {SandboxError} ENOENT if it is not installed.
 */
export function requireProgram(name: keyof typeof packages): string {
  const found = findProgram(name);
  if (found !== undefined) return found;
  throw new SandboxError(`a sandbox needs the program ${name}: install the package ${packages[name]}`, {
    code: "ENOENT",
    path: name,
  });
}

/** How a stage is started. */
export interface StageCommand {
  /** The program and its arguments. */
  readonly command: readonly [string, ...string[]];
  /** Where an ordinary user's devpts is mounted. */
  readonly devpts?: string | undefined;
  /** The id maps that this process has to write. */
  readonly ranges?: IdRanges | undefined;
}

/**
 * Composes the command line that starts a stage.
 *
 * Root gets no user namespace: a command has no capability with or without one, and without one there are no id maps to
 * run short of, and the box can mount images. Another user gets one with their own id. The kernel mounts a devpts only
 * where the id 0 is mapped, so that it is made in an outer namespace, in which the user is root.
 *
 * @param life what the box shares with the host.
 * @param steps what makes its root directory.
 * @param socket the number of the stage's socket.
 * @returns the command line.
 */
export function stageCommand(life: Life, steps: readonly Step[], socket: number): StageCommand {
  const has = (kind: Step["kind"]) => steps.some((step) => step.kind === kind);
  const unshare = requireProgram("unshare");
  const inner = [...namespaces(life), "--", ...stageProgram(has("mount")), STAGE, String(socket)];
  const { ids } = life;
  if (ids !== undefined && "uidMap" in ids) {
    return { command: [unshare, "--user", "--keep-caps", ...inner], ranges: ids };
  }
  if (ids === undefined && mayMount()) return { command: [unshare, ...inner] };
  const { uid, gid } = ids ?? { uid: geteuid(), gid: getegid() };
  const mapped = [
    unshare,
    "--user",
    `--map-user=${uid}`,
    `--map-group=${gid}`,
    "--keep-caps",
    ...inner,
  ] as const;
  if (!has("dev")) return { command: [...mapped] };
  const outer = [unshare, "--user", "--map-root-user", "--mount", "--propagation", "private", "--"] as const;
  const mountPts = `"$0" -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts ${DEVPTS} && exec "$@"`;
  return {
    command: [...outer, requireProgram("sh"), "-c", mountPts, requireProgram("mount"), ...mapped],
    devpts: DEVPTS,
  };
}

function namespaces({ network, shareIpc, shareUts, shareCgroup }: Life): string[] {
  return [
    ...["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"],
    ...shareIpc ? [] : ["--ipc"],
    ...shareUts ? [] : ["--uts"],
    ...shareCgroup ? [] : ["--cgroup"],
    ...network ? [] : ["--net"],
  ];
}

/** In a compiled program, the program itself, which calls sandboxStage(). */
function stageProgram(isFull: boolean): string[] {
  if (Deno.build.standalone) return [Deno.execPath()];
  const flags = ["--allow-all", "--quiet", "--no-prompt", "--no-config", "--no-lock", "--cached-only"];
  return [Deno.execPath(), "run", ...flags, stageUrl(import.meta.url, isFull)];
}

/** The URL of stage.ts or full_stage.ts, or of the file that `deno bundle` made of all modules. */
function stageUrl(moduleUrl: string, isFull: boolean): string {
  const file = isFull ? "./full_stage.ts" : "./stage.ts";
  return moduleUrl.endsWith("/linux/sandbox/unshare.ts") ? new URL(file, moduleUrl).href : moduleUrl;
}

/** Reads a setting of the kernel. */
export type ReadSetting = (path: string) => string | undefined;

/**
 * Says why unshare(1) failed, and what to do.
 *
 * @param said what it printed.
 * @param read reads a file of /proc/sys.
 * @param isPrivileged whether this process needs no user namespace.
 * @returns the error.
 */
export function explainUnshare(
  said: string,
  read: ReadSetting = readSetting,
  isPrivileged = mayMount(),
): SandboxError {
  const reason = (isPrivileged ? undefined : settingThatForbids(read)) ??
    (said.trim() || "the stage ended without a word");
  const code = /No space left/.test(said)
    ? "ENOSPC"
    : /not permitted|denied/i.test(said)
    ? "EPERM"
    : undefined;
  return new SandboxError(`the box can't be started: ${reason}`, { code, syscall: "unshare" });
}

function settingThatForbids(read: ReadSetting): string | undefined {
  if (read("/proc/sys/user/max_user_namespaces") === "0") {
    return "this machine permits no user namespaces (user.max_user_namespaces is 0): " +
      "run as root, or have root run sysctl user.max_user_namespaces=10000";
  }
  if (read("/proc/sys/kernel/unprivileged_userns_clone") === "0") {
    return "this machine permits user namespaces to root only (kernel.unprivileged_userns_clone is 0): " +
      "run as root, or have root run sysctl kernel.unprivileged_userns_clone=1";
  }
  if (read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") === "1") {
    return "AppArmor permits user namespaces only to programs with a profile for them " +
      "(kernel.apparmor_restrict_unprivileged_userns is 1, Ubuntu's default): run as root, have root write a profile " +
      "with the rule `userns,` for unshare, or run sysctl kernel.apparmor_restrict_unprivileged_userns=0";
  }
  return undefined;
}

function readSetting(path: string): string | undefined {
  try {
    return readTextFile(path).trim();
  } catch (error) {
    if (isErrno(error, "ENOENT", "EACCES")) return undefined;
    throw error;
  }
}
