/**
 * What containerd's users rely on in lists of mounts: the cases that its own tests ask of the functions which change a
 * list, asked of this library. The cases that mount are in test/mount/containerd_cases_test.ts.
 *
 * @module
 */

import {
  isReadonly,
  type Mount,
  readonlyMounts,
  removeIdMapOption,
  removeVolatileOption,
} from "../../mod.ts";
import { commonDirectory } from "../../linux/path/path.ts";
import { assert, assertEquals } from "../assert.ts";

const overlay = (...options: string[]): Mount => ({ type: "overlay", source: "rootfs", options });
const bind = (...options: string[]): Mount => ({ type: "bind", source: "/srv/data", options });
const snapshots = "/var/lib/images/snapshots";

/** A copy that throws if a function tries to change it. */
function frozen(mounts: Mount[]): Mount[] {
  for (const mount of mounts) Object.freeze(Object.freeze(mount).options);
  return Object.freeze(mounts) as Mount[];
}

/** What a function makes of a mount, and what is asked of it. */
type Case = [rule: string, given: Mount, options: string[]];

function check(change: (mounts: readonly Mount[]) => Mount[], cases: readonly Case[]): void {
  for (const [rule, given, options] of cases) {
    const before = structuredClone(given);
    assertEquals(change(frozen([given])), [{ ...given, options }], rule);
    assertEquals(given, before, `${rule}: the list is not changed`);
  }
  // A list as a whole gives what its entries give.
  const list = frozen(cases.map(([, given]) => given));
  assertEquals(change(list).map((mount) => mount.options), cases.map(([, , options]) => options));
  assertEquals(change([]), []);
}

Deno.test("readonlyMounts() puts an overlay's upper directory above its lower layers", () => {
  const upper = [`upperdir=${snapshots}/9/fs`, `workdir=${snapshots}/9/work`];
  check(readonlyMounts, [
    ["the upper directory comes first", overlay(...upper, `lowerdir=${snapshots}/7/fs`), [
      `lowerdir=${snapshots}/9/fs:${snapshots}/7/fs`,
    ]],
    ["other words keep their place", overlay("metacopy=on", ...upper, "lowerdir=/l", "xino=off"), [
      "metacopy=on",
      `lowerdir=${snapshots}/9/fs:/l`,
      "xino=off",
    ]],
    ["without an upper directory nothing changes", overlay("index=on", "lowerdir=/a:/b"), [
      "index=on",
      "lowerdir=/a:/b",
    ]],
    ["the last lowerdir= is the one that counts", overlay("lowerdir=/old", ...upper, "lowerdir=/new"), [
      "lowerdir=/old",
      `lowerdir=${snapshots}/9/fs:/new`,
    ]],
    ["layers one by one", overlay("lowerdir+=/a", "lowerdir+=/b", ...upper), [
      `lowerdir+=${snapshots}/9/fs`,
      "lowerdir+=/a",
      "lowerdir+=/b",
    ]],
    ["a fragment with commas", overlay("lowerdir=/l,upperdir=/u,workdir=/w,volatile"), ["lowerdir=/u:/l"]],
    ["one whose upper directory is full of commas", overlay("lowerdir=/l", "upperdir=/u\\,p,workdir=/w"), [
      "lowerdir=/u\\,p:/l",
    ]],
  ]);
});

Deno.test("readonlyMounts() ends the list of any other type with one ro", () => {
  const layers = ["lowerdir=/l", "upperdir=/u", "workdir=/w"];
  check(readonlyMounts, [
    ["words that only overlay knows stay", { type: "unionfs", source: "", options: layers }, [
      ...layers,
      "ro",
    ]],
    ["rw goes", { type: "ext4", source: "/dev/x", options: ["rw", "data=ordered", "nodev"] }, [
      "data=ordered",
      "nodev",
      "ro",
    ]],
    ["ro is not there twice", { type: "ext4", source: "/dev/x", options: ["ro", "data=ordered"] }, [
      "data=ordered",
      "ro",
    ]],
    ["ro and rw in one entry", bind("bind,rw,nosuid,ro"), ["bind", "nosuid", "ro"]],
    ["a tree is read-only all the way down", bind("rbind", "rw"), ["rbind", "rro"]],
  ]);
});

Deno.test("readonlyMounts() keeps an overlay's id maps, and says that the former upper directory has none", () => {
  const maps = ["uidmap=0:500000:65536", "gidmap=0:500000:65536"];
  check(readonlyMounts, [
    ["with an upper directory", overlay("lowerdir=/l", "upperdir=/u", "workdir=/w", ...maps), [
      "lowerdir=/u:/l",
      ...maps,
      "X-denomount.unmapped=/u",
    ]],
    ["with a comma in its path", overlay("lowerdir=/l", "upperdir=/u\\,p", "workdir=/w", ...maps), [
      "lowerdir=/u\\,p:/l",
      ...maps,
      "X-denomount.unmapped=/u\\,p",
    ]],
    ["without one", overlay("lowerdir=/a:/b", ...maps), ["lowerdir=/a:/b", ...maps]],
  ]);
});

Deno.test("isReadonly() answers for the type first, and then for the word ro", () => {
  const layers = ["lowerdir=/l", "upperdir=/u", "workdir=/w"];
  const cases: [rule: string, mount: Mount, expected: boolean][] = [
    ["an erofs", { type: "erofs", source: "/img/base.erofs", options: ["loop"] }, true],
    ["an erofs without options", { type: "erofs", source: "/dev/vdb" }, true],
    ["an overlay of lower layers", overlay("lowerdir=/a:/b"), true],
    ["an overlay without options", { type: "overlay", source: "o" }, true],
    ["an overlay with an upper directory", overlay(...layers), false],
    ["the same in one entry", overlay(layers.join(",")), false],
    ["the same in two entries", overlay("lowerdir=/l,upperdir=/u", "workdir=/w"), false],
    ["an overlay for a mount manager", { ...overlay("lowerdir=/l"), type: "mkdir/format/overlay" }, true],
    ["the same with an upper directory", { ...overlay(...layers), type: "mkdir/format/overlay" }, false],
    ["ro overrules the upper directory", overlay(...layers, "ro"), true],
    ["ro in one entry with the layers", overlay([...layers, "ro"].join(",")), true],
    ["ro before rw", bind("ro", "bind", "rw"), true],
    ["a bind with ro", bind("rbind", "ro"), true],
    ["a bind with rro", bind("rbind", "rro"), true],
    ["a bind with ro=vfs", bind("bind", "ro=vfs"), true],
    ["a bind without", bind("rbind"), false],
    ["a bind with rw", bind("rbind", "rw"), false],
    ["a word that only contains ro", bind("bind", "norelatime"), false],
    ["errors=remount-ro", { type: "ext4", source: "/dev/x", options: ["errors=remount-ro"] }, false],
    ["a tmpfs without options", { type: "tmpfs", source: "t" }, false],
  ];
  for (const [rule, mount, expected] of cases) assertEquals(isReadonly(mount), expected, rule);
});

Deno.test("removeVolatileOption() removes both spellings from overlays, and touches no other type", () => {
  const layers = ["lowerdir=/l", "upperdir=/u", "workdir=/w"];
  const other = (option: string): Mount => ({
    type: "scratchfs",
    source: "s",
    options: ["index=on", option],
  });
  check(removeVolatileOption, [
    ["volatile", overlay("index=off", "volatile", ...layers), ["index=off", ...layers]],
    ["fsync=volatile", overlay(...layers, "fsync=volatile"), layers],
    ["both of them, and twice", overlay("volatile", ...layers, "fsync=volatile", "volatile"), layers],
    ["in one entry with others", overlay([...layers, "volatile"].join(",")), layers],
    ["none", overlay("fsync=auto", ...layers), ["fsync=auto", ...layers]],
    ["another type's volatile", other("volatile"), ["index=on", "volatile"]],
    ["another type's fsync=volatile", other("fsync=volatile"), ["index=on", "fsync=volatile"]],
  ]);
});

Deno.test("removeIdMapOption() leaves no word that needs an id map", () => {
  const maps = ["uidmap=0:500000:65536", "gidmap=0:500000:65536"];
  check(removeIdMapOption, [
    ["both halves", bind("rbind", ...maps, "nodev"), ["rbind", "nodev"]],
    ["several ranges in one entry with others", bind("bind,uidmap=0:1:1,5:6:7,gidmap=0:1:1,ro"), [
      "bind",
      "ro",
    ]],
    ["OCI's words", bind("rbind", "ridmap", ...maps, "idmap"), ["rbind"]],
    ["mount(8)'s word", bind("bind", "X-mount.idmap=b:0:500000:65536"), ["bind"]],
    ["an overlay's layer without a map", overlay("lowerdir=/u:/l", ...maps, "X-denomount.unmapped=/u"), [
      "lowerdir=/u:/l",
    ]],
    ["words that look like it", bind("bind", "x-idmap=1", "comment=uidmap=0"), [
      "bind",
      "x-idmap=1",
      "comment=uidmap=0",
    ]],
  ]);
});

Deno.test("commonDirectory() ends at a slash, never in the middle of a name", () => {
  const layers = (...ids: number[]) => ids.map((id) => `${snapshots}/${id}/fs`);
  const cases: [string[], string][] = [
    [[], "/"],
    [layers(41), `${snapshots}/41/fs`],
    [[`${snapshots}/41/fs/`], `${snapshots}/41/fs/`],
    [layers(30211, 18122, 18121), snapshots],
    [layers(59, 58, 57, 51), snapshots],
    [layers(1, 10, 2), snapshots],
    [layers(5, 5), `${snapshots}/5/fs`],
    [["/a", "/ab"], "/"],
    [["/a/b", "/a"], "/a"],
    [["/one/tree/1", "/another/tree/2"], "/"],
  ];
  for (const [paths, expected] of cases) assertEquals(commonDirectory(paths), expected);
  assert(layers(1, 2).every((path) => path.startsWith(commonDirectory(layers(1, 2)) + "/")));
});
