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
  const remount = (...options: string[]): Mount => ({
    type: "",
    source: "",
    options: ["remount", ...options],
  });
  const refused: [Mount, string][] = [
    [fuse("loop"), "a FUSE mount takes no loop device"],
    [fuse("lazytime"), 'a FUSE helper can\'t change "lazytime"'],
    [fuse("ro=fs"), 'a FUSE helper can\'t change "ro=fs"'],
    [
      { type: "bind", source: "/srv", options: ["nodev,ro=vfs:fs"] },
      'a bind mount can\'t change "ro=vfs:fs"',
    ],
    [{ type: "", source: "", options: ["remount,bind,rw=fs"] }, 'can\'t change "rw=fs"'],
    [remount("dirsync"), 'a remount can\'t change "dirsync"'],
    [remount("bind", "size=1m"), 'a remount of the mount alone, with "bind", knows no option "size=1m"'],
    [remount("bind", "sync"), 'can\'t change "sync", a flag of the file system'],
    [remount("X-mount.owner=0"), 'a remount takes no "X-mount.owner="'],
    [remount("X-mount.subdir=a"), 'a remount takes no "X-mount.subdir="'],
    [remount("loop"), "a remount takes no loop device"],
    [remount(...maps), "an id map is for a new mount"],
    [{ type: "", source: "", options: ["shared", ...maps] }, "an id map is for a new mount"],
    [{ type: "", source: "", options: ["shared", "X-mount.mode=700"] }, 'takes no "X-mount.owner="'],
    [{ type: "none", source: "" }, "the mount has no type"],
    [fuse(...maps), "a FUSE helper mounts it itself, without an id map"],
    [{ type: "bind", source: "/srv", options: ["loop"] }, "a bind mount takes no loop device"],
    [
      { type: "overlay", source: "o", options: ["lowerdir=/a:/b", "upperdir=/u"] },
      '"upperdir=" needs a "workdir="',
    ],
    [{ type: "overlay", source: "o", options: ["lowerdir=/a"] }, 'needs an "upperdir="'],
    [{ type: "overlay", source: "o", options: ["upperdir=/u", "workdir=/w"] }, "at least one layer"],
    [{ type: "overlay", source: "o", options: [...layers, "loop"] }, "an overlay takes no loop device"],
    [{ type: "auto", source: "/dev/x" }, 'the type "auto" asks to guess'],
    [{ type: "loop", source: "/dev/x" }, "is for a mount manager"],
    [{ type: "tm\0pfs", source: "t" }, "NUL"],
    [{ type: "tmpfs", source: "t\0" }, "NUL"],
    [{ type: "tmpfs", source: "t", target: "a\0" }, "NUL"],
    [{ type: "tmpfs", source: "t", options: ["mode=\0"] }, "NUL"],
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
    const error = assertThrows(() => planMounts([mount], "/mnt"), MountError, message);
    assertEquals([error.mount, error.code], [mount, "EINVAL"]);
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

const bind = (...options: string[]): Mount => ({ type: "bind", source: "/srv", options });

Deno.test("a bind grants nothing that its source withholds, and takes back what the list says about the tree", () => {
  const planned = (...options: string[]) => {
    const [plan] = planMounts([bind(...options)], "/mnt");
    return { attributes: plan?.attributes, recursiveAttributes: plan?.recursiveAttributes };
  };
  const nothing = { set: 0, clear: 0 };
  const grants = ["rw", "suid", "dev", "exec", "symfollow"];
  for (const word of grants) {
    for (const options of [["bind", word], ["rbind", word], ["bind", `r${word}`], ["rbind", `r${word}`]]) {
      assertEquals(planned(...options), { attributes: nothing, recursiveAttributes: nothing }, `${options}`);
    }
  }
  assertEquals(planned("rbind", "rro", "rw"), {
    attributes: { set: 0, clear: MOUNT_ATTR_RDONLY },
    recursiveAttributes: { set: MOUNT_ATTR_RDONLY, clear: 0 },
  });
  assertEquals(planned("bind", "rro", "rw"), { attributes: nothing, recursiveAttributes: nothing });
  assertEquals(planned("bind", "rro").attributes, { set: MOUNT_ATTR_RDONLY, clear: 0 });
});

Deno.test("an error names the mountpoint, and an empty target is refused", () => {
  const wrong = { type: "auto", source: "s", target: "a/../b/" };
  const error = assertThrows(() => planMounts([wrong], "/mnt"), MountError, "on /mnt/b: ");
  assertEquals(error.target, "/mnt/b");
  assertThrows(() => planMounts([{ ...wrong, target: "/" }], "/mnt"), MountError, "on /mnt: ");
  assertThrows(() => planMounts([bind()], ""), MountError, "the target is an empty path");
});

Deno.test("attributes beside a propagation word change the mount, of the tree too", () => {
  const kindOf = (...options: string[]) => planMounts([{ type: "", source: "", options }], "/mnt")[0]?.kind;
  assertEquals(kindOf("shared"), "propagation");
  for (const word of ["ro", "rw", "rro", "rrw", "rnoatime"]) {
    assertEquals(kindOf("shared", word), "remount", word);
  }
});

Deno.test("with bind, rbind or remount a FUSE type starts no helper", () => {
  const kindOf = (...options: string[]) => planMounts([fuse(...options)], "/mnt")[0]?.kind;
  assertEquals(["bind", "rbind", "remount"].map((word) => kindOf(word)), ["bind", "bind", "remount"]);
  assertEquals(kindOf("ro,rbind"), "bind");
  assertEquals(kindOf("ro"), "fuse");
  for (const word of ["bind", "rbind", "remount"]) {
    assertEquals(attributes(fuse(word, "ro")).set, MOUNT_ATTR_RDONLY, word); // there is no helper to carry it out
  }
});

Deno.test("the owner, the group and the mode of a root are planned one by one", () => {
  const rootOf = (...options: string[]) =>
    planMounts([{ type: "tmpfs", source: "t", options }], "/mnt")[0]?.root;
  assertEquals(rootOf(), undefined);
  const none = { owner: undefined, group: undefined, mode: undefined };
  assertEquals(rootOf("X-mount.owner=1"), { ...none, owner: "1" });
  assertEquals(rootOf("X-mount.group=2"), { ...none, group: "2" });
  assertEquals(rootOf("X-mount.mode=0700"), { ...none, mode: 0o700 });
});

Deno.test("a backslash before a comma is overlay's: another file system gets the comma alone", () => {
  const dataOf = (mount: Mount) => {
    const [plan] = planMounts([mount], "/mnt");
    return plan?.kind === "filesystem" || plan?.kind === "remount" ? plan.data : undefined;
  };
  assertEquals(dataOf({ type: "tmpfs", source: "t", options: ["a=b\\,c,size=1m"] }), ["a=b,c", "size=1m"]);
  assertEquals(dataOf({ type: "", source: "", options: ["remount", "a=b\\,c"] }), ["a=b,c"]);
});
