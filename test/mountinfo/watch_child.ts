/**
 * Prints the first mount event; started by a test as a process without capabilities.
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
