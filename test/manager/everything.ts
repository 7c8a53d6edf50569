/**
 * A list with every modifier and every handler in it, and what the kernel shows of an activation.
 *
 * @module
 */

import { LocalMountManager, type ManagerOptions } from "../../linux/manager/mod.ts";
import type { Mount } from "../../mod.ts";
import { loopDevices, mountTable, names } from "../kernel.ts";

/** The programs that the list requires. */
export const tools = ["mkfs.erofs", "mkfs.ext4"];

/** Makes the erofs image that the list uses. */
export async function makeSources(dir: string): Promise<void> {
  await Deno.mkdir(`${dir}/tree`);
  await Deno.writeTextFile(`${dir}/tree/file`, "in the layer");
  const args = [`${dir}/layer.erofs`, `${dir}/tree`];
  const { success } = await new Deno.Command("mkfs.erofs", { args }).output();
  if (!success) throw new Error("mkfs.erofs failed");
}

/**
 * A writable overlay over an erofs image, whose upper directory is in an ext4 image that mkfs makes.
 *
 * @param dir a directory with the sources.
 * @returns the list.
 */
export function everything(dir: string): Mount[] {
  return [
    { type: "erofs", source: `${dir}/layer.erofs` },
    {
      type: "mkfs/loop",
      source: `${dir}/allowed/data.img`,
      options: ["X-containerd.mkfs.size=4MiB", "X-containerd.mkfs.fs=ext4"],
    },
    { type: "format/ext4", source: "{{ mount 1 }}" },
    {
      type: "format/mkdir/overlay",
      source: "overlay",
      options: [
        `X-containerd.mkdir.path=${dir}/allowed/made:0750:12:34`,
        "X-containerd.mkdir.path={{ mount 2 }}/upper",
        "X-containerd.mkdir.path={{ mount 2 }}/work",
        "lowerdir={{ mount 0 }}",
        "upperdir={{ mount 2 }}/upper",
        "workdir={{ mount 2 }}/work",
      ],
    },
  ];
}

/** Another program may hold the lock of the loop devices for some time. */
export const wait = { timeout: 30_000 };

/** Mounts all of a list. */
export const patient = { ...wait, temporary: true };

/** Opens the manager of a directory, which is made with its allowed root. */
export async function open(dir: string, options: Partial<ManagerOptions> = {}): Promise<LocalMountManager> {
  await Deno.mkdir(`${dir}/allowed`, { recursive: true });
  return await LocalMountManager.open({
    root: `${dir}/root`,
    allowedRoots: [`${dir}/allowed`],
    ...options,
  });
}

/**
 * What the kernel shows below a directory: mounts, loop devices, and the names in the root and in the allowed root.
 *
 * @param dir the directory.
 * @returns a line each, without the random parts of names.
 */
export function remains(dir: string): string[] {
  const plain = (text: string) =>
    text.replaceAll(dir, "").replace(/\/a-\w{6}/g, "/a-").replace(/\bloop\d+/g, "loopN");
  return [
    ...mountTable().filter(({ mountpoint }) => mountpoint.startsWith(`${dir}/`)).map((row) =>
      plain(`mount ${row.mountpoint} ${row.fsType}`)
    ),
    ...devices(dir).map((text) => plain(`loop device ${text}`)),
    ...names(`${dir}/root`).filter((name) => !name.startsWith("activations.db")).map(() => "directory a-"),
    ...names(`${dir}/allowed`).map((name) => `file ${name}`),
  ];
}

/**
 * The loop devices of files in a test's directory, as "loopN path": sysfs may show a path without the mountpoint of its
 * file system, if the mount namespace has ended.
 */
export function devices(dir: string): string[] {
  const within = dir.slice(dir.indexOf("/denomount-"));
  return loopDevices(`${within}/`).map((text) =>
    `${text.split(" ")[0]} ${text.slice(text.indexOf(within) + within.length)}`
  );
}

/** What remains of an activation of {@linkcode everything} that is complete. */
export const complete: readonly string[] = [
  "mount /root/a-/0 erofs",
  "mount /root/a-/2 ext4",
  "mount /root/a-/3 overlay",
  "loop device loopN /allowed/data.img",
  "directory a-",
  "file data.img",
  "file made",
];

const SETTLE_TIME = 2000; // ms in which the kernel detaches a loop device that another program has just looked at

/**
 * What remains when it is as expected, or after some time.
 *
 * @param dir the directory.
 * @param expected what is expected.
 * @returns what remains.
 */
export async function settled(dir: string, expected: readonly string[]): Promise<string[]> {
  for (const start = performance.now();;) {
    const found = remains(dir);
    if (`${found}` === `${expected}` || performance.now() - start > SETTLE_TIME) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
