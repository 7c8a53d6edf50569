/**
 * Activates everything in this process's mount namespace and writes a file into the overlay; or deactivates it.
 *
 *     deno run -A test/manager/activator.ts DIRECTORY NAME [deactivate]
 *
 * @module
 */

import { everything, open, patient } from "./everything.ts";

const [dir = "", name = "", command] = Deno.args;
await using manager = await open(dir);
if (command === "deactivate") await manager.deactivate(name);
else {
  const { system } = await manager.activate(name, everything(dir), patient);
  await Deno.writeTextFile(`${system[0]?.source}/written`, "before the reboot");
}
