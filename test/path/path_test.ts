import { rootPath } from "../../mod.ts";
import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";

kernelTest("rootPath() stays inside the root, and keeps names that do not exist", {}, async (t) => {
  t.make("root/a");
  Deno.symlinkSync("/a", `${t.dir}/root/link`);
  Deno.symlinkSync("../../../..", `${t.dir}/root/up`);
  Deno.symlinkSync("circle", `${t.dir}/root/circle`);
  const root = `${t.dir}/root`;
  assertEquals(await rootPath(root, "link/new/x"), `${root}/a/new/x`);
  assertEquals(await rootPath(root, "up/etc/passwd"), `${root}/etc/passwd`);
  assertEquals(await rootPath(root, "../.."), root);
  const error = await rootPath(root, "circle").catch((error) => error);
  assertEquals(error.code, "ELOOP");
});
