import { mount } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";

const older = () => pretendMissing("mountApi", "mountSetattr", "overlayLayers", "openat2");

for (const way of ["new", "older"]) {
  const using = () => way === "older" ? older() : { [Symbol.dispose]() {} };

  kernelTest(
    `neither a symbolic link nor .. leads a mount out of its target, the ${way} way`,
    {},
    async (t) => {
      using _ = using();
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
