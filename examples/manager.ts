/**
 * Runs a command in a root file system of block devices: erofs images as its layers, the topmost first, and an ext4 image
 * for what it writes. The next run of the same name has its files.
 *
 *     sudo deno run -A examples/manager.ts DIR NAME LAYER.erofs... -- CMD ARG...
 *     sudo deno run -A examples/manager.ts DIR NAME        removes what a killed run has left mounted
 *
 * @module
 */

import { cleanupTempMounts, type Mount, withTempMount } from "../mod.ts";
import { AlreadyExistsError, LocalMountManager, NotFoundError } from "../linux/manager/mod.ts";

const end = Deno.args.includes("--") ? Deno.args.indexOf("--") : Deno.args.length;
const [directory, name, ...layers] = Deno.args.slice(0, end);
const command = Deno.args.slice(end + 1);
if (directory === undefined || name === undefined || (layers.length === 0) !== (command.length === 0)) {
  console.error("usage: examples/manager.ts DIR NAME [LAYER.erofs... -- CMD ARG...]");
  Deno.exit(2);
}

const overlay = [
  "X-containerd.mkdir.path={{ mount 0 }}/upper:755",
  "X-containerd.mkdir.path={{ mount 0 }}/work:755",
  `lowerdir={{ overlay 1 ${layers.length} }}`,
  "upperdir={{ mount 0 }}/upper",
  "workdir={{ mount 0 }}/work",
];
const rootfs: Mount[] = [
  {
    type: "mkfs/ext4",
    source: `${directory}/${name}.img`,
    options: ["X-containerd.mkfs.size=256MiB", "loop"],
  },
  ...layers.map((source) => ({ type: "erofs", source, options: ["ro"] })),
  { type: "format/mkdir/overlay", source: "overlay", options: overlay },
  { type: "proc", source: "proc", target: "/proc", options: ["nosuid", "nodev", "noexec", "X-mount.mkdir"] },
];

await using manager = await LocalMountManager.open({ root: directory });
for (const error of await cleanupTempMounts()) console.error(error.message);
await manager.sync();
Deno.exitCode = command.length > 0 ? await run(name) : await remove(name);

async function run(name: string): Promise<number> {
  try {
    const { system } = await manager.activate(name, rootfs, { labels: { example: "manager" } });
    try {
      return await withTempMount(system, async (root) => {
        return (await new Deno.Command("chroot", { args: [root, ...command] }).spawn().status).code;
      });
    } finally {
      await manager.deactivate(name);
    }
  } catch (error) {
    if (!(error instanceof AlreadyExistsError)) throw error;
    console.error(`${name} is running, or was killed: without a command, what it left is removed`);
    return 1;
  }
}

async function remove(name: string): Promise<number> {
  try {
    await manager.deactivate(name);
    return 0;
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    console.error(error.message);
    return 1;
  }
}
