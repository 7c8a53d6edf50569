/**
 * What waits for a server that is stopped: each call by itself, so that a call that blocks is named.
 *
 * @module
 */

import { canonicalizePath, cleanupTempMounts, rootPath, setTempMountLocation, setupLoop } from "../../mod.ts";
import { AT_FDCWD, isErrno, O_DIRECTORY, O_PATH, O_RDONLY } from "../../linux/mod.ts";
import {
  ensureAnswers,
  ensureResolvable,
  isCached,
  openat2MayWait,
  openCached,
  openMayWait,
  resolveOffThread,
} from "../../linux/path/cached_lookup.ts";
import { openTargetCached, resolveTarget } from "../../linux/path/mount_target.ts";
import type { WaitOptions } from "../../linux/path/wait.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "../assert.ts";
import { type StoppedServer, stoppedServer } from "../hang/stopped_server.ts";
import { assertInTime, watch } from "../hang/watch.ts";
import { kernelTest, type Needs } from "../harness.ts";
import { openFiles } from "../kernel.ts";

const needs: Needs = {
  root: true,
  tools: ["mount.fuse3", "bindfs"],
  permissions: { run: true, env: true },
};

type Call = (server: StoppedServer, dir: string, wait: WaitOptions) => Promise<unknown>;
const calls: Record<string, Call> = {
  "ensureResolvable()": ({ uncached }, _, wait) => ensureResolvable(uncached, wait),
  "ensureAnswers()": ({ uncached }, _, wait) => ensureAnswers(uncached, wait),
  "openMayWait() of a path": ({ uncached }, _, wait) => openMayWait(uncached, O_PATH, wait),
  "openMayWait() for reading": ({ cached }, _, wait) => openMayWait(cached, O_RDONLY | O_DIRECTORY, wait),
  "openat2MayWait()": ({ uncached }, _, wait) => openat2MayWait(AT_FDCWD, uncached, O_PATH, 0, wait),
  "resolveTarget() of the target": ({ uncached }, _, wait) => resolveTarget(uncached, "/below", wait),
  "resolveTarget() of the path in it": (_, dir, wait) => resolveTarget(dir, "/link/unseen", wait),
  "canonicalizePath()": ({ uncached }, _, wait) => canonicalizePath(uncached, wait),
  "rootPath() of the root": ({ uncached }, _, wait) => rootPath(uncached, "a", wait),
  "rootPath() of the path in it": (_, dir, wait) => rootPath(dir, "link/unseen/a", wait),
  "rootPath() of a path behind a file": (_, dir, wait) => rootPath(dir, "link/file/../unseen", wait),
  "rootPath() of a link that the server has": (_, dir, wait) => rootPath(dir, "link/symlink", wait),
  "setupLoop()": ({ cachedFile }, _, wait) => setupLoop(cachedFile, { readonly: true, ...wait }),
  "setTempMountLocation()": ({ uncached }, _, wait) => setTempMountLocation(uncached, wait),
  "cleanupTempMounts()": async ({ uncached }, _, wait) => {
    Deno.env.set("TMPDIR", uncached);
    try {
      return await cleanupTempMounts({ retries: 0, ...wait } as WaitOptions);
    } finally {
      Deno.env.delete("TMPDIR");
    }
  },
};

const TIMEOUT = 200; // ms

for (const [name, call] of Object.entries(calls)) {
  kernelTest(`${name} waits for a server until its timeout, or its signal`, needs, async (t) => {
    await using server = await stoppedServer(t);
    const before = openFiles();
    const timed = await watch(() => call(server, t.dir, { timeout: TIMEOUT }));
    assert(isErrno(timed.error, "ETIMEDOUT"), `${timed.error}`);
    assertInTime(timed, TIMEOUT);
    const controller = new AbortController();
    const { signal } = controller;
    setTimeout(() => controller.abort(new RangeError("mine")), 50);
    const aborted = await watch(() => call(server, t.dir, { signal, timeout: Infinity }));
    assertEquals(aborted.error, signal.reason);
    assertInTime(aborted, 50);
    await assertRejects(() => call(server, t.dir, { signal }), RangeError, "mine");
    assertEquals(openFiles(), before);
  });
}

kernelTest(
  "rootPath() does not wait for the server of what a link leads to outside of the root",
  needs,
  async (t) => {
    await using server = await stoppedServer(t);
    t.make("root");
    Deno.symlinkSync(server.uncached, `${t.dir}/root/link`);
    const found = await watch(() => rootPath(`${t.dir}/root`, "link", { timeout: 60_000 }));
    assertEquals(found.value, `${t.dir}/root${server.uncached}`);
    assertInTime(found, 0);
  },
);

kernelTest("what the cache has needs no server", needs, async (t) => {
  await using server = await stoppedServer(t);
  const before = openFiles();
  await resolveOffThread(`${t.dir}/none`); // the cache has now that it does not exist
  assertEquals([isCached(server.cached), isCached(server.uncached), isCached(`${t.dir}/none`)], [
    true,
    false,
    true,
  ]);
  assertEquals([openCached(server.uncached), openCached(`${t.dir}/none`)], ["uncached", "enoent"]);
  assertEquals(openCached("/x".repeat(3000)), "enoent");
  using found = openCached(server.cached) as OwnedFd;
  assert(found instanceof OwnedFd);
  found.close();
  using target = openTargetCached(server.cached, "/");
  assertEquals(target?.path, server.cached);
  target?.close();
  const watched = await watch(() => Promise.resolve(openTargetCached(server.uncached, "/")));
  assertInTime(watched, 0);
  assertEquals(watched.value, undefined);
  await ensureResolvable(server.cached, { timeout: 0 });
  await ensureResolvable(`${t.dir}/none`, { timeout: 0 });
  const aborted = AbortSignal.abort(new RangeError("mine"));
  assertThrows(() => isCached(server.cached, { signal: aborted }), RangeError, "mine");
  assertEquals(openFiles(), before);
});

kernelTest("a descriptor that a server gives too late is closed", needs, async (t) => {
  const source = t.make("source", "served");
  const child = new Deno.Command("bindfs", { args: ["-f", source, `${t.dir}/served`] }).spawn();
  while (t.mounts().length === 0) await new Promise((done) => setTimeout(done, 5));
  Deno.statSync(`${t.dir}/served`);
  Deno.writeTextFileSync(`${source}/file`, "");
  const before = openFiles();
  child.kill("SIGSTOP");
  try {
    const late = openat2MayWait(AT_FDCWD, `${t.dir}/served/file`, O_PATH, 0, { timeout: TIMEOUT });
    await assertRejects(() => late, Error, "ETIMEDOUT");
  } finally {
    child.kill("SIGCONT");
  }
  await new Promise((done) => setTimeout(done, 200));
  assertEquals(openFiles(), before);
  await new Deno.Command("umount", { args: [`${t.dir}/served`] }).output();
  await child.status;
});
