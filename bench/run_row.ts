/**
 * Measures one row, in the mount namespace that it is started in, and prints what came out as JSON.
 *
 *     unshare -m --propagation private deno run -A --v8-flags=--expose-gc bench/run_row.ts ROW ROUNDS [NAME=PATH…]
 *
 * @module
 */

import { mount } from "../mod.ts";
import { measure } from "./measure.ts";
import { Peer } from "./peers.ts";
import { rows } from "./rows.ts";

const [name, rounds, ...programs] = Deno.args;
const row = rows.find((each) => each.name === name);
if (!row) throw new Error(`there is no row "${name}"`);

const dir = await Deno.makeTempDir({ prefix: "denomount-bench-" });
try {
  await using undo = new AsyncDisposableStack();
  // A file system of its own, as overlays want one that is no overlay, and so that nothing waits for a disk.
  undo.use(await mount({ type: "tmpfs", source: "bench", options: ["mode=0755"] }, dir));
  const peers = programs.map((program) => {
    const [peerName = "", path = ""] = program.split("=");
    return undo.use(new Peer(peerName, path));
  });
  const contenders = await row.prepare({ dir, peers, undo });
  console.log(JSON.stringify(await measure(contenders, row.rounds ?? Number(rounds))));
} finally {
  await Deno.remove(dir);
}
