import { isErrno } from "../../linux/mod.ts";
import {
  isMountpoint,
  listMounts,
  lookupMount,
  mount,
  mountAll,
  MountError,
  setupLoop,
  unmount,
  unmountAll,
  unmountRecursive,
} from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals } from "../assert.ts";
import { assertInTime, watch } from "./watch.ts";
import { processCommands as processes } from "../kernel.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";

const needs: Needs = {
  root: true,
  tools: ["mount.fuse3", "bindfs", "fusermount3"],
  permissions: { run: true, env: true },
};

/** A FUSE mount with a server that does not answer, or is dead. */
interface DeadMount extends AsyncDisposable {
  /** The mountpoint. */
  target: string;
  /** Whether the kernel knows that the server is dead: calls fail with ENOTCONN at once. */
  isDisconnected: boolean;
}

/** Mounts a server that reads requests and never answers; of a device, one that answers until it is unmounted. */
async function silent(t: KernelContext, device?: string): Promise<DeadMount> {
  const target = t.make("silent");
  const server = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-config",
      "-A",
      new URL("server.ts", import.meta.url).pathname,
      target,
      ...device === undefined ? [] : [device],
    ],
    stdout: "piped",
  }).spawn();
  const reader = server.stdout.getReader();
  assert(!(await reader.read()).done, "the server does not run");
  return { target, isDisconnected: false, [Symbol.asyncDispose]: end };

  async function end(): Promise<void> {
    server.kill("SIGKILL");
    await server.status;
    await reader.cancel();
    await umount(target);
  }
}

/** Mounts a bindfs that asks its server about each path, waits until it answers, and returns the server. */
async function bindfs(t: KernelContext, name: string): Promise<Deno.ChildProcess> {
  const target = t.make(name, `${name}-source/inner`, `${name}-source/unseen`);
  const args = ["-f", "-o", "entry_timeout=0", `${target}-source`, target];
  const server = new Deno.Command("bindfs", { args }).spawn();
  while (!(await isMountpoint(target))) await new Promise((resolve) => setTimeout(resolve, 5));
  Deno.statSync(`${target}/inner`);
  return server;
}

/** Collects the warnings of a call. */
async function warningsOf(call: () => Promise<unknown>): Promise<string[]> {
  const [warnings, { warn }]: [string[], Console] = [[], console];
  console.warn = (text: string) => warnings.push(text);
  try {
    await call();
  } finally {
    console.warn = warn;
  }
  return warnings;
}

/** Mounts a bindfs, waits until it answers, and stops or kills it. */
async function halted(t: KernelContext, signal: "SIGSTOP" | "SIGKILL", inner = false): Promise<DeadMount> {
  const server = await bindfs(t, signal);
  const target = `${t.dir}/${signal}`;
  if (inner) await mount({ type: "tmpfs", source: "t" }, `${target}/inner`);
  server.kill(signal);
  if (signal === "SIGKILL") await server.status;
  return { target, isDisconnected: signal === "SIGKILL", [Symbol.asyncDispose]: end };

  async function end(): Promise<void> {
    if (signal === "SIGSTOP") server.kill("SIGKILL");
    await server.status;
    await umount(target);
  }
}

/** Unmounts by umount(8), which does not use the library under test. */
async function umount(target: string): Promise<void> {
  await new Deno.Command("umount", { args: ["-l", target], stderr: "null" }).output();
  await new Promise((resolve) => setTimeout(resolve, 50)); // calls that wait for the server fail by then
}

const kinds: [name: string, make: (t: KernelContext) => Promise<DeadMount>][] = [
  ["a server that never answers", (t) => silent(t)],
  ["a server that is stopped", (t) => halted(t, "SIGSTOP")],
  ["a server that was killed", (t) => halted(t, "SIGKILL")],
];

for (const [name, make] of kinds) {
  kernelTest(`${name}: its mount is listed and looked up`, needs, async (t) => {
    await using dead = await make(t);
    const listed = await watch(() => listMounts());
    assertInTime(listed, 0);
    const row = listed.value?.find(({ mountpoint }) => mountpoint === dead.target);
    assert(row?.fsType.startsWith("fuse"));
    const found = await watch(() => lookupMount(dead.target));
    assertInTime(found, 0);
    assertEquals(found.value, row);
    const asked = await watch(() => isMountpoint(dead.target));
    assertInTime(asked, 0);
    assertEquals(asked.value, true);
  });

  kernelTest(`${name}: calls on a path inside it fail after the timeout`, needs, async (t) => {
    await using dead = await make(t);
    const inside = `${dead.target}/unseen`;
    const calls = [
      () => lookupMount(inside, { timeout: 200 }),
      () => isMountpoint(inside, { timeout: 200 }),
      () => unmount(inside, { timeout: 200 }),
      () => unmountAll(inside, { timeout: 600 }),
      () => unmountRecursive(inside, { timeout: 600 }),
    ];
    for (const call of calls) {
      const { error, ...watched } = await watch<unknown>(call);
      assertInTime(watched, 600);
      assert(isErrno(error, dead.isDisconnected ? "ENOTCONN" : "ETIMEDOUT"), `${call}: ${error}`);
    }
  });

  kernelTest(`${name}: mount() fails if the source or the target is inside it`, needs, async (t) => {
    await using dead = await make(t);
    t.make("source", "target");
    const bind = { type: "bind", source: `${t.dir}/source`, options: ["bind"] };
    const calls = [
      () => mount(bind, `${dead.target}/unseen`),
      () => mount({ ...bind, source: `${dead.target}/unseen` }, `${t.dir}/target`),
    ];
    const watched = await Promise.all(calls.map((call) => watch<unknown>(call)));
    for (const { error, ...rest } of watched) {
      assertInTime(rest, 2500);
      assert(
        error instanceof MountError && error.code === (dead.isDisconnected ? "ENOTCONN" : "ETIMEDOUT"),
        `${error}`,
      );
    }
    assertEquals(t.mounts().length, 1);
  });

  kernelTest(`${name}: calls on a path inside it stop waiting if the signal aborts`, needs, async (t) => {
    await using dead = await make(t);
    if (dead.isDisconnected) return; // calls fail at once
    for (const call of [lookupMount, isMountpoint, unmount, unmountAll, unmountRecursive]) {
      const signal = AbortSignal.timeout(100);
      const watched = await watch<unknown>(() => call(`${dead.target}/unseen`, { timeout: 60_000, signal }));
      assertInTime(watched, 100);
      assertEquals(watched.error, signal.reason);
    }
  });

  for (const call of [unmount, unmountAll, unmountRecursive]) {
    kernelTest(`${name}: ${call.name}() unmounts it`, needs, async (t) => {
      await using dead = await make(t);
      const watched = await watch(() => call(dead.target, { timeout: 1000 }));
      assertInTime(watched, 1000);
      assertEquals(watched.error, undefined);
      assertEquals(t.mounts(), []);
    });
  }
}

kernelTest(
  "unmountRecursive() with detach unmounts a stopped server's mount and the mounts inside it",
  needs,
  async (t) => {
    await using dead = await halted(t, "SIGSTOP", true);
    assertEquals(t.mounts().length, 2);
    const refused = await watch(() => unmountRecursive(dead.target, { timeout: 600 }));
    assertInTime(refused, 600);
    assert(isErrno(refused.error, "ETIMEDOUT", "EBUSY"), `${refused.error}`);
    const detached = await watch(() => unmountRecursive(dead.target, { timeout: 600, detach: true }));
    assertInTime(detached, 600);
    assertEquals(detached.error, undefined);
    assertEquals(t.mounts(), []);
  },
);

kernelTest("a rollback does not wait for a server that has stopped meanwhile", needs, async (t) => {
  t.make("server-source/mountpoint", "other", "bin");
  const server = await bindfs(t, "server");
  const helper = `#!/bin/sh\nkill -STOP ${server.pid}\necho no such server >&2\nexit 1\n`;
  Deno.writeTextFileSync(`${t.dir}/bin/mount.fuse3`, helper, { mode: 0o755 });
  const list = [
    { type: "tmpfs", source: "t", target: "/server/mountpoint" },
    { type: "tmpfs", source: "t", target: "/server/made", options: ["X-mount.mkdir"] },
    { type: "fuse3.none", source: "none", target: "/other" },
  ];
  const path = Deno.env.get("PATH") ?? "";
  Deno.env.set("PATH", `${t.dir}/bin:${path}`);
  const mounting = watch(() => mountAll(list, t.dir, { timeout: 300 }));
  const warnings = await warningsOf(() => mounting).finally(() => Deno.env.set("PATH", path));
  const watched = await mounting;
  server.kill("SIGKILL");
  await server.status;
  await umount(`${t.dir}/server`);
  assertInTime(watched, 2000);
  assert(
    watched.error instanceof MountError && /no such server/.test(watched.error.message),
    `${watched.error}`,
  );
  assertEquals(warnings, [
    `${t.dir}/server/made stays mounted, because a server on its path does not answer`,
    `${t.dir}/server/made stays, because a server on its path does not answer`,
    `${t.dir}/server/mountpoint stays mounted, because a server on its path does not answer`,
  ]);
  assertEquals(t.mounts(), []);
});

const replacements: [what: string, recursive: boolean, fails: boolean, message: RegExp][] = [
  ["the rollback of a replacement", false, true, /victim/],
  ["the rollback of a replacement of mounts that have others inside", true, true, /victim/],
  ["the end of a replacement", false, false, /server\/inner.*ETIMEDOUT/],
];
for (const [what, recursive, fails, message] of replacements) {
  kernelTest(
    `${what} does not wait for a server that has stopped meanwhile`,
    { ...needs, features: ["mountBeneath"] },
    async (t) => {
      const [server, slow] = [await bindfs(t, "server"), await bindfs(t, "slow")];
      const victim = t.make("victim");
      const place = `${t.dir}/server/inner`;
      await mount({ type: "tmpfs", source: "old" }, place);
      if (recursive) {
        Deno.mkdirSync(`${place}/deep`);
        await mount({ type: "tmpfs", source: "inner" }, `${place}/deep`);
      }
      slow.kill("SIGSTOP");
      const list = [
        { type: "tmpfs", source: "new", target: "/server/inner" },
        { type: "tmpfs", source: "new", target: "/victim" },
        { type: "bind", source: `${t.dir}/slow/inner`, target: "/slow-source" },
      ];
      const replacing = watch(() => mountAll(list, t.dir, { replace: true, timeout: 1000 }));
      setTimeout(() => {
        server.kill("SIGSTOP");
        if (fails) Deno.removeSync(victim); // so that it can't be a mountpoint
        slow.kill("SIGCONT");
      }, 300);
      const warnings = await warningsOf(() => replacing);
      const watched = await replacing;
      for (const child of [server, slow]) {
        child.kill("SIGKILL");
        await child.status;
      }
      for (const name of ["server", "slow"]) await umount(`${t.dir}/${name}`);
      assertInTime(watched, 3000);
      assert(watched.error instanceof MountError && message.test(watched.error.message), `${watched.error}`);
      assertEquals(warnings, [`${place} stays mounted, because a server on its path does not answer`]);
      assertEquals(t.mounts(), []);
    },
  );
}

for (const [how, missing] of [["with statmount(2)", []], ["with the mount table", ["statmount"]]] as const) {
  kernelTest(`a mount that is gone while umount2(2) waits for its server is unmounted, ${how}`, {
    ...needs,
    permissions: { run: [Deno.execPath(), "umount"] }, // and no helper
  }, async (t) => {
    using _ = pretendMissing(...missing);
    Deno.writeFileSync(`${t.dir}/image`, new Uint8Array(1 << 16));
    using device = await setupLoop(`${t.dir}/image`);
    await using dead = await silent(t, device.path);
    const watched = await watch(() => unmount(dead.target, { timeout: 500 }));
    assertInTime(watched, 500);
    assertEquals(watched.error, undefined);
    assertEquals(t.mounts(), []);
  });
}

kernelTest("unmount() kills a helper that hangs and calls umount2(2) itself", needs, async (t) => {
  t.make("source", "target", "bin");
  await mount({ type: "fuse3.bindfs", source: `${t.dir}/source` }, `${t.dir}/target`);
  for (const name of ["fusermount3", "fusermount"]) {
    Deno.writeTextFileSync(`${t.dir}/bin/${name}`, "#!/bin/sh\nexec sleep 60\n", { mode: 0o755 });
  }
  const path = Deno.env.get("PATH") ?? "";
  Deno.env.set("PATH", `${t.dir}/bin:${path}`);
  try {
    const signal = AbortSignal.timeout(100);
    const ended = await watch(() => unmount(`${t.dir}/target`, { timeout: 60_000, signal }));
    assertInTime(ended, 100);
    assertEquals(ended.error, signal.reason);
    assertEquals(t.mounts().length, 1);
    const watched = await watch(() => unmount(`${t.dir}/target`, { timeout: 500 }));
    assertInTime(watched, 1000);
    assertEquals(watched.error, undefined);
    assertEquals(t.mounts(), []);
  } finally {
    Deno.env.set("PATH", path);
  }
});

kernelTest(
  "an aborted mountAll() rejects with the reason, unmounts its mounts and kills the helper",
  needs,
  async (t) => {
    t.make("target", "bin");
    Deno.writeTextFileSync(
      `${t.dir}/bin/mount.fuse3`,
      `#!/bin/sh\n(sleep 61 &)\nsetsid sleep 62 &\nsleep 63\n`,
      {
        mode: 0o755,
      },
    );
    const path = Deno.env.get("PATH") ?? "";
    Deno.env.set("PATH", `${t.dir}/bin:${path}`);
    try {
      const list = [{ type: "tmpfs", source: "tmpfs" }, { type: "fuse3.bindfs", source: t.dir }];
      const signal = AbortSignal.timeout(300);
      const aborted = await watch(() => mountAll(list, `${t.dir}/target`, { signal }));
      assertInTime(aborted, 300);
      assertEquals(aborted.error, signal.reason);
      assertEquals(t.mounts(), []);
      const late = await watch(() => mountAll(list, `${t.dir}/target`, { timeout: 300 }));
      assertInTime(late, 300);
      assert(late.error instanceof MountError && late.error.code === "ETIMEDOUT", `${late.error}`);
      assertEquals(t.mounts(), []);
      for (let tries = 0; tries < 20 && sleeping().length > 0; tries++) {
        await new Promise((resolve) => setTimeout(resolve, 100)); // a killed process is there until it is waited for
      }
      assertEquals(sleeping(), []);
    } finally {
      Deno.env.set("PATH", path);
    }
  },
);

/** The processes that the helper above has started. */
function sleeping(): string[] {
  return processes().filter((command) => /^sleep\0(61|62|63)\0/.test(command));
}

kernelTest("a timeout of more than 2^31 - 1 ms, and Infinity, are no timeout", needs, async (t) => {
  await using dead = await silent(t);
  for (const timeout of [2 ** 31, 1e12, Infinity]) {
    const signal = AbortSignal.timeout(100);
    const watched = await watch(() => lookupMount(`${dead.target}/unseen`, { timeout, signal }));
    assertEquals(watched.error, signal.reason);
  }
});
