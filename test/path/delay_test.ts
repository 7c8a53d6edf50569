import { delay } from "../../linux/path/delay.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";

/** A signal that counts its listeners. */
function countedSignal() {
  const controller = new AbortController();
  const { signal } = controller;
  let listeners = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...args: unknown[]) => {
    listeners++;
    Reflect.apply(addEventListener, signal, args);
  };
  signal.removeEventListener = (...args: unknown[]) => {
    listeners--;
    Reflect.apply(removeEventListener, signal, args);
  };
  return { controller, signal, listeners: () => listeners };
}

// A timer that is left fails these tests: Deno finds it at their end.
Deno.test("delay() ends by its time, and leaves no listener", async () => {
  const { signal, listeners } = countedSignal();
  const start = performance.now();
  await delay(20, signal);
  assert(performance.now() - start >= 19);
  assertEquals(listeners(), 0);
  await delay(0);
});

Deno.test("delay() ends by its signal with the reason, and leaves no timer", async () => {
  const { controller, signal } = countedSignal();
  const wait = delay(60_000, signal);
  controller.abort(new RangeError("mine"));
  await assertRejects(() => wait, RangeError, "mine");
  await assertRejects(() => delay(60_000, signal), RangeError, "mine");
});
