/**
 * Tells of the first mount that it sees: started by a test as a user without rights.
 *
 * @module
 */

import { watchMounts } from "../../mod.ts";

const events = watchMounts();
console.log("watching");
for await (const event of events) {
  if (event.kind === "mounted") console.log(`mounted ${event.mount.source}`);
  break;
}
