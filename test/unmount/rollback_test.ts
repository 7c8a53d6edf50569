/**
 * How a mount of a failed list is detached, when another process has changed the mount table meanwhile.
 *
 * @module
 */

import { mount, unmount, unmountMounts } from "../../mod.ts";
import { uniqueMountAt } from "../../linux/mountinfo/statx_mount.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { Deadline } from "../../linux/unmount/deadline.ts";
import { type AttachedMount, detachOwn } from "../../linux/unmount/own.ts";
import { assert, assertEquals } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";

const tmpfs = { type: "tmpfs", source: "t" };
const deadline = () => new Deadline({ detach: true });
const sources = (t: KernelContext) => t.mounts().map(({ source }) => source);

/** What the list would remember of the mount on a path. */
function remembered(mountpoint: string, isPeer = false): AttachedMount {
  const top = uniqueMountAt(mountpoint);
  assert(top !== undefined);
  return {
    mountpoint,
    isTree: isPeer,
    isPeer,
    id: top.mountId,
    isUnique: top.isUnique,
    device: top.device,
    isImmediate: false,
  };
}

for (const missing of [[], ["statmount"]] as const) {
  const without = missing.length > 0 ? ", without statmount(2)" : "";

  kernelTest(`a mount that was renamed, covered or unmounted is detached alone${without}`, {}, async (t) => {
    using _ = pretendMissing(...missing);
    t.make("a/target");
    await mount(tmpfs, `${t.dir}/a/target`);
    const own = remembered(`${t.dir}/a/target`);
    await mount({ ...tmpfs, source: "foreign" }, `${t.dir}/a/target`);
    assertEquals([await detachOwn(own, deadline()), sources(t)], [false, ["t", "foreign"]]);
    await unmount(`${t.dir}/a/target`);
    Deno.renameSync(`${t.dir}/a`, `${t.dir}/b`);
    // The kernel gives an id that is not unique to the next mount, so the two look the same.
    if (!own.isUnique) return await unmount(`${t.dir}/b/target`);
    assertEquals([await detachOwn(own, deadline()), sources(t)], [true, []]);
    t.make("a/target");
    await mount({ ...tmpfs, source: "later" }, `${t.dir}/a/target`);
    assertEquals([await detachOwn(own, deadline()), sources(t)], [true, ["later"]]);
    await unmount(`${t.dir}/a/target`);
  });
}

kernelTest("a peer of its source is detached without the mounts of the source", {}, async (t) => {
  t.make("source", "target");
  await using _source = await mount({ ...tmpfs, options: ["shared"] }, `${t.dir}/source`);
  t.make("source/below");
  await using _below = await mount({ ...tmpfs, options: ["shared"] }, `${t.dir}/source/below`);
  const rbind = { type: "bind", source: `${t.dir}/source`, options: ["rbind", "rshared"] };
  const handle = await mount(rbind, `${t.dir}/target`);
  assertEquals(await detachOwn(remembered(`${t.dir}/target`, true), deadline()), true);
  assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/source", "/source/below"]);
  await handle.unmount();
});

kernelTest("a path below a file is not mounted, however it is looked up", {}, async (t) => {
  t.make("root");
  Deno.writeTextFileSync(`${t.dir}/root/file`, "");
  for (const missing of [[], ["openat2"]] as const) {
    using _ = pretendMissing(...missing);
    for (const target of ["/file/below", "/file/below/deeper", "/none/below"]) {
      await unmountMounts([{ ...tmpfs, target }], `${t.dir}/root`);
    }
  }
});
