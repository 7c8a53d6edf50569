import { createUserNamespace, type IdMapping, mount, MountError, parseIdMappings } from "../../mod.ts";
import { libc } from "../../ffi/libc.ts";
import { assertEquals, assertRejects, assertThrows } from "../assert.ts";

const range = (containerId: number, hostId: number, size: number): IdMapping => ({
  containerId,
  hostId,
  size,
});

// Must be the first test of this file: once libc is loaded, calls need no permission.
Deno.test(
  "createUserNamespace() refuses invalid id maps before any system call, and names the invalid part",
  {
    permissions: { ffi: false },
  },
  async () => {
    assertThrows(libc, Deno.errors.NotCapable); // libc is not loaded yet, and can't be
    const tooMany = Array.from({ length: 341 }, (_, index) => range(index * 2, index * 2, 1));
    const tooLong = Array.from({ length: 250 }, (_, index) => range(index + 1e6, index + 1e6, 1));
    const refused: [string | IdMapping[], string][] = [
      ["", '"" is no id map'],
      [[], "at least one range"],
      ["abc", '"abc" is no id map'],
      ["1:2", '"1:2" is no id map'],
      ["0:1:1,", '"" is no id map'],
      ["0:1:1,5:x:2", '"5:x:2" is no id map'],
      ["-1:0:1", '"-1:0:1" is no id map'],
      ["0:0:0", "id map 0:0:0: the range is empty"],
      ["0:0:10,9:100:5", "id map 0:0:10 and id map 9:100:5 overlap"],
      ["0:0:10,20:9:5", "id map 0:0:10 and id map 20:9:5 overlap"],
      ["0:4294967290:10", "id map 0:4294967290:10: ids end below 2^32 - 1"],
      ["0:0:4294967296", "id map 0:0:4294967296: ids end below 2^32 - 1"],
      ["4294967295:0:1", "id map 4294967295:0:1: ids end below 2^32 - 1"],
      ["4294967290:0:10", "id map 4294967290:0:10: ids end below 2^32 - 1"],
      ["0:0:99999999999999999999", "is no id"],
      [[range(-1, 0, 1)], "id map -1:0:1: -1 is no id"],
      [[range(0, NaN, 1)], "NaN is no id"],
      [[range(0, 0, 1.5)], "1.5 is no id"],
      [[range(0, 0, 0)], "id map 0:0:0: the range is empty"],
      [[range(0, 0, 1), range(5, 0.5, 1)], "id map 5:0.5:1: 0.5 is no id"],
      [[range(0, 0, Infinity)], "Infinity is no id"],
      [tooMany, "340 ranges at most, not 341"],
      [
        tooMany.map(({ containerId }) => `${containerId}:${containerId}:1`).join(),
        "340 ranges at most, not 341",
      ],
      [tooLong, "an id map of 250 ranges is 4500 bytes long: the kernel takes 4095"],
    ];
    for (const [map, message] of refused) {
      await assertRejects(() => createUserNamespace(map, "0:0:1"), TypeError, message);
      await assertRejects(() => createUserNamespace("0:0:1", map), TypeError, message);
      if (typeof map === "string") assertThrows(() => parseIdMappings(map), TypeError, message);
    }
    assertEquals(parseIdMappings("0:100000:65536,65536:5:1"), [range(0, 100000, 65536), range(65536, 5, 1)]);
  },
);

Deno.test("mount() refuses invalid id maps before any system call", {
  permissions: { ffi: false, read: false },
}, async () => {
  const refused: [string[], string][] = [
    [["uidmap=0:1:1"], '"uidmap=" needs a "gidmap=" beside it'],
    [["gidmap=0:1:1"], '"gidmap=" needs a "uidmap=" beside it'],
    [["uidmap=0:1", "gidmap=0:1:1"], '"0:1" is no id map'],
    [["uidmap=0:1:1", "gidmap="], '"" is no id map'],
    [["ro,uidmap=0:0:10,5:100:1,gidmap=0:1:1"], "id map 0:0:10 and id map 5:100:1 overlap"],
    [["uidmap=0:4294967290:10", "gidmap=0:1:1"], "id map 0:4294967290:10: ids end below 2^32 - 1"],
  ];
  for (const [given, message] of refused) {
    await assertRejects(
      () => mount({ type: "bind", source: "/usr", options: ["bind", ...given] }, "/mnt"),
      MountError,
      message,
    );
  }
});
