/**
 * Measures one row in the current mount namespace, and prints the result as JSON.
 *
 *     unshare -m --propagation private deno run -A --v8-flags=--expose-gc bench/run_row.ts ROW ROUNDS [NAME=PATH…]
 *
 * With "traced" in place of the rounds, it runs each contender between two marks in strace's log.
 *
 * @module
 */

import { mount } from "../mod.ts";
import { trace } from "./calls.ts";
import { measure } from "./measure.ts";
import { Peer } from "./peers.ts";
import { rows } from "./rows.ts";

const [name, rounds, ...programs] = Deno.args;
const row = rows.find((each) => each.name === name);
if (!row) throw new Error(`unknown row "${name}"`);

const dir = await Deno.makeTempDir({ prefix: "denomount-bench-" });
try {
  await using undo = new AsyncDisposableStack();
  // A tmpfs: the upper directory of an overlay can't be on another overlay, and nothing waits for a disk.
  undo.use(await mount({ type: "tmpfs", source: "bench", options: ["mode=0755"] }, dir));
  const peers = programs.map((program) => {
    const [peerName = "", path = ""] = program.split("=");
    return undo.use(new Peer(peerName, path));
  });
  const contenders = await row.prepare({ dir, peers, undo });
  const result = rounds === "traced" ? trace(contenders) : measure(contenders, row.rounds ?? Number(rounds));
  console.log(JSON.stringify(await result));
} finally {
  await Deno.remove(dir);
}
