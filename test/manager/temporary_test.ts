/**
 * Temporary activations: everything is mounted, and the caller mounts one bind.
 *
 * @module
 */

import { mountAll } from "../../mod.ts";
import { LocalMountManager } from "../../linux/manager/mod.ts";
import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";

kernelTest(
  "a temporary list with targets is mounted as its caller would, and its directories stay",
  {},
  async (t) => {
    t.make("root", "base/data", "target");
    Deno.writeTextFileSync(`${t.dir}/base/file`, "");
    Deno.writeTextFileSync(`${t.dir}/other`, "other");
    Deno.chmodSync(`${t.dir}/root`, 0o700);
    await using manager = await LocalMountManager.open({ root: `${t.dir}/root` });
    const { active, system } = await manager.activate("one", [
      { type: "bind", source: `${t.dir}/base` },
      { type: "tmpfs", source: "t", target: "/data" },
      { type: "bind", source: `${t.dir}/other`, target: "/file" },
    ], { temporary: true });
    const place = active[0]?.mountPoint ?? "";
    assertEquals(active.map(({ mountPoint }) => mountPoint), [place, `${place}/data`, `${place}/file`]);
    assertEquals(system, [{ type: "bind", source: place, options: ["rbind"] }]);
    {
      await using _mounts = await mountAll(system, `${t.dir}/target`);
      assertEquals(Deno.readTextFileSync(`${t.dir}/target/file`), "other");
      assertEquals(t.mounts().filter(({ mountpoint }) => mountpoint === "/target/data").length, 1);
    }
    await manager.deactivate("one");
    assertEquals(t.mounts(), []);
    assertEquals([...Deno.readDirSync(`${t.dir}/base`)].map(({ name }) => name).sort(), ["data", "file"]);
  },
);
