/**
 * Activates and deactivates random names, ten at a time, with a sync() now and then, and prints what came of each call as JSON.
 *
 *     deno run -A test/manager/worker.ts DIRECTORY SEED CALLS NAMES
 *
 * @module
 */

import { AlreadyExistsError, FailedPreconditionError, NotFoundError } from "../../linux/manager/mod.ts";
import { open } from "./everything.ts";

/** What came of a call. */
export interface Outcome {
  /** The call. */
  call: "activate" | "deactivate" | "sync";
  /** The name of the activation; of no meaning for sync(). */
  name: string;
  /** A label that no other call gives. */
  label: string;
  /** The result: "done", or the error. */
  result: string;
}

if (import.meta.main) {
  const [dir = "", seed = "", calls = "", names = ""] = Deno.args;
  await using manager = await open(dir);
  const outcomes: Outcome[] = [];
  let [left, state] = [Number(calls), Number(seed)];
  const random = (below: number) => (state = (state * 48271) % 0x7fffffff) % below; // MINSTD

  const callOnce = async (): Promise<void> => {
    const name = `name ${random(Number(names))}`;
    const call = random(8) === 0 ? "sync" : random(2) === 0 ? "activate" : "deactivate";
    const label = crypto.randomUUID();
    const list = [
      { type: "tmpfs", source: label },
      {
        type: "format/mkdir/bind",
        source: "{{ mount 0 }}/made",
        options: ["X-containerd.mkdir.path={{ mount 0 }}/made", "bind"],
      },
    ];
    let result = "done";
    try {
      if (call === "activate") await manager.activate(name, list, { temporary: true, labels: { label } });
      else if (call === "deactivate") await manager.deactivate(name, { timeout: 20_000 });
      else {
        const { removed, lost } = await manager.sync();
        const found = [...removed, ...lost];
        if (found.length > 0) result = `found ${found}, although no process was killed`;
      }
    } catch (error) {
      result = error instanceof AlreadyExistsError || error instanceof NotFoundError
        ? error.name
        : error instanceof FailedPreconditionError && error.message.startsWith("another process works on")
        ? error.name
        : `${error}`;
    }
    outcomes.push({ call, name, label, result });
  };

  const lane = async (): Promise<void> => {
    while (left-- > 0) await callOnce();
  };
  await Promise.all(Array.from({ length: 10 }, lane));
  console.log(JSON.stringify(outcomes));
}
