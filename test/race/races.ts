/**
 * Mounts while another process swaps two names as fast as it can.
 *
 * @module
 */

import { type Feature, pretendMissing } from "../../linux/syscalls/features.ts";
import { type Mount, mount, MountError, type MountHandle } from "../../mod.ts";
import { mountTable, openFiles, type Row } from "../kernel.ts";
import * as raw from "../raw.ts";

/** The results of many attempts. */
export interface Attempts {
  /** The number of attempts. */
  attempts: number;
  /** The attempts that mounted. */
  mounted: number;
  /** The attempts that were refused with a typed error, because of the swap. */
  refused: number;
  /** Mounts outside of the target, of the wrong source, or left behind by a failure: a sentence each. */
  wrong: string[];
}

/** Kernels by their missing features. */
export const kernels: Record<string, readonly Feature[]> = {
  newest: [],
  "before openat2(2)": ["openat2"],
  "before open_tree(2) and openat2(2)": ["mountApi", "mountSetattr", "openat2", "overlayLayers"],
};

/**
 * Lets another process swap two names.
 *
 * @param one the path of one.
 * @param other the path of the other.
 * @returns the process; its disposal ends it.
 */
export async function swapping(one: string, other: string): Promise<AsyncDisposable> {
  const program = new URL("swapper.ts", import.meta.url).pathname;
  const swapper = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-config", "--allow-ffi", program, one, other],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const reader = swapper.stdout.getReader();
  if ((await reader.read()).done) throw new Error("the swapper did not start");
  return {
    async [Symbol.asyncDispose]() {
      await swapper.stdin.close();
      await swapper.status;
      await reader.cancel();
    },
  };
}

/**
 * Mounts at a directory that another process swaps with a symbolic link out of the target.
 *
 * @param dir an empty directory.
 * @param count the number of attempts.
 * @param missing the features that the kernel lacks.
 * @returns the results.
 */
export async function swapTarget(dir: string, count: number, missing: readonly Feature[]): Promise<Attempts> {
  for (const name of ["source/in", "target/real/deep", "outside/deep"]) {
    Deno.mkdirSync(`${dir}/${name}`, { recursive: true });
  }
  Deno.symlinkSync("../outside", `${dir}/target/link`);
  await using _swapper = await swapping(`${dir}/target/real`, `${dir}/target/link`);
  using _ = pretendMissing(...missing);
  const bind: Mount = { type: "bind", source: `${dir}/source`, options: ["bind", "ro"] };
  const kinds: Mount[] = ["/real", "/real/deep", "/link/../real/deep"].flatMap((target) => [
    { ...bind, target },
    { type: "tmpfs", source: "t", target, options: ["shared"] },
  ]);
  return await attempt(dir, count, kinds, ({ mountpoint }) => {
    return mountpoint.startsWith(`${dir}/target/`) ? undefined : `mounted at ${mountpoint}`;
  });
}

/**
 * Binds a source that another process swaps with another one.
 *
 * @param dir an empty directory.
 * @param count the number of attempts.
 * @param missing the features that the kernel lacks.
 * @returns the results.
 */
export async function swapSource(dir: string, count: number, missing: readonly Feature[]): Promise<Attempts> {
  for (const name of ["source/one", "source/other", "target"]) {
    Deno.mkdirSync(`${dir}/${name}`, { recursive: true });
  }
  Deno.writeTextFileSync(`${dir}/source/file`, "");
  await using _swapper = await swapping(`${dir}/source/one`, `${dir}/source/file`);
  using _ = pretendMissing(...missing);
  const kinds: Mount[] = [
    { type: "bind", source: `${dir}/source/one`, target: "/target", options: ["bind", "ro", "nosuid"] },
    {
      type: "overlay",
      source: "o",
      target: "/target",
      options: [`lowerdir=${dir}/source/one:${dir}/source/other`],
    },
  ];
  return await attempt(dir, count, kinds, ({ mountpoint, fsType, root, options }) => {
    if (mountpoint !== `${dir}/target`) return `mounted at ${mountpoint}`;
    if (fsType === "overlay") return undefined;
    const isWhole = options.includes("ro") && options.includes("nosuid") &&
      /\/source\/(one|file)$/.test(root);
    return isWhole ? undefined : `${root} is mounted with ${options}`;
  });
}

async function attempt(
  dir: string,
  count: number,
  kinds: readonly Mount[],
  wrongWith: (row: Row) => string | undefined,
): Promise<Attempts> {
  const result: Attempts = { attempts: count, mounted: 0, refused: 0, wrong: [] };
  const files = openFiles().length;
  for (let index = 0; index < count; index++) {
    const m = kinds[index % kinds.length];
    const stack = m && await mountOrRefuse(m, m.target === "/target" ? dir : `${dir}/target`, result);
    const found = mountTable().filter(({ mountpoint }) => mountpoint.startsWith(`${dir}/`));
    for (const row of found) {
      const wrong = wrongWith(row);
      if (wrong !== undefined) result.wrong.push(wrong);
    }
    if (!stack && found.length > 0) result.wrong.push(`left by a failure: ${found[0]?.mountpoint}`);
    unmountBelow(dir);
  }
  if (openFiles().length !== files) result.wrong.push("descriptors are left open");
  return result;
}

async function mountOrRefuse(m: Mount, target: string, result: Attempts): Promise<MountHandle | undefined> {
  try {
    const stack = await mount(m, target);
    result.mounted++;
    return stack;
  } catch (error) {
    if (!(error instanceof MountError)) throw error;
    result.refused++;
    return undefined;
  }
}

/** Unmounts everything below the directory, under the current names. */
function unmountBelow(dir: string): void {
  for (let left = raw.mountpointsBelow(dir); left.length > 0; left = raw.mountpointsBelow(dir)) {
    for (const name of left) raw.umount(Uint8Array.from(name.split(",").map(Number)));
  }
}
