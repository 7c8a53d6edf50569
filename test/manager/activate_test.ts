import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { linkText, loopDevices, loopDevicesLeft, names, readBytes, readText } from "../kernel.ts";
import { run } from "../namespace/namespaces.ts";
import { isMountpoint, type Mount, mount, mountAll, MountError, SyscallError } from "../../mod.ts";
import { FailedPreconditionError, type MountHandler, NotFoundError } from "../../linux/manager/mod.ts";
import { leftIn, mkfsEntry, openManager, TMPFS, withActivation } from "./managers.ts";

const isRoot = { root: true };

kernelTest(
  "what a later entry names is mounted below the root directory, and the rest is left to the caller",
  {},
  async (t) => {
    await using manager = await openManager(t);
    const list: Mount[] = [
      { type: "tmpfs", source: "lower", options: ["size=1m"] },
      { type: "tmpfs", source: "upper", options: ["size=2m"] },
      {
        type: "format/mkdir/overlay",
        source: "{{ source 0 }}",
        options: [
          "X-containerd.mkdir.path={{ mount 1 }}/u",
          "X-containerd.mkdir.path={{ mount 1 }}/w",
          "lowerdir={{ mount 0 }}",
          "upperdir={{ mount 1 }}/u",
          "workdir={{ mount 1 }}/w",
        ],
      },
    ];
    const given = structuredClone(list);
    await withActivation(manager, list, ({ name, active, system, labels }) => {
      const [lower, upper] = active.map(({ mountPoint }) => mountPoint);
      assertEquals([name, labels], ["test", {}]);
      assertEquals(t.mounts().map(({ mountpoint, source }) => [t.dir + mountpoint, source]), [
        [lower, "lower"],
        [upper, "upper"],
      ]);
      assertEquals(names(`${upper}`), ["u", "w"]);
      assertEquals(system, [{
        type: "overlay",
        source: "lower",
        options: [`lowerdir=${lower}`, `upperdir=${upper}/u`, `workdir=${upper}/w`],
      }]);
      assertEquals(
        active.map(({ type, source, options, data }) => ({ type, source, options, data })),
        list.slice(0, 2).map((mount) => ({ ...mount, options: [...mount.options ?? []], data: {} })),
      );
      assert(active.every(({ mountedAt }) => Math.abs(mountedAt.getTime() - Date.now()) < 60_000));
    });
    assertEquals([list, t.mounts(), leftIn(t)], [given, [], []]);
  },
);

kernelTest(
  "a list that needs no manager is left to the caller as it is, and nothing is mounted",
  {},
  async (t) => {
    await using manager = await openManager(t);
    const list: Mount[] = [TMPFS, { type: "bind", source: "/usr", target: "/usr", options: ["rbind", "ro"] }];
    await withActivation(manager, list, ({ active, system }) => {
      assertEquals([active, system, t.mounts()], [[], list as Mount[], []]);
    });
    await withActivation(manager, [], ({ active, system }) => assertEquals([active, system], [[], []]));
  },
);

const UUID = "6d8f9ad4-7e5c-4a41-9f0c-2b6a7f1f7d11";

for (
  const [fs, size, bytes] of [
    ["ext2", "8MiB", 8 << 20],
    ["ext3", "16mb", 16 << 20],
    ["ext4", "16777216", 16 << 20],
    ["xfs", "0.5 GiB", 512 << 20],
    ["btrfs", "200M", 200 << 20],
  ] as const
) {
  kernelTest(`mkfs/${fs} makes an image with the size, the file system and the UUID that are asked for`, {
    ...isRoot,
    tools: [`mkfs.${fs}`, "blkid"],
    permissions: { run: true },
  }, async (t) => {
    await using manager = await openManager(t);
    const image = `${t.dir}/root/data.img`;
    const file = () => {
      const { size, mode, ino } = Deno.statSync(image);
      return [size, (mode ?? 0) & 0o7777, ino];
    };
    const list = [mkfsEntry(fs, image, size, `uuid=${UUID}`), {
      type: "format/bind",
      source: "{{ mount 0 }}",
    }];
    const made = await withActivation(manager, list, async ({ active }) => {
      assertEquals(file().slice(0, 2), [bytes, 0o640]);
      const probed = await run("blkid", "-p", "-o", "value", "-s", "TYPE", "-s", "UUID", image);
      assertEquals(probed.trim().split("\n").sort(), [UUID, fs]);
      assertEquals(t.mounts().map(({ fsType }) => fsType), [fs]);
      Deno.writeTextFileSync(`${active[0]?.mountPoint}/kept`, "data");
      return file();
    });
    assertEquals([await loopDevicesLeft(t.dir), leftIn(t)], [[], ["data.img"]]);
    // The second activation uses the image as it is, whatever it asks for.
    await withActivation(manager, [mkfsEntry(fs, image, "1GiB"), list[1] as Mount], ({ active }) => {
      assertEquals([file(), Deno.readTextFileSync(`${active[0]?.mountPoint}/kept`)], [made, "data"]);
    });
    assertEquals(await loopDevicesLeft(t.dir), []);
  });
}

kernelTest(
  "mkfs.fs= names another file system than the type, and ext4 is made for a type that mkfs does not make",
  {
    ...isRoot,
    tools: ["mkfs.ext2", "mkfs.ext4", "blkid"],
    permissions: { run: true },
  },
  async (t) => {
    await using manager = await openManager(t);
    const typeOf = (file: string) => run("blkid", "-p", "-o", "value", "-s", "TYPE", file);
    const [one, two] = [`${t.dir}/root/one.img`, `${t.dir}/root/two.img`];
    await withActivation(manager, [mkfsEntry("ext4", one, "8MiB", "fs=ext2")], async ({ active, system }) => {
      assertEquals([active, system], [[], [{ type: "ext4", source: one, options: ["loop"] }]]);
      assertEquals((await typeOf(one)).trim(), "ext2");
    });
    await withActivation(manager, [mkfsEntry("bind", two, "8MiB")], async () => {
      assertEquals((await typeOf(two)).trim(), "ext4");
    });
  },
);

kernelTest("mkfs refuses what is no regular file, and a program that is missing names its package", {
  ...isRoot,
  tools: ["mkfs.ext4", "mkfs.btrfs"],
  permissions: { run: true },
}, async (t) => {
  await using manager = await openManager(t);
  const image = t.make("root/data.img");
  const fails = (fs: string) =>
    assertRejects(() => manager.activate("test", [mkfsEntry(fs, image, "200MiB")]), Error);
  assert(await fails("ext4") instanceof FailedPreconditionError);
  Deno.removeSync(image);
  Deno.symlinkSync("/etc/passwd", image);
  assertStringIncludes((await fails("ext4")).message, "what is there is no regular file");
  Deno.removeSync(image);
  {
    Deno.writeTextFileSync(`${t.dir}/no-program`, "", { mode: 0o644 });
    await using _hidden = await hide("mkfs.btrfs", `${t.dir}/no-program`);
    assertEquals(
      (await fails("btrfs")).message,
      "mkfs.btrfs is not installed: install the package btrfs-progs",
    );
  }
  assertEquals([t.mounts(), leftIn(t)], [[], []]);
});

/** Covers a program with a file that can't be executed. */
async function hide(program: string, file: string): Promise<AsyncDisposableStack> {
  const stack = new AsyncDisposableStack();
  const covered = new Set<string>();
  for (const directory of ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]) {
    if (!names(directory).includes(program)) continue;
    const path = Deno.realPathSync(`${directory}/${program}`);
    if (covered.has(path)) continue;
    covered.add(path);
    stack.use(await mount({ type: "bind", source: file, options: ["bind"] }, path));
  }
  return stack;
}

kernelTest("a mkfs program that fails is an error with its own words, and leaves no image", {
  ...isRoot,
  tools: ["mkfs.xfs"],
  permissions: { run: true },
}, async (t) => {
  await using manager = await openManager(t);
  const image = `${t.dir}/root/data.img`;
  const { message } = await assertRejects(
    () => manager.activate("test", [mkfsEntry("xfs", image, "4KiB")]),
    Error,
    `mkfs.xfs can't make the image "${image}": `,
  );
  assert(/size|agcount|small|log/.test(message), message);
  assertEquals(leftIn(t), []);
});

kernelTest("mkdir makes directories with their mode and owner, whatever the umask is", {
  ...isRoot,
  permissions: { sys: true },
}, async (t) => {
  await using manager = await openManager(t);
  const root = `${t.dir}/root`;
  const before = Deno.umask(0o077);
  try {
    const words = ["a", "b:755", "b/c:0711", "d:0:1:2", "e:777:70000:4294967294"];
    const options = words.map((word) => `X-containerd.mkdir.path=${root}/${word}`);
    const list = [{ type: "mkdir/tmpfs", source: "t", options: [...options, "size=1m"] }];
    const stat = (name: string) => {
      const { mode, uid, gid } = Deno.lstatSync(`${root}/${name}`);
      return [((mode ?? 0) & 0o7777).toString(8), uid, gid];
    };
    await withActivation(manager, list, ({ system }) => {
      assertEquals(system, [{ type: "tmpfs", source: "t", options: ["size=1m"] }]);
      assertEquals(["a", "b", "b/c", "d", "e"].map(stat), [
        ["700", 0, 0],
        ["755", 0, 0],
        ["711", 0, 0],
        ["0", 1, 2],
        ["777", 70000, 4294967294],
      ]);
    });
    await withActivation(manager, list, () => assertEquals(stat("e"), ["777", 70000, 4294967294]));
    assertEquals(leftIn(t), ["a", "b", "d", "e"]); // directories stay: they hold the data
  } finally {
    Deno.umask(before);
  }
});

kernelTest(
  "mkdir refuses a file, and a directory with another mode or owner, and changes none of them",
  isRoot,
  async (t) => {
    await using manager = await openManager(t);
    t.make("root/dir");
    Deno.chmodSync(`${t.dir}/root/dir`, 0o750);
    Deno.writeTextFileSync(`${t.dir}/root/file`, "");
    for (
      const [word, why] of [
        ["file", "what is there is no directory"],
        ["dir:755", "the directory has mode 0750, not 0755"],
        ["dir:750:1:0", "the directory belongs to 0:0, not 1:0"],
        ["dir/none/deep", "ENOENT"],
      ]
    ) {
      const options = [
        `X-containerd.mkdir.path=${t.dir}/root/new`,
        `X-containerd.mkdir.path=${t.dir}/root/${word}`,
      ];
      const mkdir = { type: "mkdir/tmpfs", source: "t", options };
      await assertRejects(() => manager.activate("test", [mkdir]), Error, why);
      assertEquals([leftIn(t), (Deno.statSync(`${t.dir}/root/dir`).mode ?? 0) & 0o777], [
        ["dir", "file"],
        0o750,
      ]);
    }
  },
);

kernelTest(
  "mkfs and mkdir make nothing outside of the root and the allowed directories, through no link and no ..",
  {
    ...isRoot,
    tools: ["mkfs.ext4"],
    permissions: { run: true },
  },
  async (t) => {
    t.make("outside", "allowed", "root");
    await using manager = await openManager(t, { allowedRoots: [`${t.dir}/allowed`] });
    Deno.symlinkSync(`${t.dir}/outside`, `${t.dir}/root/link`);
    Deno.symlinkSync("../outside", `${t.dir}/allowed/link`);
    Deno.symlinkSync(`${t.dir}/outside/new`, `${t.dir}/root/name`);
    const paths = [
      "outside/x",
      "root/link/x",
      "allowed/link/x",
      "root/../outside/x",
      "allowed/../outside/x",
      "rootx",
    ];
    const entries = (path: string): Mount[] => [
      mkfsEntry("ext4", path, "1MiB"),
      { type: "mkdir/tmpfs", source: "t", options: [`X-containerd.mkdir.path=${path}`] },
    ];
    for (const path of [...paths.map((path) => `${t.dir}/${path}`), "relative", "/", `${t.dir}/root/name`]) {
      for (const entry of entries(path)) {
        await assertRejects(() => manager.activate("test", [entry]), Error);
        assertEquals([names(`${t.dir}/outside`), names(t.dir)], [[], ["allowed", "outside", "root"]], path);
      }
    }
    for (const path of ["root/x", "allowed/x"]) {
      for (const entry of entries(`${t.dir}/${path}`)) {
        await withActivation(
          manager,
          [entry],
          () => assert(names(`${t.dir}/${path.slice(0, -2)}`).includes("x")),
        );
        Deno.removeSync(`${t.dir}/${path}`);
      }
    }
  },
);

/** For strace(1): all that looks at a file or changes one. Without mmap(2), by which the runtime takes memory. */
const CALLS = "trace=%file,%process,read,write,pread64,pwrite64,ioctl,fcntl,fsopen,fsmount,move_mount";

/** Makes an erofs image with its data on a second device; returns the two files. */
async function erofsOfTwoDevices(
  t: KernelContext,
  directory: string,
): Promise<{ image: string; blob: string }> {
  t.make("tree");
  Deno.writeTextFileSync(`${t.dir}/tree/file`, "x".repeat(8192) + "end");
  const [image, blob] = [`${directory}/image.erofs`, `${directory}/blob`];
  await run("mkfs.erofs", "--quiet", `--blobdev=${blob}`, "--chunksize=4096", image, `${t.dir}/tree`);
  return { image, blob };
}

const erofs = {
  ...isRoot,
  features: ["erofsDevices"] as const,
  tools: ["mkfs.erofs"],
  permissions: { run: true } as const,
};

kernelTest(
  "erofs with several devices is mounted from its files, without a loop device where the kernel can",
  erofs,
  async (t) => {
    await using manager = await openManager(t);
    const { image, blob } = await erofsOfTwoDevices(t, t.make("images"));
    const list = [{ type: "erofs", source: image, options: [`device=${blob}`] }];
    await withActivation(manager, list, ({ active, system }) => {
      const mountPoint = active[0]?.mountPoint ?? "";
      assertEquals(system, [{ type: "bind", source: mountPoint, options: ["rbind"] }]);
      assert(Deno.readTextFileSync(`${mountPoint}/file`).endsWith("xend"));
      const [row] = t.mounts();
      assertEquals([row?.fsType, row?.options[0]], ["erofs", "ro"]);
      // Before Linux 6.12, erofs takes block devices only.
      assertEquals(loopDevices(t.dir).length, row?.source.startsWith("/dev/loop") ? 2 : 0);
    });
    assertEquals([t.mounts(), await loopDevicesLeft(t.dir), leftIn(t)], [[], [], []]);
  },
);

kernelTest("images are mounted in the order of the list, or none of them if one fails", erofs, async (t) => {
  await using manager = await openManager(t);
  const { image, blob } = await erofsOfTwoDevices(t, t.make("images"));
  const good = { type: "erofs", source: image, options: [`device=${blob}`] };
  const tmpfs = { type: "format/tmpfs", source: "t", options: ["size=1m"] };
  await withActivation(manager, [good, good, tmpfs, good, good, good, good, good], async ({ active }) => {
    assertEquals(active.map(({ mountPoint }) => mountPoint.split("/").at(-1)), [..."01234567"]);
    assertEquals(active.map(({ type }) => type), [..."eeteeeee"].map((c) => c === "t" ? "tmpfs" : "erofs"));
    assertEquals((await manager.info("test")).active, active);
    assertEquals(t.mounts().length, 8);
  });
  Deno.writeFileSync(`${t.dir}/bad`, new Uint8Array(8192));
  const bad = { type: "erofs", source: `${t.dir}/bad` };
  const missing = { type: "erofs", source: `${t.dir}/missing` };
  for (const list of [[good, bad, good], [good, good, missing, bad, good], [bad, missing, good]]) {
    const error = await assertRejects(() => manager.activate("test", list), MountError);
    assertEquals(error.mount.source, list.find((mount) => mount !== good)?.source);
    assertEquals([t.mounts(), await loopDevicesLeft(t.dir), leftIn(t)], [[], [], []]);
  }
});

kernelTest(
  "erofs with several devices is mounted through loop devices where the kernel asks for them",
  erofs,
  async (t) => {
    await using manager = await openManager(t);
    // No kernel reads an erofs from a file on tmpfs.
    await using _tmpfs = await mount({ type: "tmpfs", source: "t", options: ["size=4m"] }, t.make("images"));
    const { image, blob } = await erofsOfTwoDevices(t, `${t.dir}/images`);
    const list = [
      { type: "erofs", source: image, options: [`device=${blob}`, "loop"] },
      { type: "format/bind", source: "{{ mount 0 }}", options: ["rbind"] },
    ];
    await withActivation(manager, list, ({ active }) => {
      assert(Deno.readTextFileSync(`${active[0]?.mountPoint}/file`).endsWith("xend"));
      const files = loopDevices(t.dir).map((line) => line.split(" ")[1]?.split("/").at(-1));
      assertEquals(files.sort(), ["blob", "image.erofs"]);
      assert(t.mounts().some(({ fsType, source }) => fsType === "erofs" && source.startsWith("/dev/loop")));
      // What the list says is remembered, not the devices of this kernel.
      assertEquals([active[0]?.source, active[0]?.options], [image, [`device=${blob}`, "ro"]]);
    });
    assertEquals([t.mounts().length, await loopDevicesLeft(t.dir), leftIn(t)], [1, [], []]);
  },
);

kernelTest(
  "loop attaches a file with ro, offset and sizelimit; its link leads to the device until the end",
  isRoot,
  async (t) => {
    await using manager = await openManager(t);
    const image = `${t.dir}/image`;
    Deno.writeFileSync(image, new Uint8Array(1 << 20));
    for (
      const [options, expected] of [
        [[], { ro: "0", offset: "0", sizelimit: "0" }],
        [["ro"], { ro: "1", offset: "0", sizelimit: "0" }],
        [["ro", "offset=4096", "sizelimit=64K"], { ro: "1", offset: "4096", sizelimit: "65536" }],
      ] as const
    ) {
      await withActivation(manager, [{ type: "loop", source: image, options }], ({ active, system }) => {
        const device = linkText(active[0]?.mountPoint ?? "") ?? "";
        assertEquals(loopDevices(t.dir), [`${device.slice("/dev/".length)} ${image}`]);
        const read = (file: string) => (readText(`/sys/block/${device.slice(5)}/${file}`) ?? "").trim();
        const found = { ro: read("ro"), offset: read("loop/offset"), sizelimit: read("loop/sizelimit") };
        assertEquals([found, read("loop/autoclear")], [expected, "0"]);
        assertEquals(system, []); // a device can't be bound
      });
      assertEquals([await loopDevicesLeft(t.dir), leftIn(t)], [[], []]);
    }
    await assertRejects(
      () => manager.activate("test", [{ type: "loop", source: image, options: ["size=1"] }]),
      TypeError,
      '"size=1" is no option of the type "loop"',
    );
    assertEquals([await loopDevicesLeft(t.dir), leftIn(t)], [[], []]);
  },
);

kernelTest("a later entry mounts the device of a loop by its template", {
  ...isRoot,
  tools: ["mkfs.ext4"],
  permissions: { run: true },
}, async (t) => {
  await using manager = await openManager(t);
  const image = `${t.dir}/image`;
  Deno.writeFileSync(image, new Uint8Array(0));
  Deno.truncateSync(image, 8 << 20);
  await run("mkfs.ext4", "-q", image);
  const list = [{ type: "loop", source: image }, { type: "format/ext4", source: "{{ mount 0 }}" }];
  await using mounts = await mountAll(list, t.make("target"), { manager });
  assertEquals(t.mounts().map(({ mountpoint, fsType }) => [mountpoint, fsType]), [["/target", "ext4"]]);
  await mounts.unmount();
  assertEquals([t.mounts(), await loopDevicesLeft(t.dir), leftIn(t)], [[], [], []]);
});

kernelTest("a temporary activation mounts everything, and the caller gets one bind", {
  features: ["overlay"],
}, async (t) => {
  await using manager = await openManager(t);
  const list: Mount[] = [
    { type: "tmpfs", source: "one", options: ["size=1m"] },
    { type: "tmpfs", source: "two", options: ["size=1m"] },
    { type: "format/overlay", source: "overlay", options: ["lowerdir={{ overlay 0 1 }}"] },
  ];
  await withActivation(manager, list, async ({ active, system }) => {
    const last = active[2]?.mountPoint ?? "";
    assertEquals([active.length, system], [3, [{ type: "bind", source: last, options: ["rbind"] }]]);
    assertEquals(t.mounts().map(({ fsType }) => fsType), ["tmpfs", "tmpfs", "overlay"]);
    await using _bound = await mountAll(system, t.make("target"));
    assertEquals(t.mounts().at(-1)?.fsType, "overlay");
  }, { temporary: true });
  assertEquals([t.mounts(), leftIn(t)], [[], []]);
  await assertRejects(
    () => manager.activate("test", list, { temporary: true, allowMountTypes: ["tmpfs"] }),
    TypeError,
    "a temporary activation mounts everything",
  );
});

kernelTest("a temporary activation of entries with targets has them below one directory", {}, async (t) => {
  await using manager = await openManager(t);
  const list: Mount[] = [TMPFS, {
    ...TMPFS,
    source: "inner",
    target: "/inner",
    options: ["size=1m", "X-mount.mkdir"],
  }];
  await withActivation(manager, list, ({ active, system }) => {
    const [outer, inner] = active.map(({ mountPoint }) => mountPoint);
    assertEquals([inner, system[0]?.source, system.length], [`${outer}/inner`, outer, 1]);
    assertEquals(t.mounts().map(({ mountpoint }) => t.dir + mountpoint), [outer, inner]);
  }, { temporary: true });
  assertEquals([t.mounts(), leftIn(t)], [[], []]);
});

kernelTest("the bind of a file is mounted on a file", {}, async (t) => {
  await using manager = await openManager(t);
  Deno.writeTextFileSync(`${t.dir}/source`, "text");
  const bind = { type: "bind", source: `${t.dir}/source`, options: ["bind", "ro"] };
  await withActivation(
    manager,
    [bind, { type: "format/bind", source: "{{ mount 0 }}" }],
    ({ active, system }) => {
      assertEquals(Deno.readTextFileSync(active[0]?.mountPoint ?? ""), "text");
      assertEquals(system, [{ type: "bind", source: active[0]?.mountPoint ?? "" }]);
    },
  );
  await withActivation(manager, [bind], ({ system }) => {
    assertEquals(Deno.readTextFileSync(system[0]?.source ?? ""), "text");
  }, { temporary: true });
  assertEquals([t.mounts(), leftIn(t)], [[], []]);
});

kernelTest("allowMountTypes leaves an entry to the caller, with its type", erofs, async (t) => {
  await using manager = await openManager(t);
  const { image, blob } = await erofsOfTwoDevices(t, t.make("images"));
  const list = [{ type: "erofs", source: image, options: [`device=${blob}`] }];
  await withActivation(manager, list, ({ active, system }) => {
    assertEquals([active, system, t.mounts()], [[], list, []]);
  }, { allowMountTypes: ["erofs"] });
});

kernelTest(
  "a handler of the caller's own mounts its type, gets the mounts before it, and unmounts what it made",
  {},
  async (t) => {
    const calls: string[] = [];
    const handler: MountHandler = {
      async mount(given, mountPoint, active) {
        calls.push(`mount ${given.type} after ${active.length}`);
        Deno.mkdirSync(mountPoint);
        await mountAll([{ ...TMPFS, source: given.source }], mountPoint);
        return { ...given, mountPoint, mountedAt: new Date(1e12), data: { key: "value" } };
      },
      unmount(_mountPoint, given) {
        calls.push(`unmount ${given?.type} ${given?.data?.["key"]}`);
        return Promise.resolve(); // the manager unmounts what is still mounted
      },
    };
    await using manager = await openManager(t, { handlers: { "my/type": handler } });
    await withActivation(manager, [TMPFS, { type: "my/type", source: "mine" }], async ({ active }) => {
      assertEquals([active[1]?.data, active[1]?.mountedAt], [{ key: "value" }, new Date(1e12)]);
      assertEquals(t.mounts().map(({ source }) => source), ["t", "mine"]);
      assertEquals((await manager.info("test")).active, active);
    });
    assertEquals([calls, t.mounts(), leftIn(t)], [
      ["mount my/type after 1", "unmount my/type value"],
      [],
      [],
    ]);
  },
);

kernelTest("a handler unmounts with what it has written down, also if a later entry fails", {}, async (t) => {
  const unmounted: unknown[] = [];
  const handler: MountHandler = {
    mount(given, mountPoint) {
      Deno.mkdirSync(mountPoint);
      const returned = { ...given, source: "changed", mountPoint, mountedAt: new Date() };
      return Promise.resolve({ ...returned, data: { key: "value" } });
    },
    unmount(_mountPoint, given) {
      unmounted.push([given?.source, given?.data]);
      return Promise.resolve();
    },
  };
  await using manager = await openManager(t, { handlers: { mine: handler } });
  const list = [{ type: "mine", source: "given" }, { type: "bind", source: `${t.dir}/missing` }, {
    type: "format/bind",
    source: "{{ mount 0 }}",
  }];
  await assertRejects(() => manager.activate("test", list), MountError, "missing");
  assertEquals([unmounted, leftIn(t)], [[["changed", { key: "value" }]], []]);
});

kernelTest("what another process has mounted on a mountpoint or below it is unmounted too", {}, async (t) => {
  await using manager = await openManager(t);
  const list = [TMPFS, TMPFS, TMPFS, { type: "format/bind", source: "{{ mount 0 }}" }];
  const { active } = await manager.activate("test", list);
  const [on, below, hidden] = active.map(({ mountPoint }) => mountPoint);
  await mount(TMPFS, `${on}`);
  await mount({ ...TMPFS, options: ["X-mount.mkdir"], target: "/a/b" }, `${below}`);
  await mount({ ...TMPFS, options: ["X-mount.mkdir"], target: "/c" }, `${hidden}`);
  await mount(TMPFS, `${hidden}`);
  assertEquals(t.mounts().length, 7);
  await manager.deactivate("test");
  assertEquals([t.mounts(), leftIn(t)], [[], []]);
});

kernelTest("the mounts of an activation are unmounted from the last to the first", {}, async (t) => {
  const calls: string[] = [];
  const handler: MountHandler = {
    mount(given, mountPoint) {
      Deno.mkdirSync(mountPoint);
      return Promise.resolve({ ...given, mountPoint, mountedAt: new Date(), data: {} });
    },
    unmount(_mountPoint, given) {
      calls.push(`${given?.source}`);
      return Promise.resolve();
    },
  };
  await using manager = await openManager(t, { handlers: { mine: handler } });
  const mounts = ["one", "two", "three"].map((source) => ({ type: "mine", source }));
  await withActivation(manager, mounts, async () => {});
  assertEquals(calls, ["three", "two", "one"]);
});

kernelTest("a busy mount is an error of deactivate(), which goes on at the next call", {}, async (t) => {
  await using manager = await openManager(t);
  const { active } = await manager.activate("test", [TMPFS, TMPFS, {
    type: "format/bind",
    source: "{{ mount 0 }}",
  }]);
  const [first, second] = active.map(({ mountPoint }) => mountPoint);
  {
    using _file = Deno.createSync(`${first}/file`);
    await assertRejects(() => manager.deactivate("test", { timeout: 0 }), SyscallError, "EBUSY");
    assertEquals((await manager.info("test")).active.map(({ mountPoint }) => mountPoint), [first]);
    assertEquals(t.mounts().length, 1);
    assertEquals([await isMountpoint(`${first}`), await isMountpoint(`${second}`)], [true, false]);
  }
  await manager.deactivate("test");
  assertEquals([t.mounts(), leftIn(t), await Array.fromAsync(manager.list())], [[], [], []]);
});

kernelTest(
  "of images beside each other a busy one stays and is recorded, until the next call",
  erofs,
  async (t) => {
    await using manager = await openManager(t);
    const { image, blob } = await erofsOfTwoDevices(t, t.make("images"));
    const good = { type: "erofs", source: image, options: [`device=${blob}`] };
    const { active } = await manager.activate("test", [good, good, good]);
    const busy = `${active[1]?.mountPoint}`;
    {
      using _file = Deno.openSync(`${busy}/file`);
      await assertRejects(() => manager.deactivate("test", { timeout: 0 }), SyscallError, "EBUSY");
      assertEquals((await manager.info("test")).active.map(({ mountPoint }) => mountPoint), [busy]);
      assertEquals(t.mounts().map(({ mountpoint }) => `${t.dir}${mountpoint}`), [busy]);
    }
    await manager.deactivate("test");
    assertEquals([t.mounts(), await loopDevicesLeft(t.dir), leftIn(t)], [[], [], []]);
  },
);

kernelTest("an activation that is just being made is not listed yet", {}, async (t) => {
  const [begun, complete] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const handler: MountHandler = {
    async mount(given, mountPoint) {
      Deno.mkdirSync(mountPoint);
      begun.resolve();
      await complete.promise;
      return { ...given, mountPoint, mountedAt: new Date(), data: {} };
    },
    unmount: () => Promise.resolve(),
  };
  await using manager = await openManager(t, { handlers: { mine: handler } });
  const activating = manager.activate("test", [{ type: "mine", source: "x" }]);
  await begun.promise;
  assertEquals(await Array.fromAsync(manager.list()), []);
  await assertRejects(() => manager.info("test"), NotFoundError);
  complete.resolve();
  await activating;
  assertEquals((await Array.fromAsync(manager.list())).length, 1);
  await manager.deactivate("test");
});

kernelTest("a handler that fails has what it mounted unmounted, and its error is thrown", {}, async (t) => {
  const handler: MountHandler = {
    async mount(_given, mountPoint) {
      Deno.mkdirSync(mountPoint);
      await mountAll([TMPFS], mountPoint);
      throw new RangeError("the handler's own error");
    },
    unmount: () => Promise.resolve(),
  };
  await using manager = await openManager(t, { handlers: { mine: handler } });
  await assertRejects(
    () => manager.activate("test", [TMPFS, { type: "mine", source: "x" }]),
    RangeError,
    "the handler's own error",
  );
  assertEquals([t.mounts(), leftIn(t), await Array.fromAsync(manager.list())], [[], [], []]);
});

kernelTest("activations are looked up by name, listed by labels and relabelled", {}, async (t) => {
  await using manager = await openManager(t);
  const labels = { app: "web", tier: "1" };
  await manager.activate("one", [TMPFS, { type: "format/bind", source: "{{ mount 0 }}" }], { labels });
  await manager.activate("two", [], { labels: { app: "web" } });
  await manager.activate("three", []);
  const listed = async (labels?: Record<string, string>) =>
    (await Array.fromAsync(manager.list(labels && { labels }))).map(({ name }) => name);
  assertEquals(await listed(), ["one", "three", "two"]);
  assertEquals(await listed({}), ["one", "three", "two"]);
  assertEquals(await listed({ app: "web" }), ["one", "two"]);
  assertEquals(await listed({ app: "web", tier: "1" }), ["one"]);
  assertEquals(await listed({ app: "" }), []);
  const before = await manager.info("one");
  assertEquals(await manager.update("one", { labels: { new: "=" } }), { ...before, labels: { new: "=" } });
  assertEquals([await listed({ app: "web" }), await listed({ new: "=" })], [["two"], ["one"]]);
  {
    await using other = await openManager(t); // as another process
    assertEquals(await other.info("one"), { ...before, labels: { new: "=" } });
  }
  for (const name of ["one", "two", "three"]) await manager.deactivate(name);
  for (
    const call of [
      () => manager.info("one"),
      () => manager.deactivate("one"),
      () => manager.update("one", { labels: {} }),
    ]
  ) await assertRejects(call, NotFoundError, 'no activation is called "one"');
});

kernelTest("the handle of mountAll() with a manager unmounts the list and deactivates it", {}, async (t) => {
  await using manager = await openManager(t);
  const list = [TMPFS, { type: "format/bind", source: "{{ mount 0 }}", options: ["rbind"] }];
  {
    await using mounts = await mountAll(list, t.make("target"), { manager });
    assertEquals([mounts.mountpoints, t.mounts().length], [[`${t.dir}/target`], 2]);
    assertEquals((await Array.fromAsync(manager.list())).length, 1);
  }
  assertEquals([t.mounts(), leftIn(t), await Array.fromAsync(manager.list())], [[], [], []]);
  const bad = [...list, { type: "bind", source: `${t.dir}/missing` }];
  await assertRejects(() => mountAll(bad, `${t.dir}/target`, { manager }), MountError, "missing");
  assertEquals([t.mounts(), leftIn(t), await Array.fromAsync(manager.list())], [[], [], []]);
});

kernelTest(
  "a failure in the middle leaves no mount, image, directory or record, and no file that was there before changes",
  {
    ...isRoot,
    tools: ["mkfs.ext4"],
    permissions: { run: true },
  },
  async (t) => {
    await using manager = await openManager(t);
    const root = `${t.dir}/root`;
    Deno.writeTextFileSync(`${root}/old.img`, "no file system");
    Deno.writeFileSync(`${t.dir}/disk`, new Uint8Array(4096));
    const list = [
      TMPFS,
      mkfsEntry("ext4", `${root}/new.img`, "8MiB"),
      { type: "mkdir/tmpfs", source: "t", options: [`X-containerd.mkdir.path=${root}/dir`, "size=1m"] },
      { type: "loop", source: `${t.dir}/disk`, options: ["ro"] },
      mkfsEntry("ext4", `${root}/old.img`, "8MiB"),
      { type: "format/bind", source: "{{ mount 0 }}" },
    ];
    await assertRejects(() => manager.activate("test", list), MountError);
    assertEquals([t.mounts(), await loopDevicesLeft(t.dir), leftIn(t)], [[], [], ["old.img"]]);
    assertEquals(new TextDecoder().decode(readBytes(`${root}/old.img`)), "no file system");
    await assertRejects(() => manager.info("test"), NotFoundError);
  },
);

kernelTest("an aborted activation kills mkfs, throws the signal's reason and leaves nothing", {
  ...isRoot,
  tools: ["sh", "sleep"],
  permissions: { run: true, env: true },
}, async (t) => {
  await using manager = await openManager(t);
  const path = Deno.env.get("PATH") ?? "";
  const program = `${t.make("bin")}/mkfs.ext4`;
  Deno.writeTextFileSync(
    program,
    `#!/bin/sh\necho $$ > ${t.dir}/started\nmv ${t.dir}/started ${t.dir}/pid\nexec sleep 60\n`,
    { mode: 0o755 },
  );
  Deno.env.set("PATH", `${t.dir}/bin:${path}`);
  try {
    const list = [TMPFS, mkfsEntry("ext4", `${t.dir}/root/data.img`, "8MiB"), {
      type: "format/bind",
      source: "{{ mount 0 }}",
    }];
    const abort = new AbortController();
    const activating = manager.activate("test", list, { signal: abort.signal });
    while (!names(t.dir).includes("pid")) await new Promise((resolve) => setTimeout(resolve, 5));
    assertEquals(t.mounts().length, 1);
    const reason = new Error("enough");
    abort.abort(reason);
    assertEquals(await activating.catch((error) => error), reason);
    const pid = Deno.readTextFileSync(`${t.dir}/pid`).trim();
    while (/^State:\s*[^ZX]/m.test(readText(`/proc/${pid}/status`) ?? "")) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assertEquals([t.mounts(), leftIn(t), await Array.fromAsync(manager.list())], [[], [], []]);
  } finally {
    Deno.env.set("PATH", path);
  }
  const aborted = AbortSignal.abort(new Error("before"));
  await assertRejects(() => manager.activate("test", [TMPFS], { signal: aborted }), Error, "before");
  assertEquals([t.mounts(), leftIn(t)], [[], []]);
});

kernelTest("bad input is refused before the first system call", {
  tools: ["strace"],
  permissions: { run: true },
}, async (t) => {
  const bad: [unknown, unknown, unknown?][] = [
    ["", []],
    [5, []],
    ["a\0b", []],
    ["a", [{ type: "tmpfs", source: "t" }], { timeout: -1 }],
    ["a", [{ type: "tmpfs", source: "t" }], { labels: { a: 1 } }],
    ["a", [{ type: "tmpfs", source: "t" }], { labels: { "": "x" } }],
    ["a", [{ type: "tmpfs", source: "t" }], { temporary: true, allowMountTypes: ["erofs"] }],
    ["a", [{ type: "none/tmpfs", source: "t" }]],
    ["a", [{ type: "tmpfs" }]],
    ["a", [{ type: "format/bind", source: "{{ mount 0 }}" }]],
    ["a", [{ type: "mkfs/ext4", source: "/x" }]],
    ["a", [{ type: "bind", source: "/usr", options: ["bogus"] }, {
      type: "format/bind",
      source: "{{ mount 0 }}",
    }]],
    ["a", [{ type: "tmpfs", source: "t", options: ["X-nothing"] }, {
      type: "format/bind",
      source: "{{ mount 0 }}",
    }]],
  ];
  const script = `${t.dir}/script.ts`;
  Deno.writeTextFileSync(
    script,
    `import { LocalMountManager } from ${
      JSON.stringify(new URL("../../linux/manager/mod.ts", import.meta.url))
    };
     await using manager = await LocalMountManager.open({ root: "${t.dir}/root" });
     const exists = (path) => { try { Deno.lstatSync(path); } catch {} };
     for (const [name, mounts, options] of ${JSON.stringify(bad)}) {
       exists("/marker-begin");
       const error = await manager.activate(name, mounts, options).then(() => undefined, (error) => error);
       exists("/marker-end");
       if (!(error instanceof Error)) throw new Error("not refused: " + JSON.stringify([name, mounts, options]));
     }`,
  );
  const args = ["-f", "-qq", "-o", `${t.dir}/trace`, "-e", CALLS];
  const { code, stderr } = await new Deno.Command("strace", {
    args: [...args, Deno.execPath(), "run", "--quiet", "--no-check", "-A", script],
  }).output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  const lines = Deno.readTextFileSync(`${t.dir}/trace`).split("\n");
  const [main] = /^\d+/.exec(lines.find((line) => line.includes("/marker-begin")) ?? "") ?? [];
  // A call that another thread interrupts has a second line, for its end.
  const own = lines.filter((line) => line.startsWith(`${main} `) && !line.includes(" resumed>")).join("\n");
  const between = [...own.matchAll(/\/marker-begin.*\n((?:.*\n)*?).*\/marker-end/g)].map(([, calls]) =>
    calls
  );
  // The event loop's own calls: it sleeps and wakes.
  const calls = between.map((text) =>
    (text ?? "").replaceAll(/^.*\bepoll_.*\n|^.*\b(read|write)\(\d+, "\\[0-9].*\n/gm, "")
  );
  assertEquals([calls.length, calls.join("")], [bad.length, ""]);
  assertEquals(leftIn(t), []);
});
