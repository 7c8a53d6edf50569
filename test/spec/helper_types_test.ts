import { planMounts } from "../../linux/spec/plan.ts";
import { assertEquals, assertThrows } from "../assert.ts";

Deno.test("nfs, cifs and what is named mount.TYPE are mounted by that program, unless the list has the address", () => {
  const helperOf = (type: string, ...options: string[]) => {
    const [plan] = planMounts([{ type, source: "x", options }], "/mnt");
    return plan?.kind === "fuse" ? `${plan.helper} ${plan.type ?? ""}`.trim() : plan?.kind;
  };
  const cases: [string, string[], string][] = [
    ["nfs", [], "mount.nfs"],
    ["nfs4", ["vers=4.2,soft"], "mount.nfs4"],
    ["nfs", ["vers=4,addr=10.0.0.1"], "filesystem"],
    ["cifs", ["username=x"], "mount.cifs"],
    ["cifs", ["ip=10.0.0.1", "username=x"], "filesystem"],
    ["ntfs-3g", [], "mount.ntfs-3g"],
    ["mount.s3ql", [], "mount.s3ql"],
    ["fuse.sshfs", [], "mount.fuse sshfs"],
    ["fuse3.nfs", ["addr=1"], "mount.fuse3 nfs"],
    ["ext4", [], "filesystem"],
    ["nfs", ["remount", "ro"], "remount"],
    ["nfs", ["bind"], "bind"],
  ];
  for (const [type, options, expected] of cases) {
    assertEquals([type, helperOf(type, ...options)], [type, expected]);
  }
});

Deno.test("a helper's name leads to no other directory, and it takes no loop device and no id map", () => {
  for (const type of ["mount.../../tmp/evil", "mount./tmp/evil"]) {
    assertEquals(planMounts([{ type, source: "x" }], "/mnt")[0]?.kind, "filesystem"); // a type that no kernel knows
  }
  for (const option of ["loop", "uidmap=0:1:1,gidmap=0:1:1", "X-mount.subdir=a"]) {
    assertThrows(() => planMounts([{ type: "nfs", source: "x", options: [option] }], "/mnt"), Error);
  }
});
