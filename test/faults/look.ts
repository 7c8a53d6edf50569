/**
 * The kernel's state of a directory and of the child that works in it, read from outside.
 *
 * @module
 */

import { linkText, loopDevices, mountTable, names, readText } from "../kernel.ts";

/** The state, as sorted lines. */
export interface Look {
  /** The mounts below the directory. */
  mounts: string[];
  /** The loop devices of files in it. */
  loops: string[];
  /** The open descriptors of the child. */
  descriptors: string[];
  /** The children of the child, and other processes with the directory in their command line. */
  processes: string[];
  /** The temporary directories, the user's files, and the owners of the mounted files. */
  files: string[];
}

/** Reads the state; without a child, it has no descriptors. */
export function look(dir: string, child?: number): Look {
  return {
    mounts: mountsBelow(dir),
    loops: loopDevices(dir).map(withoutNumbers),
    descriptors: child === undefined ? [] : descriptorsOf(child),
    processes: processesOf(dir, child),
    files: filesOf(dir),
  };
}

function mountsBelow(dir: string): string[] {
  return mountTable().filter(({ mountpoint }) => mountpoint.startsWith(`${dir}/`)).map((row) => {
    const { mountpoint, root, options, optional, fsType, source, superOptions } = row;
    const path = mountpoint.slice(dir.length).replace(/denomount-\w+/, "denomount-");
    return withoutNumbers(
      [path, root, options.join(","), optional, fsType, source, superOptions].join(" ").replaceAll(dir, ""),
    );
  });
}

/** Removes numbers that differ between runs, and the spelling of an overlay's layers. */
function withoutNumbers(text: string): string {
  return text.replace(/\bloop\d+/g, "loopN").replace(/\/a-\w{6}/g, "/a-").replace(
    /(master|shared):\d+/g,
    "$1",
  )
    .replace(/lowerdir\+?=[^, ]*,?/g, "");
}

/** Without the runtime's descriptors: it duplicates its standard input while it reads. */
function descriptorsOf(child: number): string[] {
  const input = linkText(`/proc/${child}/fd/0`);
  return names(`/proc/${child}/fd`).flatMap((fd) => {
    const target = linkText(`/proc/${child}/fd/${fd}`);
    if (target === undefined || target === input || /^(anon_inode:\[event|socket:)/.test(target)) return [];
    return [withoutNumbers(target.replace(/:\[\d+\]/, ""))];
  }).sort();
}

function processesOf(dir: string, child?: number): string[] {
  return names("/proc").flatMap((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === child || Number(pid) === Deno.pid) return [];
    const command = readText(`/proc/${pid}/cmdline`)?.replaceAll("\0", " ").trim() ?? "";
    const parent = /^PPid:\s*(\d+)$/m.exec(readText(`/proc/${pid}/status`) ?? "")?.[1];
    if (parent === `${child}`) return [`a child ${command}`];
    return command.includes(dir) && !command.startsWith("strace") ? [command] : [];
  }).sort();
}

function filesOf(dir: string): string[] {
  const temporary = names(`${dir}/temporary`).map(() => "temporary/denomount-");
  const userFiles = ["source", "upper", "lower/one", "lower/two"].flatMap((name) =>
    names(`${dir}/${name}`).map((file) => `${name}/${file}`)
  );
  return [...temporary, ...userFiles, ...ownersOf(dir), ...filesOfManager(dir)];
}

/** The names in the root directory of a manager, without its record, and in its allowed root. */
function filesOfManager(dir: string): string[] {
  const root = names(`${dir}/root`).filter((name) => !name.startsWith("activations.db"));
  return [...root.map(() => "root/a-"), ...names(`${dir}/allowed`).map((name) => `allowed/${name}`)];
}

/** The owners of mounted files, through an id map if there is one. */
function ownersOf(dir: string): string[] {
  return ["target/data", "target/inner/data"].flatMap((name) => {
    try {
      return [`${name} of ${Deno.lstatSync(`${dir}/${name}`).uid}`];
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  });
}

/** The differences between two states, a line each. */
export function differences(found: Look, expected: Look): string[] {
  return (Object.keys(expected) as (keyof Look)[]).flatMap((kind) => [
    ...without(found[kind], expected[kind]).map((line) => `${kind}: left ${line}`),
    ...without(expected[kind], found[kind]).map((line) => `${kind}: gone ${line}`),
  ]);
}

/** The lines of the first list that the second lacks, duplicates counted. */
export function without(lines: readonly string[], others: readonly string[]): string[] {
  const rest = [...others];
  return lines.filter((line) => {
    const index = rest.indexOf(line);
    if (index >= 0) rest.splice(index, 1);
    return index < 0;
  });
}

/** Reads the state until it is as expected or the time is over: FUSE servers and loop devices end with a delay. */
export async function lookUntil(
  look: () => Look,
  isExpected: (look: Look) => boolean,
  ms: number,
): Promise<Look> {
  const deadline = performance.now() + ms;
  for (;;) {
    const found = look();
    if (isExpected(found) || performance.now() > deadline) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
