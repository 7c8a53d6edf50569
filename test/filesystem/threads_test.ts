/**
 * On which thread the kernel waits for a disk, by strace(1): the main thread runs the event loop.
 *
 * @module
 */

import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";

const CALLS = "fsconfig,mount,umount2";
const module = (path: string) => JSON.stringify(new URL(path, import.meta.url));

/** What waits for a disk, or takes the kernel long, and what does not. */
const PROGRAM = `
import { mount, unmount, unmountRecursive } from ${module("../../mod.ts")};
import { pretendMissing } from ${module("../../linux/syscalls/features.ts")};
const [dir, ...missing] = Deno.args;
await Promise.all([mount, unmount].map((call) => call({ type: "nothing", source: "" }, dir + "/none").catch(() => {})));
using _ = pretendMissing(...missing);
const { umount2 } = Deno.dlopen("libc.so.6", { umount2: { parameters: ["buffer", "i32"], result: "i32" } }).symbols;
const step = async (name, call) => {
  umount2(new TextEncoder().encode("/step/" + name + "\\0"), 0);
  await call();
};
const target = dir + "/target";
const tmpfs = (...options) => mount({ type: "tmpfs", source: "t", options }, target);
const remount = (...options) => mount({ type: "", source: "", options: ["remount", ...options] }, target);
const layers = ["upperdir=" + dir + "/upper", "workdir=" + dir + "/work", "lowerdir=" + dir + "/ro"];
const overlay = (...options) => mount({ type: "overlay", source: "o", options: [...layers, ...options] }, target);

await step("mount a disk", () => mount({ type: "ext4", source: dir + "/image", options: ["loop"] }, target));
Deno.mkdirSync(target + "/sub");
await mount({ type: "bind", source: target }, target + "/sub");
await step("unmount a bind on its own disk", () => unmount(target + "/sub"));
await mount({ type: "bind", source: target }, target + "/sub");
await step("unmount a tree: a bind on its own disk", () => unmountRecursive(target));
await mount({ type: "ext4", source: dir + "/image", options: ["loop"] }, target);
await step("remount a disk", () => remount("ro"));
await step("unmount a disk", () => unmount(target));
const noErofs = () => mount({ type: "erofs", source: dir + "/image", options: ["ro"] }, target).catch(() => {});
await step("mount an erofs from a file", noErofs); // which has none in it, but the kernel has to look
await tmpfs("size=64m");
Deno.mkdirSync(target + "/sub");
await mount({ type: "ext4", source: dir + "/image", options: ["loop"] }, target + "/sub");
await step("unmount a tree: a disk in a tmpfs", () => unmountRecursive(target));
await step("mount a tmpfs", () => tmpfs("size=64m"));
await step("unmount a tmpfs", () => unmount(target));
await tmpfs("size=64m");
Deno.writeFileSync(target + "/large", new Uint8Array(17 << 20));
await step("unmount a large tmpfs", () => unmount(target));
await tmpfs("size=0");
await step("unmount a tmpfs without a limit", () => unmount(target));
await tmpfs("size=64m");
for (let file = 0; file < 10_001; file++) Deno.mkdirSync(target + "/" + file);
await step("unmount a tmpfs with many files", () => unmount(target));
await overlay();
await step("unmount an overlay", () => unmount(target));
await overlay("ro");
await step("unmount a read-only overlay", () => unmount(target));
umount2(new TextEncoder().encode("/step/end\\0"), 0);
`;

const OFF_THREAD = [
  "mount a disk",
  "mount an erofs from a file",
  "remount a disk",
  "unmount a disk",
  "unmount a tree: a disk in a tmpfs",
  "unmount a large tmpfs",
  "unmount a tmpfs without a limit",
  "unmount a tmpfs with many files",
  "unmount an overlay",
];
const ON_THREAD = [
  "unmount a bind on its own disk",
  "unmount a tree: a bind on its own disk",
  "mount a tmpfs",
];
/** Without statmount(2), what they are is not known. */
const ON_THREAD_IF_KNOWN = [
  "unmount a tmpfs",
  "unmount a read-only overlay",
];

for (const missing of [[], ["mountApi", "mountSetattr", "overlayLayers", "openat2", "statmount"]]) {
  const way = missing.length > 0 ? ", by mount(2)" : "";

  kernelTest(`no call that waits for a disk or frees much is made on the main thread${way}`, {
    root: true,
    tools: ["strace", "mkfs.ext4"],
    permissions: { run: true },
  }, async (t) => {
    t.make("target", "upper", "work", "ro"); // "ro" in the mount table is not the superblock's
    Deno.writeTextFileSync(`${t.dir}/program.ts`, PROGRAM);
    await new Deno.Command("mkfs.ext4", { args: ["-q", `${t.dir}/image`, "2M"] }).output();
    const deno = [Deno.execPath(), "run", "--quiet", "-A", "--no-config", `${t.dir}/program.ts`, t.dir];
    const { code, stderr } = await new Deno.Command("strace", {
      args: ["-f", "-qq", "--seccomp-bpf", "-o", `${t.dir}/trace`, `--trace=${CALLS}`, ...deno, ...missing],
    }).output();
    assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
    const threads = threadsOf(Deno.readTextFileSync(`${t.dir}/trace`));
    const known = missing.length > 0 ? "another thread" : "main thread";
    const seen = [...OFF_THREAD, ...ON_THREAD, ...ON_THREAD_IF_KNOWN].map((name) =>
      `${name}: ${threads.get(name)}`
    );
    assertEquals(seen, [
      ...OFF_THREAD.map((name) => `${name}: another thread`),
      ...ON_THREAD.map((name) => `${name}: main thread`),
      ...ON_THREAD_IF_KNOWN.map((name) => `${name}: ${known}`),
    ]);
  });
}

/** The thread of each step's call that creates, changes or unmounts a superblock. */
function threadsOf(trace: string): Map<string, string> {
  const found = new Map<string, string>();
  let [step, main] = ["", ""];
  for (const line of trace.split("\n")) {
    const thread = /^\d+/.exec(line)?.[0] ?? "";
    const begins = /umount2\("\/step\/(.*?)"/.exec(line)?.[1];
    if (begins !== undefined) [step, main] = [begins, thread];
    else if (
      /FSCONFIG_CMD_(CREATE|RECONFIGURE)|mount\("(?!none).*"(ext4|erofs|tmpfs|overlay)"|mount\(NULL,.*MS_REMOUNT|umount2\(/
        .test(line)
    ) {
      if (step.startsWith("unmount") !== line.includes("umount2(") || found.has(step)) continue;
      if (line.includes("EBUSY")) continue; // the mount of a tree, before those below it
      found.set(step, thread === main ? "main thread" : "another thread");
    }
  }
  return found;
}
