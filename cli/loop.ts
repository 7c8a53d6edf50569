/**
 * `denomount loop`: attach, detach and list loop devices.
 *
 * @module
 */

import { detachLoop, type LoopParams, setupLoop } from "../mod.ts";
import { isErrno } from "../linux/mod.ts";
import { readTextFile } from "../linux/path/text_file.ts";
import { columns, escapeControl, print, printOrUndo } from "./print.ts";

/**
 * Attaches a file and prints the device. Detaches it if it can't be printed.
 *
 * @param file the backing file.
 * @param params how to attach it.
 * @returns the exit status.
 */
export async function loopAttach(file: string, params: LoopParams): Promise<number> {
  const device = await setupLoop(file, params);
  await printOrUndo([device.path], () => device.detach());
  device.close(); // closes the descriptor; the file stays attached
  return 0;
}

/**
 * Detaches devices.
 *
 * @param devices their paths, or names such as "loop0".
 * @returns the exit status.
 */
export async function loopDetach(devices: readonly string[]): Promise<number> {
  // losetup(8) takes the name alone too.
  await detachLoop(...devices.map((device) => /^loop\d+$/.test(device) ? `/dev/${device}` : device));
  return 0;
}

/**
 * Prints the attached devices and their files.
 *
 * @param flags whether to print JSON.
 * @returns the exit status.
 */
export async function loopList(flags: { json?: true }): Promise<number> {
  // From /proc/partitions: Deno.readDir() of /sys needs --allow-all.
  const names = [...(textOf("/proc/partitions") ?? "").matchAll(/\b(loop\d+)$/gm)].map(([, name = ""]) =>
    name
  );
  const attached = names.flatMap((name) => {
    const backingFile = textOf(`/sys/block/${name}/loop/backing_file`);
    const attribute = (file: string) => textOf(`/sys/block/${name}/loop/${file}`) ?? "0";
    return backingFile === undefined ? [] : [{
      device: `/dev/${name}`,
      backingFile,
      offset: Number(attribute("offset")),
      sizeLimit: Number(attribute("sizelimit")),
      autoclear: attribute("autoclear") === "1",
      direct: attribute("dio") === "1",
      readonly: textOf(`/sys/block/${name}/ro`) === "1",
    }];
  });
  if (flags.json) print(JSON.stringify(attached, null, 2));
  else {
    const rows = attached.map(({ device, backingFile, offset, ...attributes }) => {
      const options = (["readonly", "autoclear", "direct"] as const).filter((name) => attributes[name]);
      return [device, escapeControl(backingFile), `${offset}`, options.join(",")];
    });
    print(await columns(["DEVICE", "BACKING FILE", "OFFSET", "OPTIONS"], rows));
  }
  return 0;
}

function textOf(path: string): string | undefined {
  try {
    return readTextFile(path).trimEnd();
  } catch (error) {
    if (isErrno(error, "ENOENT", "EACCES", "ENXIO", "ENODEV")) return undefined;
    throw error;
  }
}
