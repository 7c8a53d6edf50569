/**
 * `denomount try`: a command over a throwaway overlay of the whole system.
 *
 * @module
 */

import { listMounts, type Mount, mount, mountAll, type MountInfo } from "../mod.ts";
import {
  AT_FDCWD,
  AT_STATX_DONT_SYNC,
  AT_SYMLINK_NOFOLLOW,
  isErrno,
  OPEN_TREE_CLONE,
  openTree,
  S_IFDIR,
  S_IFMT,
  statx,
  STATX_BASIC_STATS,
  STATX_TYPE,
} from "../linux/mod.ts";
import { PSEUDO_FILESYSTEMS } from "../linux/mountinfo/filesystem_types.ts";
import { applyChanges } from "./apply.ts";
import { type Change, changeLines, type Cover, findChanges } from "./changes.ts";
import { setColorEnabled } from "./deps.ts";
import { escapeControl, printError } from "./print.ts";
import { withProgress } from "./progress.ts";
import { isRoot, runCommand, runIsolated } from "./self.ts";
import { unmountOnDispose, withTempMountOrSignal } from "./temporary.ts";

/** What becomes of the changes. */
export interface TryFlags {
  /** They are made for real. */
  apply?: true;
  /** They are copied to this directory. */
  keep?: string;
  /** Who the command is to be, "uid:gid", inside a user namespace. */
  as?: string;
}

/**
 * Runs a command that sees the whole system and can change all of it, and changes nothing. What it changed is shown
 * afterwards.
 *
 * @param command the program and its arguments.
 * @param flags what becomes of the changes.
 * @returns the command's exit status.
 */
export async function tryOut(command: readonly string[], flags: TryFlags): Promise<number> {
  const options = [
    ...flags.apply ? ["--apply"] : [],
    ...flags.keep === undefined ? [] : ["--keep", flags.keep],
    ...isRoot() ? [] : ["--as", `${Deno.uid()}:${Deno.gid()}`],
  ];
  return await runIsolated(["try-isolated", ...options, "--", ...command]);
}

/**
 * The same, in the mount namespace of its own.
 *
 * @param command the program and its arguments.
 * @param flags what becomes of the changes.
 * @returns the command's exit status.
 */
export async function tryIsolated(command: readonly string[], flags: TryFlags): Promise<number> {
  const table = (await listMounts()).filter(isOnTop);
  const locked = areMountsLocked();
  return await withTempMountOrSignal(
    [{ type: "tmpfs", source: "denomount-try", options: ["mode=0755"] }],
    LAZY,
    async (scratch) => {
      const covers = (locked ? coverableDirectories(table) : mountedDirectories(table))
        .map((path, index): Cover => ({
          path,
          below: `${scratch}/host${path === "/" ? "" : path}`,
          upper: `${scratch}/${index}/upper`,
          merged: `${scratch}/root${path === "/" ? "" : path}`,
        }));
      for (const name of ["host", "root"]) Deno.mkdirSync(`${scratch}/${name}`);
      // Under another path, for Deno lets nobody but who may do everything look below /dev.
      const everything = { type: "bind", source: "/", options: ["rbind"] };
      await using _host = unmountOnDispose(await mount(everything, `${scratch}/host`), LAZY);
      const system = await mountAll(systemMounts(table, covers, locked), `${scratch}/root`);
      await using _system = unmountOnDispose(system, LAZY);
      const status = await runCommand(inside(`${scratch}/root`, command, flags));
      const found = await withProgress("looking for changes", findChanges(covers));
      const changes = found.filter(({ path }) => !path.startsWith(scratch));
      setColorEnabled(Deno.stderr.isTerminal() && !Deno.noColor);
      for (const line of changeLines(changes)) printError(line);
      await settle(changes, `${scratch}/host`, flags);
      return status;
    },
  );
}

const LAZY = true; // nobody waits for what is thrown away, nor for a process that the command has left running

/** In a user namespace, what is mounted on the system's directories is locked there: they can't be had without it. */
function areMountsLocked(): boolean {
  try {
    openTree(AT_FDCWD, "/", OPEN_TREE_CLONE).close();
    return false;
  } catch (error) {
    if (isErrno(error, "EINVAL")) return true;
    throw error;
  }
}

function isOnTop({ mountpoint: own }: MountInfo, index: number, table: readonly MountInfo[]): boolean {
  return table.findLastIndex(({ mountpoint }) => mountpoint === own) === index;
}

// Not the kernel's own state, but no overlay is put over these either.
const uncovered = /^(autofs|fuse.*|hugetlbfs|ramfs)$/;

function isCovered({ mountpoint, fsType }: MountInfo): boolean {
  if (PSEUDO_FILESYSTEMS.has(fsType) || uncovered.test(fsType)) return false;
  if (mountpoint === "/dev" || /^\/(proc|sys)(\/|$)/.test(mountpoint)) return false;
  try {
    const { mode } = statx(AT_FDCWD, mountpoint, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW, STATX_TYPE);
    return (mode & S_IFMT) === S_IFDIR;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return false; // hidden below another mount, or from this user
    throw error;
  }
}

/** With root's rights, an overlay over each mount that holds files. */
function mountedDirectories(table: readonly MountInfo[]): string[] {
  return table.filter(isCovered).map(({ mountpoint }) => mountpoint);
}

/**
 * In a user namespace, an overlay can't copy up a directory whose owner has no id there, such as /var/tmp. So those that
 * an ordinary user writes to get an overlay of their own.
 */
function coverableDirectories(table: readonly MountInfo[]): string[] {
  const directories = [...directoriesWithoutMounts(table)];
  const home = Deno.permissions.querySync({ name: "env", variable: "HOME" }).state === "granted" &&
    Deno.env.get("HOME");
  const writable = ["/tmp", "/var/tmp", home || "/", Deno.cwd()].sort((a, b) => a.length - b.length);
  for (const path of writable) {
    const isInside = directories.some((directory) =>
      path.startsWith(`${directory === "/" ? "" : directory}/`)
    );
    if (isInside && !directories.includes(path)) directories.push(path);
  }
  return directories;
}

/**
 * In a user namespace no overlay may be over a directory that something is mounted in, for it could uncover what is
 * hidden there. So its directories without mounts are covered, one by one.
 */
function* directoriesWithoutMounts(table: readonly MountInfo[], path = "/"): Generator<string> {
  const below = path === "/" ? "/" : `${path}/`;
  const here = table.find(({ mountpoint }) => mountpoint === path);
  if (here !== undefined && !isCovered(here)) {
    // Such as /dev/shm in /dev.
    const inner = table.filter((each) => each.mountpoint.startsWith(below) && isCovered(each));
    for (const { mountpoint } of inner) yield* directoriesWithoutMounts(table, mountpoint);
    return;
  }
  if (!table.some(({ mountpoint }) => mountpoint !== path && mountpoint.startsWith(below))) return yield path;
  for (const { name, isDirectory } of children(path)) {
    if (isDirectory) yield* directoriesWithoutMounts(table, `${below}${name}`);
  }
}

function children(path: string): Deno.DirEntry[] {
  try {
    return [...Deno.readDirSync(path)];
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied) return [];
    throw error;
  }
}

/** The system as it is, with overlays where something could be changed, and read-only where none can be. */
function systemMounts(table: readonly MountInfo[], covers: readonly Cover[], locked: boolean): Mount[] {
  const overlays = covers.map(({ path, upper }): Mount => {
    const work = `${upper.slice(0, upper.lastIndexOf("/"))}/work`;
    for (const directory of [upper, work]) Deno.mkdirSync(directory, { recursive: true });
    copyOwner(path, upper);
    const escaped = [path, upper, work].map((text) => text.replace(/[\\:,]/g, "\\$&"));
    const options = [`lowerdir=${escaped[0]}`, `upperdir=${escaped[1]}`, `workdir=${escaped[2]}`];
    return {
      type: "overlay",
      source: "denomount-try",
      target: path,
      options: locked ? [...options, "userxattr"] : options,
    };
  });
  if (locked) {
    const readonly = table.filter(isCovered).map(({ mountpoint }): Mount => (
      { type: "", source: "", target: mountpoint, options: ["remount", "bind", "ro"] }
    ));
    return [{ type: "bind", source: "/", options: ["rbind"] }, ...readonly, ...overlays];
  }
  const rest = table.filter((mount) => !isCovered(mount)).map(({ mountpoint }): Mount => (
    { type: "bind", source: mountpoint, target: mountpoint, options: ["bind"] }
  ));
  return [...overlays, ...rest];
}

const NOBODY = 65534; // how an id is shown that a user namespace does not know

/** An overlay's root directory has the owner and the mode of its upper directory. */
function copyOwner(from: string, to: string): void {
  const { uid, gid, mode } = statx(AT_FDCWD, from, AT_STATX_DONT_SYNC, STATX_BASIC_STATS);
  if (uid !== NOBODY && gid !== NOBODY) Deno.chownSync(to, uid, gid);
  Deno.chmodSync(to, mode & 0o7777);
}

function inside(root: string, command: readonly string[], { as }: TryFlags): string[] {
  const [uid, gid] = as?.split(":") ?? [];
  const user = as === undefined ? [] : ["--user", `--map-user=${uid}`, `--map-group=${gid}`];
  return ["unshare", ...user, `--root=${root}`, `--wd=${Deno.cwd()}`, "--", ...command];
}

async function settle(changes: readonly Change[], host: string, { apply, keep }: TryFlags): Promise<void> {
  if (changes.length === 0) return;
  if (keep !== undefined) {
    const present = changes.filter(({ kind }) => kind !== "deleted");
    await withProgress(`copying to ${escapeControl(keep)}`, applyChanges(present, keep));
    const deleted = changes.filter(({ kind }) => kind === "deleted").map(({ path }) => path);
    if (deleted.length > 0) Deno.writeTextFileSync(`${keep}/.deleted`, deleted.join("\n") + "\n");
    printError(`kept in ${escapeControl(keep)}`);
  }
  if (apply) {
    await withProgress("making the changes", applyChanges(changes, host));
    printError("applied");
  }
}
