import {
  type Mount,
  mount,
  mountAll,
  MountError,
  type MountNamespace as Namespace,
  unmount,
  unmountAll,
  unmountMounts,
  type UnmountOptions,
  unmountRecursive,
} from "../../mod.ts";
import {
  MNT_DETACH,
  mount as mountSyscall,
  O_PATH,
  O_RDONLY,
  open,
  pretendMissing,
  umount2,
} from "../../linux/mod.ts";
import { enterNamespace, openNamespace, runInNamespace } from "../../linux/namespace/mount.ts";
import { openTarget } from "../../linux/path/mount_target.ts";
import { detachTopMount } from "../../linux/unmount/tree.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { names, openFiles, parseTable, readText } from "../kernel.ts";
import { MountNamespace, run } from "./namespaces.ts";

const needs = {
  tools: ["unshare", "nsenter", "mount", "umount"],
  permissions: { run: true } as Deno.PermissionOptionsObject,
};

/** The mounts below the test's directory in the other namespace, as "type mountpoint rw|ro". */
function seen(other: MountNamespace, { dir }: KernelContext): string[] {
  return parseTable(readText(`/proc/${other.pid}/mountinfo`) ?? "")
    .filter(({ mountpoint }) => mountpoint.startsWith(dir))
    .map(({ fsType, mountpoint, options }) => `${fsType} ${mountpoint.slice(dir.length)} ${options[0]}`);
}

/** Registers a test with a process in another mount namespace; fails if a mount appears in this namespace. */
function namespaceTest(
  rule: string,
  more: { root?: boolean; tools?: string[]; unshare?: string[] },
  fn: (t: KernelContext, other: MountNamespace) => Promise<void>,
): void {
  const { unshare = [], tools = [], ...rest } = more;
  kernelTest(rule, { ...needs, ...rest, tools: [...needs.tools, ...tools] }, async (t) => {
    t.make("root/in");
    await using other = await MountNamespace.start(...unshare);
    const threads = names("/proc/self/task").length;
    const ours = t.mounts();
    await fn(t, other);
    assertEquals(t.mounts(), ours, "the mounts of this namespace have changed");
    assertEquals(seen(other, t), [], "something is still mounted in the other namespace");
    const left = () => names("/proc/self/task").length - threads;
    for (let tries = 0; tries < 200 && left() > 2; tries++) await new Promise((done) => setTimeout(done, 5));
    assert(left() <= 2, "threads are left behind"); // the runtime starts and ends threads too
  });
}

const list = (t: KernelContext): Mount[] => [
  { type: "tmpfs", source: "tmpfs", options: ["size=1m"] },
  { type: "bind", source: `${t.make("source")}`, options: ["rbind", "ro"] },
];

namespaceTest(
  "mountAll() mounts in another process's mount namespace, and its handle unmounts there",
  {},
  async (t, other) => {
    const stack = await mountAll(list(t), `${t.dir}/root`, { namespace: other.pid });
    assertEquals(stack.mountpoints, [`${t.dir}/root`, `${t.dir}/root`]);
    assertEquals(seen(other, t).map((row) => row.slice(row.indexOf(" "))), [" /root rw", " /root ro"]);
    assertEquals(t.mounts(), []);
    await stack.unmount();
    assertEquals(seen(other, t), []);
    await stack.unmount(); // does nothing
  },
);

namespaceTest("50,000 calls in another namespace are each made once", {}, async (_, other) => {
  using namespace = await openNamespace(other.pid);
  await using thread = await enterNamespace(namespace);
  const files = openFiles();
  thread.run(() => {
    for (let count = 0; count < 50_000; count++) open("/", O_PATH).close();
  });
  assertEquals(openFiles(), files); // a repeated call would leave a descriptor open
});

namespaceTest("the option namespace takes a pid, a path or a descriptor", {}, async (t, other) => {
  const path = `/proc/${other.pid}/ns/mnt`;
  using descriptor = open(path, O_RDONLY);
  for (const namespace of [other.pid, path, descriptor] satisfies Namespace[]) {
    await using _mounted = await mount({ type: "tmpfs", source: "t" }, `${t.dir}/root`, { namespace });
    assertEquals(seen(other, t), ["tmpfs /root rw"]);
  }
  assert(descriptor.fd >= 0); // still open: the caller owns it
});

namespaceTest(
  "sources are resolved in the caller's namespace, even if they are hidden in the other one",
  {},
  async (t, other) => {
    const hidden = t.make("hidden");
    mountSyscall("hidden", hidden, "tmpfs", 0, null);
    try {
      Deno.writeTextFileSync(`${hidden}/file`, "from this namespace");
      t.make("hidden/lower", "hidden/other");
      Deno.writeTextFileSync(`${hidden}/lower/layer`, "from a layer of this namespace");
      {
        await using _bound = await mount(
          { type: "bind", source: hidden, options: ["bind"] },
          `${t.dir}/root`,
          {
            namespace: other.pid,
          },
        );
        assertEquals(await other.run("cat", `${t.dir}/root/file`), "from this namespace");
      }
      const layers = { type: "overlay", source: "o", options: [`lowerdir=${hidden}/lower:${hidden}/other`] };
      await using _overlay = await mount(layers, `${t.dir}/root`, { namespace: other.pid });
      assertEquals(await other.run("cat", `${t.dir}/root/layer`), "from a layer of this namespace");
    } finally {
      umount2(hidden, MNT_DETACH);
    }
  },
);

namespaceTest(
  "images, id maps and attributes work in another namespace",
  { root: true, tools: ["mkfs.ext4"] },
  async (t, other) => {
    await run("mkfs.ext4", "-q", `${t.dir}/image`, "1M");
    t.make("source", "root/image", "root/mapped", "root/sealed");
    const mounts: Mount[] = [
      { type: "ext4", source: `${t.dir}/image`, target: "image", options: ["loop", "ro"] },
      {
        type: "bind",
        source: `${t.dir}/source`,
        target: "mapped",
        options: ["uidmap=0:7:1", "gidmap=0:7:1"],
      },
      { type: "bind", source: "/usr", target: "sealed", options: ["rbind", "rro", "nosuid"] },
    ];
    await using _mounted = await mountAll(mounts, `${t.dir}/root`, { namespace: other.pid });
    assertEquals(seen(other, t).map((row) => row.slice(row.indexOf(" ") + 1)), [
      "/root/image ro",
      "/root/mapped rw",
      "/root/sealed ro",
    ]);
    assertEquals(await other.run("stat", "-c", "%u:%g", `${t.dir}/root/mapped`), "7:7\n");
  },
);

namespaceTest("remounts and propagation work in another namespace", {}, async (t, other) => {
  const mounts: Mount[] = [
    { type: "tmpfs", source: "t", options: ["size=1m", "shared"] },
    { type: "", source: "", options: ["remount", "bind", "ro", "nosuid"] },
    { type: "", source: "", options: ["unbindable"] },
    { type: "", source: "", options: ["remount", "size=2m"] },
  ];
  await using _mounted = await mountAll(mounts, `${t.dir}/root`, { namespace: other.pid });
  const [row] = parseTable(readText(`/proc/${other.pid}/mountinfo`) ?? "").filter(({ mountpoint }) =>
    mountpoint === `${t.dir}/root`
  );
  assertEquals([row?.options.slice(0, 2), row?.optional], [["ro", "nosuid"], "unbindable"]);
  assertMatch(row?.superOptions ?? "", /size=2048k/);
});

namespaceTest(
  "a failure in another namespace is a MountError, and nothing is left mounted",
  {},
  async (t, other) => {
    const namespace = other.pid;
    const cases: [Mount, string, RegExp][] = [
      [{ type: "tmpfs", source: "t", options: ["bogus"] }, "EINVAL", /Unknown parameter 'bogus'/],
      [{ type: "bind", source: `${t.dir}/none` }, "ENOENT", /none does not exist/],
      [{ type: "tmpfs", source: "t", target: "none" }, "ENOENT", /none does not exist/],
      [{ type: "tmpfs", source: "t", target: "file" }, "ENOTDIR", /a directory can't be mounted on a file/],
      [{ type: "", source: "", options: ["remount", "bogus=1"] }, "EINVAL", /bogus/],
    ];
    Deno.writeTextFileSync(`${t.dir}/source-file`, "");
    await other.run("mount", "-t", "tmpfs", "base", `${t.dir}/root`);
    await other.run("touch", `${t.dir}/root/file`);
    for (const [bad, code, sentence] of cases) {
      const mounts = [{ type: "bind", source: `${t.dir}/root/in`, options: ["bind"], target: "/" }, bad];
      const wanted = bad.target === undefined
        ? mounts
        : [{ type: "bind", source: "/usr", target: "/dir" }, bad];
      await other.run("mkdir", "-p", `${t.dir}/root/dir`);
      const error = await assertRejects(() => mountAll(wanted, `${t.dir}/root`, { namespace }), MountError);
      assertEquals(error.code, code, error.message);
      assertMatch(error.message, sentence);
      assertEquals(seen(other, t), ["tmpfs /root rw"]);
    }
    await other.run("umount", `${t.dir}/root`);
  },
);

kernelTest(
  "a namespace that can't be joined fails with a MountError that gives the reason",
  needs,
  async (t) => {
    const target = t.make("root");
    const cases: [Namespace, string, RegExp][] = [
      [2 ** 30, "ENOENT", /there is no process 1073741824 \(open: ENOENT\)/],
      [`${t.dir}/none`, "ENOENT", /none does not exist/],
      ["/proc/self/ns/net", "EINVAL", /\/proc\/self\/ns\/net is no mount namespace \(setns: EINVAL\)/],
      ["/proc/self/status", "EINVAL", /is no mount namespace/],
      [-1, "EINVAL", /a pid is a positive whole number/],
    ];
    for (const [namespace, code, sentence] of cases) {
      const error = await assertRejects(
        () => mount({ type: "tmpfs", source: "t" }, target, { namespace }),
        MountError,
      );
      assertEquals(error.code, code, error.message);
      assertMatch(error.message, sentence);
    }
    await assertRejects(
      () => mount({ type: "tmpfs", source: "t" }, "relative", { namespace: Deno.pid }),
      MountError,
      "the target is an absolute path",
    );
    const nothing = await mountAll([], target, { namespace: Deno.pid });
    await nothing.unmount();
  },
);

kernelTest("without the capability to join a namespace, the error names the capability", {
  ...needs,
  root: true,
  tools: ["setpriv", "unshare"],
}, async (t) => {
  await using other = await MountNamespace.start();
  const program = `import { mount } from "${new URL("../../mod.ts", import.meta.url)}";
    try { await mount({ type: "tmpfs", source: "t" }, "/mnt", { namespace: ${other.pid} }); }
    catch (error) { console.log(error.name, error.code, error.message); }`;
  Deno.writeTextFileSync(`${t.dir}/program.ts`, program);
  const without = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"];
  const said = await run(
    "setpriv",
    ...without,
    Deno.execPath(),
    "run",
    "--quiet",
    "-A",
    `${t.dir}/program.ts`,
  );
  assertMatch(
    said,
    /^MountError E(PERM|ACCES) .*not permitted to join the mount namespace of process \d+: it needs CAP_/,
  );
});

namespaceTest("no symbolic link in another namespace leads out of the target", {}, async (t, other) => {
  t.make("outside");
  await other.run("mount", "-t", "tmpfs", "base", `${t.dir}/root`);
  await other.run("mkdir", "-p", `${t.dir}/root/${t.dir}/outside`);
  await other.run("ln", "-s", `${t.dir}/outside`, `${t.dir}/root/link`);
  const inside = { type: "tmpfs", source: "t", target: "link" };
  {
    await using stack = await mount(inside, `${t.dir}/root`, { namespace: other.pid });
    assertEquals(stack.mountpoints, [`${t.dir}/root${t.dir}/outside`]);
    assertEquals(seen(other, t), ["tmpfs /root rw", `tmpfs /root${t.dir}/outside rw`]);
  }
  await other.run("umount", `${t.dir}/root`);
});

namespaceTest(
  "mounting in another namespace works if its /proc belongs to another PID namespace, or is hidden",
  { unshare: ["--pid", "--fork", "--kill-child", "--mount-proc"] },
  async (t, other) => {
    for (const proc of ["another", "hidden"]) {
      const hidden = { type: "tmpfs", source: "no-proc" };
      await using _hidden = await mountAll(proc === "hidden" ? [hidden] : [], "/proc", {
        namespace: other.pid,
      });
      {
        await using stack = await mountAll(list(t), `${t.dir}/root`, { namespace: other.pid });
        assertEquals(stack.mountpoints.length, 2);
      }
      const stack = await mountAll(list(t), `${t.dir}/root`, { namespace: other.pid });
      await unmountRecursive(t.dir, { namespace: other.pid });
      await stack.unmount(); // does nothing
    }
  },
);

namespaceTest(
  "every unmount function works in another namespace, and unmounts nothing in this one",
  {},
  async (t, other) => {
    const target = `${t.dir}/root`;
    const namespace = other.pid;
    const calls: ((options: UnmountOptions) => Promise<void>)[] = [
      async (options) => {
        await unmount(target, options);
        await unmount(target, options);
      },
      (options) => unmountAll(target, options),
      (options) => unmountMounts(list(t), target, options),
      (options) => unmountRecursive(t.dir, options),
    ];
    mountSyscall("ours", target, "tmpfs", 0, null);
    try {
      for (const call of calls) {
        const stack = await mountAll(list(t), target, { namespace });
        assertEquals(seen(other, t).length, 2);
        await call({ namespace });
        assertEquals(seen(other, t), []);
        await stack.unmount(); // does nothing
        assertEquals(t.mounts().map(({ source }) => source), ["ours"]);
      }
    } finally {
      umount2(target, MNT_DETACH);
    }
  },
);

namespaceTest(
  "unmounting a busy mount in another namespace is retried until the timeout",
  {},
  async (t, other) => {
    const stack = await mount({ type: "tmpfs", source: "t" }, `${t.dir}/root`, { namespace: other.pid });
    const user = new Deno.Command("nsenter", {
      args: ["-m", "-t", `${other.pid}`, "sh", "-c", `cd ${t.dir}/root && echo in && exec sleep 60`],
      stdout: "piped",
    }).spawn();
    const reader = user.stdout.getReader();
    await reader.read();
    await reader.cancel();
    const start = performance.now();
    await assertRejects(() => stack.unmount({ timeout: 200 }), Error, "EBUSY");
    assert(performance.now() - start >= 200);
    user.kill("SIGKILL");
    await user.status;
    await stack.unmount();
  },
);

namespaceTest("concurrent mounts in three namespaces do not interfere", {}, async (t, first) => {
  await using second = await MountNamespace.start();
  t.make("a", "b", "c", "source");
  const tmpfs = (source: string): Mount[] => [
    { type: "tmpfs", source, options: ["size=1m"] },
    { type: "bind", source: `${t.dir}/source`, options: ["rbind"] },
  ];
  for (let round = 0; round < 5; round++) {
    const [a, b, c] = await Promise.all([
      mountAll(tmpfs("first"), `${t.dir}/a`, { namespace: first.pid }),
      mountAll(tmpfs("second"), `${t.dir}/b`, { namespace: second.pid }),
      mountAll(tmpfs("here"), `${t.dir}/c`),
    ]);
    const mountpoints = (rows: string[]) => rows.map((row) => row.split(" ")[1]);
    assertEquals(mountpoints(seen(first, t)), ["/a", "/a"]);
    assertEquals(mountpoints(seen(second, t)), ["/b", "/b"]);
    assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/c", "/c"]);
    await Promise.all([a.unmount(), b.unmount(), c.unmount()]);
  }
});

const kernels: [string, Parameters<typeof pretendMissing>][] = [
  ["before Linux 6.5", ["overlayLayers", "overlayDescriptors", "detachedLayers", "statmount", "mountEvents"]],
  ["before Linux 5.12", [
    "mountSetattr",
    "overlayLayers",
    "overlayDescriptors",
    "detachedLayers",
    "statmount",
    "openat2",
  ]],
];
for (const [when, missing] of kernels) {
  namespaceTest(
    `${when}, a mount that can't be created detached is mounted temporarily and cloned`,
    {},
    async (t, other) => {
      using _missing = pretendMissing(...missing);
      t.make("lower", "lower2", "source", "root/overlay", "root/bind");
      Deno.writeTextFileSync(`${t.dir}/lower/file`, "layer");
      const mounts: Mount[] = [
        {
          type: "overlay",
          source: "o",
          target: "overlay",
          options: [`lowerdir=${t.dir}/lower:${t.dir}/lower2`],
        },
        { type: "bind", source: `${t.dir}/source`, target: "bind", options: ["rbind", "ro"] },
      ];
      await using _mounted = await mountAll(mounts, `${t.dir}/root`, { namespace: other.pid });
      assertEquals(await other.run("cat", `${t.dir}/root/overlay/file`), "layer");
      assertEquals(seen(other, t).map((row) => row.slice(row.indexOf(" ") + 1)), [
        "/root/overlay rw",
        "/root/bind ro",
      ]);
    },
  );
}

namespaceTest("before Linux 5.12, changing a mount in another namespace is refused", {}, async (t, other) => {
  using _missing = pretendMissing("mountSetattr");
  const shared = { type: "tmpfs", source: "t", options: ["shared"] };
  await assertRejects(
    () => mount(shared, `${t.dir}/root`, { namespace: other.pid }),
    MountError,
    "came with Linux 5.12",
  );
});

namespaceTest("a FUSE file system is mounted in another namespace", {
  root: true,
  tools: ["mount.fuse3", "fusermount3", "bindfs"],
}, async (t, other) => {
  t.make("source");
  Deno.writeTextFileSync(`${t.dir}/source/file`, "through a server");
  const fuse = { type: "fuse3.bindfs", source: `${t.dir}/source` };
  await using _mounted = await mount(fuse, `${t.dir}/root`, { namespace: other.pid });
  assertEquals(await other.run("cat", `${t.dir}/root/file`), "through a server");
  assertMatch(seen(other, t).join(), /^fuse.* \/root rw$/);
});

const root = new URL("../..", import.meta.url);

const program = (module: string) => `
  import { listMounts, mountAll } from ${JSON.stringify(module)};
  const [pid, target] = Deno.args;
  const stack = await mountAll([{ type: "tmpfs", source: "theirs" }], target, { namespace: Number(pid) });
  const seen = async (pid) => (await listMounts({ pid })).some(({ source }) => source === "theirs");
  console.log(await seen(Number(pid)), await seen(Deno.pid));
  await stack.unmount();
  console.log(await seen(Number(pid)));`;

for (const form of ["imported over http", "bundled into one file"]) {
  kernelTest(`another namespace is reached when the library is ${form}`, {
    ...needs,
    permissions: { run: true, net: ["127.0.0.1"], env: true },
  }, async (t) => {
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
      const body = await Deno.readFile(new URL("." + new URL(request.url).pathname, root));
      return new Response(body, { headers: { "content-type": "application/typescript" } });
    });
    await using other = await MountNamespace.start();
    const isBundle = form.startsWith("bundled");
    const file = `${t.dir}/program.js`;
    const module = isBundle ? new URL("mod.ts", root).href : `http://127.0.0.1:${server.addr.port}/mod.ts`;
    Deno.writeTextFileSync(file, program(module));
    if (isBundle) await run(Deno.execPath(), "bundle", "--quiet", "--output", `${file}.bundle.js`, file);
    const flags = ["--no-prompt", "--no-config", "--no-lock", "--allow-import=127.0.0.1", "--allow-ffi"];
    const start = isBundle ? `${file}.bundle.js` : file;
    const target = t.make("target");
    const said = await run(Deno.execPath(), "run", ...flags, start, `${other.pid}`, target);
    assertEquals(said, "true false\nfalse\n");
    assertEquals(seen(other, t), []);
  });
}

namespaceTest(
  "detachTopMount() unmounts in the namespace that it runs in",
  {},
  async (t, other) => {
    const stack = await mount({ type: "tmpfs", source: "t" }, `${t.dir}/root`, { namespace: other.pid });
    await runInNamespace(other.pid, () => {
      using target = openTarget(`${t.dir}/root`);
      return Promise.resolve(detachTopMount(target));
    });
    assertEquals(seen(other, t), []);
    await stack.unmount(); // closes its descriptor of the namespace
  },
);
