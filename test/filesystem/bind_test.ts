import { mount } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";

for (const api of ["open_tree(2)", "mount(2)"]) {
  kernelTest(
    `a bind keeps the restrictions of its source, and diratime and relatime change its access times, with ${api}`,
    {},
    async (t) => {
      using _ = api === "mount(2)" ? pretendMissing("mountApi", "mountSetattr") : undefined;
      t.make("source", "target");
      const restricted = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"];
      await using _tmp = await mount({ type: "tmpfs", source: "t", options: restricted }, `${t.dir}/source`);
      for (
        const [options, expected] of [
          ["rw,suid,dev,exec", "ro,nosuid,nodev,noexec,noatime,nodiratime"],
          ["diratime", "ro,nosuid,nodev,noexec,noatime"],
          ["relatime", "ro,nosuid,nodev,noexec,nodiratime,relatime"],
        ] as const
      ) {
        for (const kind of ["bind", "rbind"]) {
          await using _bind = await mount(
            { type: "bind", source: `${t.dir}/source`, options: [kind, options] },
            `${t.dir}/target`,
          );
          const row = t.mounts().find(({ mountpoint }) => mountpoint === "/target");
          assertEquals(row?.options.join(), expected);
        }
      }
    },
  );
}
