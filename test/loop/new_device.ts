/**
 * Loop devices of a test alone.
 *
 * @module
 */

import { ioctl, O_RDWR, open } from "../../linux/mod.ts";
import { run } from "../namespace/namespaces.ts";

const LOOP_CTL_ADD = 0x4c80; // linux/loop.h
const LOOP_CTL_REMOVE = 0x4c81;

/** A new loop device with a minor number above 255, and without a file. */
export async function newDevice(dir: string) {
  using control = open("/dev/loop-control", O_RDWR);
  const number = ioctl(control.fd, LOOP_CTL_ADD, 1000 + Deno.pid % 1_000_000);
  await run("mknod", `${dir}/device`, "b", "7", `${number}`);
  return {
    path: `${dir}/device`,
    [Symbol.dispose]() {
      using control = open("/dev/loop-control", O_RDWR);
      ioctl(control.fd, LOOP_CTL_REMOVE, number);
    },
  };
}
