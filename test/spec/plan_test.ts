import { type Mount, MountError } from "../../mod.ts";
import type { AttributeChange } from "../../linux/spec/option_table.ts";
import { planMounts } from "../../linux/spec/plan.ts";
import { MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_RDONLY } from "../../linux/syscalls/constants.ts";
import { assertEquals, assertThrows } from "../assert.ts";

const fuse = (...options: string[]): Mount => ({ type: "fuse3.bindfs", source: "/srv", options });

function attributes(mount: Mount): AttributeChange {
  const [plan] = planMounts([mount], "/mnt");
  return plan?.attributes ?? { set: 0, clear: 0 };
}

Deno.test("what a FUSE helper does not know is set after it has mounted, and a later word of the list counts", () => {
  const nothing = { set: 0, clear: 0 };
  assertEquals(attributes(fuse("ro", "nosuid", "sync", "max_read=4096")), nothing);
  assertEquals(
    attributes(fuse("user", "exec")).set & (MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV),
    MOUNT_ATTR_NODEV,
  );
  assertEquals(attributes(fuse("exec", "user")).set & MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOEXEC);
  assertEquals(attributes(fuse("ro=vfs", "noexec")).set, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC);
  assertEquals(attributes(fuse("rro", "rw")).clear, MOUNT_ATTR_RDONLY);
});

Deno.test("a word that a kind of mount can't carry out is refused by name", () => {
  const layers = ["lowerdir=/a:/b"];
  const maps = ["uidmap=0:1000:1", "gidmap=0:1000:1"];
  const refused: [Mount, string][] = [
    [fuse("loop"), "a FUSE mount takes no loop device"],
    [fuse("lazytime"), 'a FUSE helper can\'t change "lazytime"'],
    [fuse("ro=fs"), 'a FUSE helper can\'t change "ro=fs"'],
    [
      { type: "bind", source: "/srv", options: ["nodev,ro=vfs:fs"] },
      'a bind mount can\'t change "ro=vfs:fs"',
    ],
    [{ type: "", source: "", options: ["remount,bind,rw=fs"] }, 'can\'t change "rw=fs"'],
    [fuse("mand"), 'a FUSE helper can\'t change "mand"'],
    [fuse("X-mount.subdir=a"), 'a FUSE mount takes no "X-mount.subdir="'],
    [fuse("X-denomount.unmapped=/a"), "is about a layer of a new overlay"],
    [{ type: "bind", source: "/srv", options: ["X-denomount.unmapped=/srv", ...maps] }, "is about a layer"],
    [{ type: "overlay", source: "", options: ["remount", "X-denomount.unmapped=/a"] }, "is about a layer"],
    [
      { type: "overlay", source: "o", options: [...layers, ...maps, "X-denomount.unmapped=/c"] },
      'names "/c", which is no lower layer of the overlay',
    ],
  ];
  for (const [mount, message] of refused) {
    assertThrows(() => planMounts([mount], "/mnt"), MountError, message);
  }
  planMounts(
    [{ type: "overlay", source: "o", options: [...layers, ...maps, "X-denomount.unmapped=/b"] }],
    "/mnt",
  );
});

Deno.test("a FUSE helper gets its server's words, also those that look like this library's", () => {
  const options = ["offset=4096", "direct-io", "mode=vfs", "ro", "allow_other"];
  const [plan] = planMounts([fuse("nosymfollow", ...options, "defaults", "context=a:b:c")], "/mnt");
  assertEquals(plan?.kind === "fuse" ? plan.options : undefined, options);
  assertEquals(plan?.kind === "fuse" ? plan.labels : undefined, ["context=a:b:c"]);
});
