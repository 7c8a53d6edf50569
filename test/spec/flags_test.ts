/**
 * The flags of mount(2), statfs(2) and mount_setattr(2), with the numbers of the kernel's headers.
 *
 * @module
 */

import {
  attributesToFlags,
  flagsToAttributes,
  newMountFlags,
  statfsToFlags,
  superFlagsToFlags,
} from "../../linux/spec/mount_flags.ts";
import { parseOptions } from "../../linux/spec/options.ts";
import { type SetattrStep, setattrSteps, topAttributes } from "../../linux/spec/setattr.ts";
import { assertEquals } from "../assert.ts";

// linux/mount.h: MS_… and MOUNT_ATTR_…; linux/statfs.h: ST_…
const attributes: [word: string, statfs: number, flag: number, attribute: number][] = [
  ["ro", 0x0001, 0x1, 0x1],
  ["nosuid", 0x0002, 0x2, 0x2],
  ["nodev", 0x0004, 0x4, 0x4],
  ["noexec", 0x0008, 0x8, 0x8],
  ["nodiratime", 0x0800, 0x800, 0x80],
  ["nosymfollow", 0x2000, 0x100, 0x200000],
];
const [NOATIME, RELATIME, STRICTATIME] = [0x400, 0x200000, 0x1000000];
const ST_RELATIME = 0x1000;
const CLEAR = { suid: "nosuid", dev: "nodev", exec: "noexec", diratime: "nodiratime", rw: "ro" };
const all = attributes.reduce((flags, [, , flag]) => flags | flag, 0);

const changeOf = (...words: string[]) => parseOptions(words).attributes;

Deno.test("statfs(2) shows each attribute at its own bit, and strictatime by none", () => {
  for (const [word, statfs, flag] of attributes) {
    assertEquals(statfsToFlags(statfs | ST_RELATIME), flag | RELATIME, word);
    assertEquals(statfsToFlags(statfs), flag | STRICTATIME, word);
  }
  assertEquals(statfsToFlags(0x0400), NOATIME);
  assertEquals(statfsToFlags(0x0020), STRICTATIME); // ST_VALID says nothing
});

Deno.test("a word changes its flag of mount(2), and no other", () => {
  for (const [word, , flag, attribute] of attributes) {
    assertEquals(changeOf(word).set, attribute, word);
    assertEquals(attributesToFlags(changeOf(word)), flag, word);
    assertEquals(attributesToFlags(changeOf(word), STRICTATIME), flag | STRICTATIME, word);
    assertEquals(flagsToAttributes(flag | NOATIME), attribute, word);
  }
  for (const [word, taken] of Object.entries(CLEAR)) {
    const flag = attributes.find(([name]) => name === taken)?.[2] ?? 0;
    assertEquals(attributesToFlags(changeOf(word), all | NOATIME), all & ~flag | NOATIME, word);
  }
});

Deno.test("a word about the access time replaces the mode before it", () => {
  const modes = { noatime: NOATIME, strictatime: STRICTATIME, relatime: RELATIME };
  for (const [word, flag] of Object.entries(modes)) {
    for (const before of [0, ...Object.values(modes)]) {
      assertEquals(attributesToFlags(changeOf(word), before | 0x2), flag | 0x2, `${word} after ${before}`);
    }
  }
});

Deno.test("a flag of the superblock is set and taken back by its own words", () => {
  const flags = { ro: 0x1, sync: 0x10, mand: 0x40, dirsync: 0x80, lazytime: 1 << 25 };
  const before = Object.values(flags).reduce((sum, flag) => sum | flag, 0);
  for (const [name, flag] of Object.entries(flags)) assertEquals(superFlagsToFlags([name]), flag, name);
  for (
    const [name, taken] of [["rw", "ro"], ["async", "sync"], ["nolazytime", "lazytime"], [
      "nomand",
      "mand",
    ]] as const
  ) {
    assertEquals(superFlagsToFlags([name], before), before & ~flags[taken], name);
    assertEquals(superFlagsToFlags([taken, name]), 0, name);
    assertEquals(superFlagsToFlags([name, taken]), flags[taken], name);
  }
});

Deno.test("mount(2) has one ro for the mount and the superblock: a remount sets what differs", () => {
  const flagsOf = (...words: string[]) => {
    const { superFlags, attributes } = parseOptions(words);
    return newMountFlags(superFlags, attributes);
  };
  assertEquals(flagsOf("ro", "nosuid"), { flags: 0x3, remount: undefined });
  assertEquals(flagsOf("ro=vfs", "nosuid"), { flags: 0x2, remount: { set: 0x1, clear: 0 } });
  assertEquals(flagsOf("ro=fs", "nosuid"), { flags: 0x3, remount: { set: 0, clear: 0x1 } });
});

Deno.test("atime, norelatime and nostrictatime take back their own mode alone", () => {
  const takenBack = { atime: "noatime", norelatime: "relatime", nostrictatime: "strictatime" };
  for (const [word, mode] of Object.entries(takenBack)) {
    for (const before of Object.values(takenBack)) {
      const left = before === mode ? "relatime" : before; // the kernel's default
      assertEquals(changeOf(before, word), changeOf(left), `${before},${word}`);
    }
    assertEquals(changeOf(word), changeOf("relatime"), word);
  }
});

Deno.test("=vfs is the mount, =fs the superblock, =recursive the tree", () => {
  const read = (word: string) => {
    const { attributes, recursiveAttributes, superFlags, superWords } = parseOptions([word]);
    return [attributes.set, recursiveAttributes.set, superFlags.join(), superWords.join()];
  };
  assertEquals(read("ro"), [0x1, 0, "ro", ""]);
  assertEquals(read("ro=vfs"), [0x1, 0, "", ""]);
  assertEquals(read("ro=fs"), [0, 0, "ro", "ro=fs"]);
  assertEquals(read("ro=vfs:fs"), [0x1, 0, "ro", "ro=vfs:fs"]);
  assertEquals(read("ro=recursive"), [0, 0x1, "ro", ""]);
  assertEquals(read('ro="vfs,recursive"'), [0, 0x1, "", ""]);
  assertEquals(read("nosuid=recursive"), [0, 0x2, "", ""]);
});

Deno.test("rro and rrw are about the superblock of a new file system too", () => {
  assertEquals(parseOptions(["rro"]).superFlags, ["ro"]);
  assertEquals(parseOptions(["rro", "rrw"]).superFlags, ["ro", "rw"]);
});

const step = (change: Partial<SetattrStep>): SetattrStep => ({
  recursive: false,
  set: 0,
  clear: 0,
  isMapped: false,
  propagation: 0,
  ...change,
});
const SLAVE = 1 << 19; // MS_SLAVE

Deno.test("a tree is changed first, and its top after it", () => {
  const steps = (words: string[], ...rest: [boolean, "none" | "top" | "tree", number?]) =>
    setattrSteps(parseOptions(words), ...rest);
  const tree = step({ recursive: true, set: 0x1 });
  assertEquals(steps(["rro", "rw"], true, "none"), [tree, step({ clear: 0x1 })]);
  assertEquals(steps(["rro"], true, "none"), [tree]);
  assertEquals(steps(["ro"], true, "none"), [step({ set: 0x1 })]);
  assertEquals(steps([], true, "none"), []);
  assertEquals(steps([], true, "tree"), [step({ recursive: true, isMapped: true })]);
  assertEquals(steps([], true, "top"), [step({ isMapped: true })]);
  assertEquals(steps([], true, "none", SLAVE), [step({ recursive: true, propagation: SLAVE })]);
  assertEquals(steps(["ro"], true, "top", SLAVE), [
    step({ recursive: true, propagation: SLAVE }),
    step({ set: 0x1, isMapped: true }),
  ]);
});

Deno.test("a mount without mounts below is changed by one call", () => {
  const steps = (words: string[], ...rest: ["none" | "top", number?]) =>
    setattrSteps(parseOptions(words), false, ...rest);
  assertEquals(steps([], "none"), []);
  assertEquals(steps([], "none", SLAVE), [step({ propagation: SLAVE })]);
  assertEquals(steps([], "top"), [step({ isMapped: true })]);
  assertEquals(steps(["rro", "nosuid"], "none"), [step({ set: 0x3 })]);
  assertEquals(topAttributes(parseOptions(["rro", "rw"])), { set: 0, clear: 0x1 });
  assertEquals(topAttributes(parseOptions(["rrw", "ro"])), { set: 0x1, clear: 0 });
});

Deno.test("a word of the tree overrules an earlier one of its top", () => {
  assertEquals(topAttributes(parseOptions(["ro", "rrw"])), { set: 0, clear: 0x1 });
  assertEquals(topAttributes(parseOptions(["rw", "rro"])), { set: 0x1, clear: 0 });
  assertEquals(topAttributes(parseOptions(["nosuid", "rrw"])).set, 0x2);
});
