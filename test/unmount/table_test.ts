/**
 * How often the mount table is read, by strace(1): among thousands of mounts that takes milliseconds each time.
 *
 * @module
 */

import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";

const PROGRAM = `
import { mount } from "${import.meta.resolve("../../mod.ts")}";

const [dir] = Deno.args;
const lists = {
  bind: { type: "bind", source: dir + "/source", options: ["bind"] },
  tmpfs: { type: "tmpfs", source: "tmpfs", options: ["size=1m"] },
  disk: { type: "ext4", source: dir + "/image", options: ["loop"] },
};
for (const [name, list] of Object.entries(lists)) {
  const mounted = await mount(list, dir + "/target");
  try { Deno.readTextFileSync("/step/" + name); } catch {}
  await mounted.unmount();
}
`;

kernelTest("unmounting a bind, a tmpfs or a disk does not read the mount table", {
  root: true,
  features: ["statmount"],
  tools: ["strace", "mkfs.ext4"],
  permissions: { run: true },
}, async (t) => {
  t.make("target", "source");
  Deno.writeTextFileSync(`${t.dir}/program.ts`, PROGRAM);
  await new Deno.Command("mkfs.ext4", { args: ["-q", `${t.dir}/image`, "2M"] }).output();
  const deno = [Deno.execPath(), "run", "--quiet", "-A", "--no-config", `${t.dir}/program.ts`, t.dir];
  const { code, stderr } = await new Deno.Command("strace", {
    args: [
      "-f",
      "-qq",
      "--seccomp-bpf",
      "-o",
      `${t.dir}/trace`,
      "--trace=open,openat,openat2",
      ...deno,
    ],
  }).output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  const [before = "", ...steps] = Deno.readTextFileSync(`${t.dir}/trace`).split(/"\/step\//);
  assertEquals(before.includes("/target"), true, "strace(1) saw nothing");
  const read = steps.filter((step) => step.includes("mountinfo"));
  assertEquals([steps.map((step) => step.split('"')[0]), read], [["bind", "tmpfs", "disk"], []]);
});
