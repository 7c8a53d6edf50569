import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";
import { swapping } from "../race/races.ts";
import type { Mount } from "../../mod.ts";
import { mkfsEntry, openManager } from "./managers.ts";

const tries = { mkdir: 120, mkfs: 40 };

for (const modifier of ["mkdir", "mkfs"] as const) {
  kernelTest(`a directory that is swapped with a symbolic link leads ${modifier} out of no allowed root`, {
    root: true,
    tools: ["mkfs.ext2"],
    permissions: { run: true },
  }, async (t) => {
    await using manager = await openManager(t);
    t.make("root/real", "outside");
    Deno.symlinkSync("../outside", `${t.dir}/root/link`);
    let made = 0;
    let refused = 0;
    {
      await using _swapper = await swapping(`${t.dir}/root/real`, `${t.dir}/root/link`);
      for (let attempt = 0; attempt < tries[modifier]; attempt++) {
        const path = `${t.dir}/root/${attempt % 2 === 0 ? "real" : "link"}/${attempt}`;
        const entry: Mount = modifier === "mkdir"
          ? { type: "mkdir/tmpfs", source: "t", options: [`X-containerd.mkdir.path=${path}`] }
          : mkfsEntry("ext2", path, "1MiB");
        const name = await manager.activate(`try-${attempt}`, [entry]).then(
          ({ name }) => name,
          () => undefined,
        );
        if (name === undefined) refused++;
        else {
          made++;
          await manager.deactivate(name);
        }
      }
    }
    assertEquals(names(`${t.dir}/outside`), []);
    assert(made > 0 && refused > 0, `${made} made, ${refused} refused`);
    const [real = ""] = ["real", "link"].filter((name) =>
      Deno.lstatSync(`${t.dir}/root/${name}`).isDirectory
    );
    assertEquals(names(`${t.dir}/root/${real}`).length, made); // a refused one leaves no temporary file
  });
}
