/**
 * The look from outside: what the kernel says is there, of a directory and of the child that works in it.
 *
 * @module
 */

import { linkText, loopDevices, mountTable, names, readText } from "../kernel.ts";

/** What is there. */
export interface Look {
  /** The mounts below the directory. */
  mounts: string[];
  /** The loop devices of files in it. */
  loops: string[];
  /** What the child has open. */
  descriptors: string[];
  /** Processes that have to do with the directory, but for the child; its own children among them. */
  processes: string[];
  /** The temporary places, the files that are somebody's, and whose the mounted ones look. */
  files: string[];
}

/** Looks; without a child, there are no descriptors. */
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
    const place = mountpoint.slice(dir.length).replace(/denomount-\w+/, "denomount-");
    return withoutNumbers(
      [place, root, options.join(","), optional, fsType, source, superOptions].join(" ").replaceAll(dir, ""),
    );
  });
}

/** What differs from one time to the next, and how an overlay's layers were named to the kernel. */
function withoutNumbers(text: string): string {
  return text.replace(/\bloop\d+/g, "loopN").replace(/(master|shared):\d+/g, "$1")
    .replace(/lowerdir\+?=[^, ]*,?/g, "");
}

/** But for the runtime's own: it duplicates its standard input while it waits there. */
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
  const theirs = ["source", "upper", "lower/one", "lower/two"].flatMap((name) =>
    names(`${dir}/${name}`).map((file) => `${name}/${file}`)
  );
  return [...temporary, ...theirs, ...ownersSeen(dir)];
}

/** Whose a file looks, through an id map too. */
function ownersSeen(dir: string): string[] {
  return ["target/data", "target/inner/data"].flatMap((name) => {
    try {
      return [`${name} of ${Deno.lstatSync(`${dir}/${name}`).uid}`];
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  });
}

/** What differs between two looks, a line each; none where they are alike. */
export function differences(found: Look, expected: Look): string[] {
  return (Object.keys(expected) as (keyof Look)[]).flatMap((kind) => [
    ...without(found[kind], expected[kind]).map((line) => `${kind}: left ${line}`),
    ...without(expected[kind], found[kind]).map((line) => `${kind}: gone ${line}`),
  ]);
}

/** What the first has more of than the second. */
export function without(lines: readonly string[], others: readonly string[]): string[] {
  const rest = [...others];
  return lines.filter((line) => {
    const index = rest.indexOf(line);
    if (index >= 0) rest.splice(index, 1);
    return index < 0;
  });
}

/** Looks until it is as expected, for what ends a moment later: a FUSE server, a loop device that clears itself. */
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
