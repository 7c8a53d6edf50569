import { assertEquals, assertThrows } from "../assert.ts";
import { planActivation } from "../../linux/manager/plan.ts";
import type { Mount } from "../../mod.ts";

const BUILT_IN = ["loop", "erofs"];

/** What becomes of a list: the entries that the manager mounts, then those of the caller. */
function divided(
  types: readonly string[],
  allowed: readonly string[] = [],
  handlers: readonly string[] = [],
) {
  const size = ["X-containerd.mkfs.size=1MiB"];
  const mounts = types.map((type): Mount => ({
    type,
    source: "x",
    ...type.includes("mkfs/") ? { options: size } : {},
  }));
  const { active, system } = planActivation(mounts, new Set([...BUILT_IN, ...handlers]), allowed);
  const text = ({ mount, modifiers, handler }: (typeof active)[number]) =>
    [...modifiers, handler === undefined ? mount.type : `<${mount.type}>`].join("+");
  return [active.map(text).join(" "), system.map(text).join(" ")];
}

const lists: [types: string[], active: string, system: string][] = [
  [[], "", ""],
  [["tmpfs"], "", "tmpfs"],
  [["bind", "overlay", "tmpfs"], "", "bind overlay tmpfs"],
  [["format/overlay"], "", "format+overlay"],
  [["tmpfs", "format/overlay"], "tmpfs", "format+overlay"],
  [["tmpfs", "tmpfs", "format/mkdir/overlay"], "tmpfs tmpfs", "format+mkdir+overlay"],
  [["tmpfs", "format/bind", "tmpfs"], "tmpfs", "format+bind tmpfs"],
  [["tmpfs", "format/bind", "tmpfs", "format/bind"], "tmpfs format+bind tmpfs", "format+bind"],
  [["mkfs/ext4"], "", "mkfs+ext4"],
  [["mkfs/ext4", "erofs", "format/mkdir/overlay"], "mkfs+ext4 <erofs>", "format+mkdir+overlay"],
  [["erofs"], "<erofs>", ""],
  [["erofs", "erofs"], "<erofs> <erofs>", ""],
  [["erofs", "tmpfs"], "<erofs>", "tmpfs"],
  [["tmpfs", "erofs", "tmpfs"], "tmpfs <erofs>", "tmpfs"],
  [["loop", "format/ext4"], "<loop>", "format+ext4"],
  [["loop", "format/erofs"], "<loop> format+<erofs>", ""],
  [["mkdir/loop"], "mkdir+<loop>", ""],
];

for (const [types, active, system] of lists) {
  Deno.test(`[${types.join(", ")}]: the manager mounts [${active}], the caller [${system}]`, () => {
    assertEquals(divided(types), [active, system]);
  });
}

Deno.test("modifiers are read from left to right, also twice", () => {
  assertEquals(divided(["tmpfs", "mkdir/format/overlay"]), ["tmpfs", "mkdir+format+overlay"]);
  assertEquals(divided(["tmpfs", "format/mkdir/format/overlay"]), ["tmpfs", "format+mkdir+format+overlay"]);
});

Deno.test("allowMountTypes leaves a whole type, or what a handler mounts, to the caller", () => {
  assertEquals(divided(["tmpfs", "format/overlay"], ["format/overlay"]), ["", "tmpfs format/overlay"]);
  assertEquals(divided(["tmpfs", "format/overlay"], ["overlay"]), ["tmpfs", "format+overlay"]);
  assertEquals(divided(["erofs", "erofs"], ["erofs"]), ["", "erofs erofs"]);
  assertEquals(divided(["erofs", "format/erofs"], ["erofs"]), ["erofs", "format+erofs"]);
  assertEquals(divided(["erofs", "loop", "erofs"], ["erofs"]), ["erofs <loop>", "erofs"]);
  // What the caller mounts itself is not read: another manager may know it.
  assertEquals(divided(["new/overlay"], ["new/overlay"]), ["", "new/overlay"]);
});

Deno.test("a handler may have any type, also one with a slash or with a modifier's name in it", () => {
  assertEquals(divided(["a/b"], [], ["a/b"]), ["<a/b>", ""]);
  assertEquals(divided(["mkdir/a/b", "tmpfs"], [], ["a/b"]), ["mkdir+<a/b>", "tmpfs"]);
  assertEquals(divided(["format/tmpfs"], [], ["format/tmpfs"]), ["<format/tmpfs>", ""]);
  assertEquals(divided(["tmpfs"], [], ["tmpfs"]), ["<tmpfs>", ""]);
});

const SIZE = "X-containerd.mkfs.size=1MiB";

const wrong: [why: string, mount: Record<string, unknown>][] = [
  ['"none" in the type "none/overlay" is no modifier', { type: "none/overlay" }],
  ['"FORMAT" in the type "FORMAT/overlay" is no modifier', { type: "FORMAT/overlay" }],
  ['"" in the type "/overlay" is no modifier', { type: "/overlay" }],
  ['"overlay" in the type "format/overlay/mkdir" is no modifier', { type: "format/overlay/mkdir" }],
  ['the type "format/" names no file system', { type: "format/" }],
  ["no mount is before it", { type: "format/bind", source: "{{ mount 0 }}" }],
  ["it has no end", { type: "format/bind", options: ["{{ mount"] }],
  ['needs the option "X-containerd.mkfs.size="', { type: "mkfs/ext4" }],
  ["is no size", { type: "mkfs/ext4", options: ["X-containerd.mkfs.size=big"] }],
  ["has no value", { type: "mkfs/ext4", options: ["X-containerd.mkfs.size="] }],
  ["is no option of mkfs", { type: "mkfs/ext4", options: [SIZE, "X-containerd.mkfs.label=x"] }],
  ['not "zfs"', { type: "mkfs/ext4", options: [SIZE, "X-containerd.mkfs.fs=zfs"] }],
  ["is no UUID", { type: "mkfs/ext4", options: [SIZE, "X-containerd.mkfs.uuid=1"] }],
  ["a mode is at most 777", { type: "mkdir/bind", options: ["X-containerd.mkdir.path=/a:1777"] }],
  ['write "X-containerd.mkdir.path=DIR"', { type: "mkdir/bind", options: ["X-containerd.mkdir.path="] }],
  ['write "X-containerd.mkdir.path=DIR"', {
    type: "mkdir/bind",
    options: ["X-containerd.mkdir.path=/a:7:1"],
  }],
  ["is no user or group", { type: "mkdir/bind", options: ["X-containerd.mkdir.path=/a:755:4294967295:0"] }],
  ['"X-containerd.mkdir.path=/a" needs the modifier "mkdir/"', {
    type: "format/bind",
    options: ["ro,X-containerd.mkdir.path=/a"],
  }],
  ['"X-containerd.mkfs.size=1MiB" needs the modifier "mkfs/"', { type: "ext4", options: [SIZE] }],
  ['"X-containerd.new.word=1" is no option that this manager knows', {
    type: "mkdir/bind",
    options: ["X-containerd.new.word=1"],
  }],
];

for (const [index, [why, given]] of wrong.entries()) {
  Deno.test(`a wrong entry is refused by name before anything is mounted, ${index + 1}: ${why}`, () => {
    const mount = { source: "x", type: "bind", ...given } as unknown as Mount;
    assertThrows(() => planActivation([mount], new Set(BUILT_IN)), TypeError, why);
  });
}

Deno.test("a handler, and the caller of an allowed type, get every instruction of their entries", () => {
  const options = ["X-containerd.new.word=1", SIZE];
  const mount = { type: "new", source: "x", options };
  assertEquals(planActivation([mount], new Set(["new"])).active[0]?.mount, mount);
  assertEquals(planActivation([mount], new Set(), ["new"]).system[0]?.mount, mount);
});

Deno.test("a field that is missing, wrong or none of a mount is refused, and one that is null is left out", () => {
  const plan = (mount: Record<string, unknown>) =>
    planActivation([mount as unknown as Mount], new Set(BUILT_IN));
  assertThrows(() => plan({ type: "format/bind", source: "x", destination: "/a" }), TypeError, "destination");
  assertThrows(() => plan({ type: "format/bind", source: 5 }), TypeError);
  assertThrows(() => plan({ type: "format/bind", source: "x", options: "ro" }), TypeError);
  const [entry] = plan({ type: "format/bind", source: "x", target: null, options: null }).system;
  assertEquals(entry?.mount, { type: "bind", source: "x" });
});

Deno.test("an option of mkfs or mkdir that is not known is refused by name", () => {
  for (
    const [type, option, said] of [
      ["mkfs/ext4", "X-containerd.mkfs.speed=high", '"X-containerd.mkfs.speed=high" is no option of mkfs'],
      ["mkfs/ext4", "X-containerd.mkfs.size", '"X-containerd.mkfs.size" has no value'],
      ["mkdir/bind", "X-containerd.mkdir.name=/x", '"X-containerd.mkdir.name=/x": write'],
    ] as const
  ) {
    const options = ["X-containerd.mkfs.size=1MiB"].filter(() => type === "mkfs/ext4");
    const list = [{ type, source: "/x", options: [...options, option] }];
    assertThrows(() => planActivation(list, new Set()), TypeError, said);
  }
});
