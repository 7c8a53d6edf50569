import { mount } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";

const withoutMountApi = () => pretendMissing("mountApi", "mountSetattr", "overlayLayers", "openat2");

for (const api of ["fsopen(2) and open_tree(2)", "mount(2)"]) {
  const select = () => api === "mount(2)" ? withoutMountApi() : { [Symbol.dispose]() {} };

  kernelTest(
    `no symbolic link and no .. leads a mount out of its target, with ${api}`,
    {},
    async (t) => {
      using _ = select();
      t.make("root/outside", "outside");
      Deno.symlinkSync("/outside", `${t.dir}/root/absolute`);
      Deno.symlinkSync("../../outside", `${t.dir}/root/relative`);
      for (const target of ["absolute", "relative", "../outside", "/../../outside"]) {
        await using stack = await mount({ type: "tmpfs", source: "t", target }, `${t.dir}/root`);
        assertEquals(stack.mountpoints, [`${t.dir}/root/outside`]);
        assertEquals(t.mounts().map((row) => row.mountpoint), ["/root/outside"]);
      }
    },
  );
}
