/**
 * The options of each function that unmounts.
 *
 * @module
 */

import { BusyError, mount, SyscallError, unmount, unmountAll } from "../../mod.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { run } from "../namespace/namespaces.ts";
import { tmpfs, unmountingCalls } from "./calls.ts";

for (const [name, call] of Object.entries(unmountingCalls)) {
  kernelTest(
    `${name}() carries out detach, timeout and signal, and refuses a wrong timeout`,
    {},
    async (t) => {
      const target = t.make("target");
      await mount(tmpfs, target);
      using _busy = Deno.openSync(target);
      for (const timeout of [-1, NaN]) {
        await assertRejects(
          () => call(target, { timeout, signal: AbortSignal.timeout(1000) }),
          TypeError,
          "a timeout is a number of milliseconds",
        );
      }
      await assertRejects(() => call(target, { expire: true, detach: true }), TypeError, "expire");
      await assertRejects(() => call(target, { expire: true, force: true }), TypeError, "expire");
      const start = performance.now();
      await assertRejects(() => call(target, { timeout: 0 }), BusyError);
      await assertRejects(
        () => call(target, { signal: AbortSignal.abort(new RangeError("mine")) }),
        RangeError,
      );
      await assertRejects(() => call(target, { signal: AbortSignal.timeout(20) }), DOMException);
      assert(performance.now() - start < 2400, "it took the timeout that is the default");
      assertEquals(t.mounts().length, 1);
      await call(target, { detach: true });
      assertEquals(t.mounts(), []);
    },
  );
}

kernelTest("expire marks a mount first, and unmounts it if it was not used since", {}, async (t) => {
  const target = t.make("target");
  await mount(tmpfs, target);
  const expire = () => unmount(target, { expire: true });
  for (const use of [false, true]) {
    const error = await assertRejects(expire, SyscallError);
    assertEquals([error.code, error.path, t.mounts().length], ["EAGAIN", target, 1]);
    if (use) Deno.statSync(`${target}/.`);
    if (use) Deno.readDirSync(target)[Symbol.iterator]().next();
    if (!use) {
      await expire();
      assertEquals(t.mounts(), []);
      await mount(tmpfs, target);
    }
  }
  assertEquals((await assertRejects(expire, SyscallError)).code, "EAGAIN"); // it was used
  await expire();
  assertEquals(t.mounts(), []);
});

kernelTest("noFollow leaves alone what a symbolic link leads to", {}, async (t) => {
  const target = t.make("target");
  Deno.symlinkSync(target, `${t.dir}/link`);
  await mount(tmpfs, target);
  for (const call of [unmount, unmountAll]) await call(`${t.dir}/link`, { noFollow: true });
  assertEquals(t.mounts().length, 1);
  await unmount(`${t.dir}/link`);
  assertEquals(t.mounts(), []);
});

kernelTest("a busy disk is an error, stays mounted, and is retried", {
  root: true,
  tools: ["mkfs.ext4"],
  permissions: { run: true },
}, async (t) => {
  const target = t.make("target");
  await run("mkfs.ext4", "-q", `${t.dir}/image`, "1M");
  await mount({ type: "ext4", source: `${t.dir}/image`, options: ["loop"] }, target);
  const busy = Deno.openSync(target);
  const error = await assertRejects(() => unmount(target, { timeout: 0 }), BusyError);
  assertEquals([error.code, error.path, t.mounts().length], ["EBUSY", target, 1]);
  setTimeout(() => busy.close(), 60);
  await unmount(target);
  assertEquals(t.mounts(), []);
});
