/**
 * Timeouts, signals, and the few threads that wait for servers, with promises in place of system calls.
 *
 * @module
 */

import { errnoNumber, SyscallError } from "../../ffi/errno.ts";
import {
  AbandonedCallsError,
  callOffThread,
  checkWait,
  shareCallOffThread,
  withTimeout,
} from "../../linux/path/wait.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "../assert.ts";
import { countedSignal, Timers } from "./timers.ts";

const THREADS = 8;
const tick = () => new Promise((done) => setTimeout(done, 0));

/** Calls that end when the test says so. */
function pendingCalls<T>(result: T) {
  const started: ((result: T) => void)[] = [];
  return {
    started,
    start: () => new Promise<T>((resolve) => started.push(resolve)),
    async end() {
      for (const resolve of started) resolve(result);
      await tick();
    },
  };
}

Deno.test("withTimeout() ends by the work, the timeout or the signal", async () => {
  using timers = new Timers();
  assertEquals(await withTimeout(Promise.resolve(7), {}, "statx", "/a"), 7);
  const never = new Promise<never>(() => {});
  const late = await assertRejects(() => withTimeout(never, { timeout: 10 }, "statx", "/a"), SyscallError);
  assertEquals([late.syscall, late.errno, late.path], ["statx", errnoNumber("ETIMEDOUT"), "/a"]);
  const { controller, signal, listeners } = countedSignal();
  assertEquals(await withTimeout(tick(), { signal, timeout: Infinity }, "statx"), undefined);
  assertEquals(listeners(), 0);
  const aborted = withTimeout(never, { signal }, "statx");
  controller.abort(new RangeError("mine"));
  await assertRejects(() => aborted, RangeError, "mine");
  await assertRejects(() => withTimeout(never, { signal }, "statx"), RangeError, "mine");
  assertEquals(timers.left, 0);
});

Deno.test("a timeout that no timer takes is none", async () => {
  for (const timeout of [2 ** 31, 2 ** 40, Infinity]) {
    assertEquals(await withTimeout(tick().then(tick).then(() => 7), { timeout }, "statx"), 7);
  }
});

Deno.test("a timeout is a number of milliseconds", () => {
  for (const timeout of [0, 1.5, Infinity]) checkWait({ timeout });
  for (const timeout of [-1, NaN]) assertThrows(() => checkWait({ timeout }), TypeError, "milliseconds");
  assertThrows(() => checkWait({ signal: AbortSignal.abort(new RangeError("mine")) }), RangeError, "mine");
});

Deno.test("eight calls run at the same time, and the others after them", async () => {
  const { started, start, end } = pendingCalls(1);
  const calls = Array.from({ length: 20 }, (_, index) => callOffThread(start, {}, "statx", `/${index}`));
  await tick();
  assertEquals(started.length, THREADS);
  started[0]?.(1);
  await tick();
  assertEquals(started.length, THREADS + 1);
  while (started.length < 20) await end();
  await end();
  assertEquals(await Promise.all(calls), Array(20).fill(1));
});

Deno.test("after eight calls that nothing waits for, others fail at once until one of them ends", async () => {
  const { started, start, end } = pendingCalls(1);
  const calls = Array.from({ length: THREADS }, () => callOffThread(start, { timeout: 0 }, "statx", "/a"));
  for (const call of calls) await assertRejects(() => call, SyscallError, "ETIMEDOUT");
  assertEquals(started.length, THREADS);
  const refused = await assertRejects(
    async () => await callOffThread(start, {}, "open", "/b"),
    AbandonedCallsError,
  );
  assertEquals([refused.syscall, refused.code, refused.path], ["open", "ETIMEDOUT", "/b"]);
  assertEquals(started.length, THREADS);
  started[0]?.(1);
  await tick();
  const next = callOffThread(start, {}, "open", "/b");
  await tick();
  assertEquals(started.length, THREADS + 1);
  await end();
  assertEquals(await next, 1);
});

Deno.test("a queued call that nothing waits for any more is not made", async () => {
  const { started, start, end } = pendingCalls(1);
  const running = Array.from({ length: THREADS }, () => callOffThread(start, {}, "statx", "/a"));
  await assertRejects(() => callOffThread(start, { timeout: 0 }, "statx", "/b"), SyscallError, "ETIMEDOUT");
  await end();
  await Promise.all(running);
  await tick();
  assertEquals(started.length, THREADS);
});

Deno.test("what a call returns too late is given back, and what it returns in time is not", async () => {
  const { start, end } = pendingCalls(7);
  const late: number[] = [];
  const keep = (result: number) => void late.push(result);
  const inTime = callOffThread(start, {}, "open", "/a", keep);
  await end();
  assertEquals([await inTime, late], [7, []]);
  await assertRejects(() => callOffThread(start, { timeout: 0 }, "open", "/a", keep), SyscallError);
  await end();
  assertEquals(late, [7]);
});

Deno.test("calls with the same path and purpose are made once, and again after their end", async () => {
  const { started, start, end } = pendingCalls<void>(undefined);
  const share = (path: string, kind = 0, timeout = 1000) =>
    shareCallOffThread(start, { timeout }, "statx", path, kind);
  const calls = [share("/a"), share("/a"), share("/a", 1), share("/b")];
  await tick();
  assertEquals(started.length, 3);
  await end();
  await Promise.all(calls);
  const again = share("/a");
  await tick();
  assertEquals(started.length, 4);
  await end();
  await again;
  const relative = [share("a"), share("a")]; // the working directory may have changed
  await tick();
  assertEquals(started.length, 6);
  await end();
  await Promise.all(relative);
});

Deno.test("a call that is waited for again is not abandoned", async () => {
  const { started, start, end } = pendingCalls<void>(undefined);
  const share = (path: string, timeout: number) => shareCallOffThread(start, { timeout }, "statx", path, 0);
  for (let round = 0; round < 3 * THREADS; round++) {
    await assertRejects(() => share("/a", 0), SyscallError, "ETIMEDOUT");
  }
  assertEquals(started.length, 1);
  const other = share("/b", 1000);
  await end();
  await other;
  assert(started.length === 2);
});

Deno.test("a call that fails is an error of its callers, and its thread is free again", async () => {
  for (let round = 0; round < 3 * THREADS; round++) {
    const fail = () => Promise.reject(new RangeError("mine"));
    await assertRejects(async () => await callOffThread(fail, {}, "statx", "/a"), RangeError, "mine");
    await assertRejects(async () => await shareCallOffThread(fail, {}, "statx", "/a", 0), RangeError, "mine");
  }
});
