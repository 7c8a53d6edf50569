import { delay } from "../../linux/path/delay.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { countedSignal, Timers } from "./timers.ts";

Deno.test("delay() ends by its time, and leaves no listener", async () => {
  using timers = new Timers();
  const { signal, listeners } = countedSignal();
  const start = performance.now();
  await delay(20, signal);
  assert(performance.now() - start >= 19);
  await delay(0);
  assertEquals([timers.left, listeners()], [0, 0]);
});

Deno.test("delay() ends by its signal with the reason, and leaves no timer", async () => {
  using timers = new Timers();
  const { controller, signal } = countedSignal();
  const wait = delay(1000, signal);
  assertEquals(timers.left, 1);
  controller.abort(new RangeError("mine"));
  await assertRejects(() => wait, RangeError, "mine");
  await assertRejects(() => delay(1000, signal), RangeError, "mine");
  assertEquals(timers.left, 0);
});
