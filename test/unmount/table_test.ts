/**
 * How often the mount table is read, by strace(1): among thousands of mounts that takes milliseconds each time.
 *
 * @module
 */

import { assertEquals } from "../assert.ts";
import { MNT_DETACH, umount2 } from "../../linux/mod.ts";
import { kernelTest } from "../harness.ts";
import { makeMounts } from "../mountinfo/long_table.ts";

const PROGRAM = `
import { mount, unmount, unmountRecursive, type Mount } from "${import.meta.resolve("../../mod.ts")}";
import { pretendMissing } from "${import.meta.resolve("../../linux/mod.ts")}";

const [dir, ...missing] = Deno.args;
pretendMissing(...missing as Parameters<typeof pretendMissing>);
const lists: Record<string, Mount> = {
  bind: { type: "bind", source: dir + "/source", options: ["bind"] },
  tmpfs: { type: "tmpfs", source: "tmpfs", options: ["size=1m"] },
  disk: { type: "ext4", source: dir + "/image", options: ["loop"] },
  overlay: {
    type: "overlay",
    source: "overlay",
    options: ["lowerdir=" + dir + "/lower", "upperdir=" + dir + "/upper", "workdir=" + dir + "/work"],
  },
};
const mark = (text: string) => {
  try { Deno.readTextFileSync(text); } catch {}
};
const target = dir + "/target";
for (const [name, list] of Object.entries(lists)) {
  const mounted = await mount(list, target);
  mark("/step/" + name);
  await mounted.unmount();
  mark("/end/");
  await mount(list, target);
  mark("/step/" + name + " by path");
  await unmount(target);
  mark("/end/");
  if (missing.length > 0) continue; // the fallback reads the table once for the whole tree
  await mount(list, target);
  mark("/step/" + name + " recursively");
  await unmountRecursive(target);
  mark("/end/");
}
`;

for (const missing of [[], ["statmount"]]) {
  const by = missing.length === 0 ? "with statmount(2)" : "without statmount(2)";
  kernelTest(`unmounting a bind, a tmpfs, a disk or an overlay does not read the mount table, ${by}`, {
    root: true,
    privateDirectory: true,
    features: ["statmount"],
    tools: ["strace", "mkfs.ext4"],
    permissions: { run: true },
  }, async (t) => {
    t.make("target", "source", "lower", "upper", "work", "many");
    makeMounts(`${t.dir}/many`, 500);
    using _many = { [Symbol.dispose]: () => umount2(`${t.dir}/many`, MNT_DETACH) };
    Deno.writeTextFileSync(`${t.dir}/program.ts`, PROGRAM);
    await new Deno.Command("mkfs.ext4", { args: ["-q", `${t.dir}/image`, "2M"] }).output();
    const program = [`${t.dir}/program.ts`, t.dir, ...missing];
    const deno = [Deno.execPath(), "run", "--quiet", "-A", "--no-config", ...program];
    const trace = ["-f", "-qq", "--seccomp-bpf", "-o", `${t.dir}/trace`, "--trace=open,openat,openat2"];
    const { code, stderr } = await new Deno.Command("strace", { args: [...trace, ...deno] }).output();
    assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
    const [before = "", ...steps] = Deno.readTextFileSync(`${t.dir}/trace`).split(/"\/step\//);
    assertEquals(before.includes("/target"), true, "strace(1) saw nothing");
    const ends = steps.map((step) => step.split('"/end/')[0] ?? "");
    assertEquals(ends.length, missing.length === 0 ? 12 : 8);
    assertEquals(ends.filter((step) => step.includes("mountinfo")), []);
  });
}
