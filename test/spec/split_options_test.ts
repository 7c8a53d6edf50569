import { ATTRIBUTES } from "../../linux/spec/option_table.ts";
import { splitOptions } from "../../linux/spec/split_options.ts";
import { assertEquals } from "../assert.ts";

Deno.test("an attribute with =vfs, =fs or =recursive after an overlay's layer is an option, and no part of the path", () => {
  for (const name of Object.keys(ATTRIBUTES)) {
    for (const layer of ["vfs", "fs", "recursive"]) {
      const option = `${name}=${layer}`;
      assertEquals(splitOptions(`workdir=/w,${option},lowerdir=/l`), ["workdir=/w", option, "lowerdir=/l"]);
    }
  }
  assertEquals(splitOptions("lowerdir=/a,b=c:/d,ro"), ["lowerdir=/a,b=c:/d", "ro"]);
});
