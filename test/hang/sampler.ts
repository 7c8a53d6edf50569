/**
 * A worker that measures for how long another thread waits in the kernel where no signal ends the wait (state D of
 * proc(5)): for RCU, a disk, a lock, or the start of a child process. How long that takes depends on the other processes
 * of the machine.
 *
 * @module
 */

/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />

import { readText } from "../kernel.ts";

const PERIOD = 4; // ms

self.onmessage = ({ data: [thread, memory] }: MessageEvent<[string, SharedArrayBuffer]>) => {
  const sampling = new Int32Array(memory, 0, 1);
  const excused = new Float64Array(memory, 8, 1); // ms
  self.postMessage("ready");
  for (;;) {
    Atomics.wait(sampling, 0, 0);
    let [last, lastRun] = [performance.now(), ""];
    while (Atomics.load(sampling, 0) === 1) {
      Atomics.wait(sampling, 0, 1, PERIOD);
      const state = /\) (\w)/.exec(readText(`/proc/${thread}/stat`) ?? "")?.[1];
      const run = readText(`/proc/${thread}/schedstat`) ?? "";
      const now = performance.now();
      // This thread may run late: nothing is known of that time if the other one has run in it.
      const unknown = run === lastRun ? 0 : Math.max(0, now - last - PERIOD);
      excused[0] = (excused[0] ?? 0) + (state === "D" ? now - last : unknown);
      [last, lastRun] = [now, run];
    }
  }
};
