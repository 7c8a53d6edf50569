/**
 * Images and their loop devices.
 *
 * @module
 */

import { detachLoop, setupLoop } from "../../mod.ts";
import { each, OURS } from "../measure.ts";
import { run as runCommand, shell } from "../peers.ts";
import { type Bench, make, type Row } from "../row.ts";
import { AS_FAST_AS_GO, onAndOff } from "./mounts.ts";

const loop: Row = {
  name: "loop device: attach + detach",
  limits: [AS_FAST_AS_GO],
  async prepare(bench) {
    const image = `${bench.dir}/image`;
    await Deno.writeFile(image, new Uint8Array(1 << 20));
    const run = () =>
      each(5, async () => {
        const device = await setupLoop(image);
        const { path } = device;
        device.close();
        await detachLoop(path);
      });
    const attach = `device=$(losetup --find --show ${image}) && losetup --detach $device`;
    return [
      { name: OURS, count: 5, run },
      ...bench.peers.map((peer) => peer.contender("loop", 5, image)),
      shell(1, ["sh", "-c", attach]),
    ];
  },
};

/** An image of a small directory, by the type's own program. */
async function makeImage(bench: Bench, type: string): Promise<string> {
  const image = `${bench.dir}/${type}.img`;
  Deno.writeTextFileSync(`${make(bench, "content")}/file`, "content\n");
  const command = type === "squashfs"
    ? ["mksquashfs", `${bench.dir}/content`, image, "-quiet"]
    : ["mkfs.ext4", "-q", "-d", `${bench.dir}/content`, image, "8M"];
  const error = await runCommand(command[0] ?? "", command.slice(1));
  if (error !== undefined) throw new Error(`${command.join(" ")}: ${error}`);
  return image;
}

const images: Row[] = ["squashfs", "ext4"].map((type) => ({
  name: `${type} from an image`,
  limits: [AS_FAST_AS_GO],
  async prepare(bench) {
    const [image, target] = [await makeImage(bench, type), make(bench, "target")];
    return [
      onAndOff({ type, source: image, options: ["loop", "ro"] }, target, 20),
      ...bench.peers.map((peer) => peer.contender("image", 20, type, image, target)),
      shell(1, ["mount", "-t", type, "-o", "loop,ro", image, target], ["umount", target]),
    ];
  },
}));

/** Every row of this file. */
export const rows: readonly Row[] = [loop, ...images];
