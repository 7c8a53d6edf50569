/**
 * The CPU time that unmounting takes among more mounts: on each kernel, with and without its newer calls.
 *
 * @module
 */

import { cpuUsage } from "node:process";
import { unmount } from "../../mod.ts";
import { mount, type pretendMissing as Missing } from "../../linux/mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert } from "../assert.ts";
import { kernelTest } from "../harness.ts";

const FEW = 300;
const MANY = 3000;

for (const missing of [[], ["statmount"]] satisfies Parameters<typeof Missing>[]) {
  const by = missing.length === 0 ? "with" : "without";
  kernelTest(`${MANY} mounts are unmounted one by one in linear time, ${by} statmount(2)`, {
    root: true,
    privateDirectory: true,
  }, async (t) => {
    using _ = pretendMissing(...missing);
    t.make(...Array.from({ length: MANY }, (_, index) => `${index}`));
    await unmountEach(t.dir, FEW); // compiles the code
    const few = Math.min(await unmountEach(t.dir, FEW), await unmountEach(t.dir, FEW));
    const many = await unmountEach(t.dir, MANY);
    // Reading the mount table for each of ten times as many would take ten times as long for each.
    assert(many < 4 * few, `${few} ms for each of ${FEW}, ${many} ms for each of ${MANY}`);
  });
}

async function unmountEach(dir: string, count: number): Promise<number> {
  for (let index = 0; index < count; index++) mount("t", `${dir}/${index}`, "tmpfs", 0, "size=1m");
  const before = cpuUsage(); // other programs don't lengthen it
  for (let index = 0; index < count; index++) await unmount(`${dir}/${index}`);
  const { user, system } = cpuUsage(before);
  return (user + system) / 1000 / count;
}
