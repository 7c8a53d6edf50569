import { isReadonly, readonlyMounts, removeVolatileOption } from "../../mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { mountTable } from "../kernel.ts";

Deno.test("readonlyMounts() makes an overlay's upper directory its topmost layer, and adds rro to recursive binds and ro to other mounts", () => {
  const list = Object.freeze([
    {
      type: "overlay",
      source: "o",
      options: Object.freeze(["index=off", "lowerdir=/l", "upperdir=/u:p", "workdir=/w", "volatile"]),
    },
    { type: "bind", source: "/s", options: Object.freeze(["rbind", "rw"]) },
    { type: "tmpfs", source: "t" },
  ]);
  assert(!list.some(isReadonly));
  const changed = readonlyMounts(list);
  assertEquals(changed.map(({ options }) => options), [
    ["index=off", "lowerdir=/u\\:p:/l"],
    ["rbind", "rro"],
    [
      "ro",
    ],
  ]);
  assert(changed.every(isReadonly));
  assertEquals(removeVolatileOption(list)[0]?.options, [
    "index=off",
    "lowerdir=/l",
    "upperdir=/u:p",
    "workdir=/w",
  ]);
  assertEquals(mountTable().some(({ source }) => source === "o"), false);
});
