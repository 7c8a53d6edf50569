import { explain, type Mount, mountAll, MountError } from "../../mod.ts";
import { type Feature, pretendMissing, usesMountSetattr } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "../assert.ts";
import { kernelTest, type Needs } from "../harness.ts";
import { readText } from "../kernel.ts";
import { denomount } from "../cli/command.ts";
import { MountNamespace } from "../namespace/namespaces.ts";

const WITHOUT_API: Feature[] = ["mountApi", "mountSetattr", "overlayLayers", "openat2"];

/** The ways to mount: the kernel's, that without mount_setattr(2), and mount(2) alone. */
const ways: [string, Feature[]][] = [["", []], [", without mount_setattr(2)", ["mountSetattr"]], [
  ", with mount(2)",
  WITHOUT_API,
]];

/** The message without "cannot mount … on …: ", whose parts have no colon here. */
async function reasonOf(list: Mount[], target: string): Promise<string> {
  const { message } = await assertRejects(() => mountAll(list, target), MountError);
  return message.replace(/^cannot mount .*? on .*?: /, "");
}

for (const type of ["format/overlay", "format/mkdir/overlay", "mkfs/ext4", "mkdir/bind", "loop"]) {
  kernelTest(`the type ${type} is refused with the two lines that get it mounted`, {}, async (t) => {
    t.make("root");
    assertEquals(
      await reasonOf([{ type, source: "x" }], `${t.dir}/root`),
      `the type "${type}" is for a mount manager: "const { system } = await manager.activate(name, mounts)" prepares ` +
        'the list, and "await mountAll(system, target)" mounts it; mountAll(mounts, target, { manager }) does both',
    );
  });
}

kernelTest('the type "auto" is refused with the advice to name the type', {}, async (t) => {
  t.make("root");
  assertEquals(
    await reasonOf([{ type: "auto", source: "/dev/x" }], `${t.dir}/root`),
    'the type "auto" asks to guess: name the file system\'s type, such as "ext4"; probe() finds it out',
  );
});

for (const [way, missing] of ways) {
  const needs = { features: ["overlay"] } as const;
  kernelTest(
    `a second mount of a volatile overlay names the directory that forbids it${way}`,
    needs,
    async (t) => {
      using _ = pretendMissing(...missing);
      t.make("root", "lower", "upper", "work");
      const options = [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`];
      const overlay = { type: "overlay", source: "overlay", options: [...options, "volatile"] };
      await (await mountAll([overlay], `${t.dir}/root`)).unmount();
      for (const again of [overlay, { ...overlay, options }]) {
        assertMatch(
          await reasonOf([again], `${t.dir}/root`),
          new RegExp(
            '^it was mounted with "volatile" before, so its upper directory may be incomplete: use a new upperdir ' +
              "and workdir, or, if the upper directory can be trusted, remove " +
              `${t.dir}/work/work/incompat/volatile \\((fsconfig|mount): EINVAL\\)$`,
          ),
        );
      }
      Deno.removeSync(`${t.dir}/work/work/incompat/volatile`, { recursive: true }); // as the message advises
      await (await mountAll([overlay], `${t.dir}/root`)).unmount();
    },
  );

  kernelTest(`a missing mountpoint and a missing source have different reasons${way}`, {}, async (t) => {
    using _ = pretendMissing(...missing);
    t.make("root", "source");
    const root = `${t.dir}/root`;
    const bind = (source: string, target = "/") => ({ type: "bind", source, target, options: ["bind"] });
    const advice = ': create it, or add the option "X-mount.mkdir"';
    const cases: [Mount[], RegExp][] = [
      [
        [bind(`${t.dir}/source`, "/sub")],
        RegExp(`^the mountpoint ${root}/sub does not exist${advice} \\(\\w+: ENOENT`),
      ],
      [
        [{ type: "tmpfs", source: "t" }, { type: "tmpfs", source: "t", target: "a/b" }],
        RegExp(`^the mountpoint ${root}/a/b does not exist${advice} \\(`),
      ],
      [[bind(`${t.dir}/none`)], RegExp(`^the source ${t.dir}/none does not exist \\(\\w+: ENOENT\\)$`)],
      [
        [{ type: "", source: "", target: "/sub", options: ["remount", "ro"] }],
        RegExp(`^the mountpoint ${root}/sub does not exist \\(\\w+: ENOENT\\)$`),
      ],
      [
        [{ ...bind(`${t.dir}/source`), options: ["bind", "X-mount.subdir=sub"] }],
        RegExp(`^the source ${t.dir}/source/sub does not exist \\(\\w+: ENOENT\\)$`),
      ],
    ];
    for (const [list, expected] of cases) assertMatch(await reasonOf(list, root), expected);
    Deno.writeTextFileSync(`${root}/file`, "");
    assertMatch(
      await reasonOf([bind(`${t.dir}/source`, "file/sub")], root),
      RegExp(`^a part of the mountpoint ${root}/file/sub is not a directory \\(\\w+: ENOTDIR\\)$`),
    );
    assertEquals(t.mounts(), []);
  });

  kernelTest(
    `a directory on a file and a file on a directory blame neither of the two${way}`,
    {},
    async (t) => {
      using _ = pretendMissing(...missing);
      t.make("root", "source");
      for (const name of ["root-file", "source-file"]) Deno.writeTextFileSync(`${t.dir}/${name}`, "");
      for (const options of [["bind"], ["bind", "ro"], ["rbind", "nosuid"]]) {
        for (const [source, target] of [["source", "root-file"], ["source-file", "root"]]) {
          assertMatch(
            await reasonOf([{ type: "bind", source: `${t.dir}/${source}`, options }], `${t.dir}/${target}`),
            /^a directory can't be mounted on a file, nor a file on a directory \((move_mount|mount): ENOTDIR\)$/,
          );
        }
        const file = [{ type: "bind", source: `${t.dir}/source-file`, options }];
        await using _bound = await mountAll(file, `${t.dir}/root-file`);
        assertEquals(t.mounts().length, 1);
      }
      assertMatch(
        await reasonOf([{ type: "tmpfs", source: "t" }], `${t.dir}/root-file`),
        /^a directory can't be/,
      );
    },
  );
}

kernelTest(
  "the error of a list names the entry's own target, also before anything is mounted",
  {},
  async (t) => {
    t.make("root");
    for (
      const broken of [{ type: "bind", source: "/usr", options: ["bogus"] }, { type: "nofs", source: "x" }]
    ) {
      const list = [{ type: "tmpfs", source: "t" }, {
        ...broken,
        target: "/a",
        options: [...broken.options ?? [], "X-mount.mkdir"],
      }];
      const error = await assertRejects(() => mountAll(list, `${t.dir}/root`), MountError);
      assertEquals(error.target, `${t.dir}/root/a`);
      assert(error.message.includes(` on ${t.dir}/root/a: `), error.message);
    }
    assertEquals(t.mounts(), []);
  },
);

kernelTest("in another namespace a missing mountpoint and a missing source have different reasons", {
  root: true,
  tools: ["unshare"],
  permissions: { run: true },
}, async (t) => {
  t.make("root");
  await using other = await MountNamespace.start();
  const options = { namespace: other.pid };
  const reason = async (mount: Mount) =>
    (await assertRejects(() => mountAll([mount], `${t.dir}/root`, options), MountError)).message;
  assertMatch(
    await reason({ type: "tmpfs", source: "t", target: "sub" }),
    /: the mountpoint .*\/root\/sub does not/,
  );
  assertMatch(await reason({ type: "bind", source: "/none" }), /: the source \/none does not exist \(/);
});

const images: Record<string, (image: string, directory: string) => string> = {
  ext4: (image) => `truncate -s 8M ${image} && mkfs.ext4 -q ${image}`,
  xfs: (image) => `truncate -s 320M ${image} && mkfs.xfs -q ${image}`,
  btrfs: (image) => `truncate -s 128M ${image} && mkfs.btrfs -q ${image}`,
  erofs: (image, directory) => `mkfs.erofs ${image} ${directory}`,
  squashfs: (image, directory) => `mksquashfs ${directory} ${image} -quiet -no-progress`,
};
const harms: Record<string, (image: string) => string> = {
  zeroed: (image) => `dd if=/dev/zero of=${image} bs=64k count=2 conv=notrunc`,
  "cut short": (image) => `truncate -s $(( $(stat -c %s ${image}) / 8192 * 4096 )) ${image}`,
  "another one": (image) => `dd if=/dev/urandom of=${image} bs=64k count=2 conv=notrunc`,
  empty: (image) => `truncate -s 0 ${image}`,
};

for (const [type, make] of Object.entries(images)) {
  kernelTest(`an image of ${type} that is damaged, cut short or another file system is named as such`, {
    root: true,
    tools: [type === "squashfs" ? "mksquashfs" : `mkfs.${type}`],
    permissions: { run: true },
    notEmulated: "its kernels lack some file systems",
  }, async (t) => {
    t.make("root", "directory");
    Deno.writeFileSync(`${t.dir}/directory/file`, crypto.getRandomValues(new Uint8Array(60_000)));
    const image = `${t.dir}/image`;
    const sh = (command: string) => {
      const { success, stderr } = new Deno.Command("sh", { args: ["-c", command] }).outputSync();
      assert(success, `${command}: ${new TextDecoder().decode(stderr)}`);
    };
    sh(make(`${image}.good`, `${t.dir}/directory`));
    for (const [way, missing] of ways) {
      using _ = pretendMissing(...missing);
      for (const [harm, command] of Object.entries(harms)) {
        if (type === "erofs" && harm === "cut short") continue; // it is mounted: the kernel reads the data later
        sh(`cp --sparse=always ${image}.good ${image} && ${command(image)}`);
        const reason = await reasonOf([{ type, source: image, options: ["loop", "ro"] }], `${t.dir}/root`);
        const unreadable = `can't be read as ${type}: it is damaged, or shorter than its file system`;
        const wrong =
          `is not a file system of type ${type}, or its superblock is damaged, or it is cut short`;
        const expected =
          `^${image} (${unreadable}|${wrong})(; dmesg may say more|: .*) \\((fsconfig|mount): E[A-Z]+\\)$`;
        assertMatch(reason, RegExp(expected), `${harm}${way}`);
      }
    }
  });
}

kernelTest("the kernel's own message about an image is kept", {
  root: true,
  tools: ["mksquashfs"],
  permissions: { run: true },
}, async (t) => {
  t.make("root");
  Deno.writeFileSync(`${t.dir}/image`, new Uint8Array(1 << 20));
  const reason = await reasonOf(
    [{ type: "squashfs", source: `${t.dir}/image`, options: ["loop", "ro"] }],
    `${t.dir}/root`,
  );
  assertMatch(reason, /cut short(: .*SQUASHFS superblock.*|; dmesg may say more) \(/);
});

kernelTest("an unknown option of an image is not taken for a damaged image", {
  root: true,
  tools: ["mkfs.ext4"],
  permissions: { run: true },
}, async (t) => {
  t.make("root");
  const image = `${t.dir}/image`;
  new Deno.Command("mkfs.ext4", { args: ["-q", image, "8M"] }).outputSync();
  const reason = await reasonOf(
    [{ type: "ext4", source: image, options: ["loop", "bogus"] }],
    `${t.dir}/root`,
  );
  assertMatch(reason, /Unknown parameter 'bogus'.* \(fsconfig: EINVAL\)$/);
});

const modules = { library: "../../mod.ts", features: "../../linux/syscalls/features.ts" };

/** Runs a script in a child; `reasonOf` and `dir` are at hand in it. Returns the lines that it prints. */
async function inChild(command: string[], dir: string, script: string): Promise<string[]> {
  const [library, features] = Object.values(modules).map((path) =>
    JSON.stringify(new URL(path, import.meta.url))
  );
  Deno.writeTextFileSync(
    `${dir}/script.ts`,
    `import { explain, listMounts, mount, mountAll, prefixFilter } from ${library};
    import { kernelFeatures, pretendMissing } from ${features};
    const [dir] = Deno.args;
    const reasonOf = async (entry, target = dir + "/root") => {
      try {
        await (await mountAll([entry], target)).unmount();
        return "mounted";
      } catch (error) {
        return error.message.replace(/^cannot mount .*? on .*?: /, "");
      }
    };
    ${script}`,
  );
  const deno = [
    Deno.execPath(),
    "run",
    "-A",
    "--quiet",
    "--no-config",
    "--no-check",
    `${dir}/script.ts`,
    dir,
  ];
  const [program = "", ...args] = [...command, ...deno];
  const { stdout, stderr, success } = await new Deno.Command(program, { args }).output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim().split("\n");
}

const inNamespaces = { tools: ["unshare"], permissions: { run: true } } satisfies Needs;
const WAYS = JSON.stringify(ways.map(([, missing]) => missing));

kernelTest(
  "proc, sysfs and others in a user namespace name the namespace that they need",
  inNamespaces,
  async (t) => {
    t.make("root");
    const script = `for (const missing of ${WAYS}) {
    using _ = pretendMissing(...missing);
    for (const type of ["proc", "sysfs", "mqueue"]) console.log(await reasonOf({ type, source: type }));
  }`;
    const lines = await inChild(["unshare", "-Urm", "--propagation", "private"], t.dir, script);
    const sentence = (type: string, kind: string, flags: string) =>
      RegExp(
        `^not permitted: in a user namespace, ${type} needs ${kind} namespace that this user namespace owns ` +
          `\\(unshare --user --map-root-user --mount ${flags}\\).* \\(\\w+: EPERM\\)$`,
      );
    for (const [index, line] of lines.entries()) {
      const expected = [
        sentence("proc", "a PID", "--pid --fork"),
        sentence("sysfs", "a network", "--net"),
        sentence("mqueue", "an IPC", "--ipc"),
      ][index % 3];
      assertMatch(line, expected as RegExp);
    }
    assertEquals(lines.length, 9);
    const owner = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--net", "--ipc"];
    assertEquals(await inChild(owner, t.dir, script), Array(9).fill("mounted"));
  },
);

kernelTest("a file system that a user namespace can't mount says so", inNamespaces, async (t) => {
  t.make("root");
  const script = `for (const missing of ${WAYS}) {
    using _ = pretendMissing(...missing);
    console.log(await reasonOf({ type: "debugfs", source: "d" }));
  }`;
  for (const line of await inChild(["unshare", "-Urm", "--propagation", "private"], t.dir, script)) {
    assertMatch(
      line,
      /^not permitted: debugfs is mounted by root of the initial user namespace only \(\w+: EPERM\)$/,
    );
  }
});

kernelTest(
  "a change of a locked flag in a user namespace says that it is locked",
  inNamespaces,
  async (t) => {
    t.make("root", "source");
    await using _source = await mountAll(
      [{ type: "tmpfs", source: "t", options: ["nosuid", "relatime"] }],
      `${t.dir}/source`,
    );
    const script = `for (const missing of ${WAYS}) {
    using _ = pretendMissing(...missing);
    const source = dir + "/source";
    console.log(await reasonOf({ type: "bind", source, options: ["bind", "noatime"] }));
    console.log(await reasonOf({ type: "", source: "", options: ["remount", "bind", "suid"] }, source));
    console.log(await reasonOf({ type: "", source: "", options: ["remount", "size=2m"] }, source));
  }`;
    const lines = await inChild(["unshare", "-Urm", "--propagation", "private"], t.dir, script);
    const locked = (words: string) =>
      RegExp(
        "^not permitted: the mount is from another user namespace, which has locked its flags: this one can't change " +
          `${words} \\((mount|mount_setattr): EPERM\\)$`,
      );
    const expected = [
      locked('"noatime", "nodiratime", "relatime"'),
      locked('"nosuid"'),
      /^not permitted: only the user namespace that has mounted a file system changes it; .* \((fsconfig|mount): EPERM\)$/,
    ];
    for (const [index, line] of lines.entries()) assertMatch(line, expected[index % 3] as RegExp);
    assertEquals(lines.length, 9);
  },
);

kernelTest(
  "the limit of user namespaces is named",
  { ...inNamespaces, features: ["mountSetattr"] },
  async (t) => {
    t.make("root", "source");
    const script = `Deno.writeTextFileSync("/proc/sys/user/max_user_namespaces", "0");
  const options = ["bind", "uidmap=0:0:1", "gidmap=0:0:1"];
  console.log(await reasonOf({ type: "bind", source: dir + "/source", options }));`;
    const unshare = ["unshare", "-Urm", "--propagation", "private"];
    assertEquals(await inChild(unshare, t.dir, script), [
      "no more user namespaces: the sysctl user.max_user_namespaces limits their number (clone: ENOSPC)",
    ]);
  },
);

const MOUNT_MAX = 200_000; // more would take too long to reach

kernelTest("a full mount table names the sysctl fs.mount-max", {
  ...inNamespaces,
  notEmulated: "it makes 100,000 mounts",
}, async (t) => {
  const limit = Number(readText("/proc/sys/fs/mount-max"));
  if (limit > MOUNT_MAX) return console.log(`fs.mount-max is ${limit}: the test would take too long`);
  t.make("root", "many", "rest");
  // Trees of 1, 2, 4, … mounts, each bound until the table has no room for one more.
  const script = `await mount({ type: "tmpfs", source: "t", options: ["size=1m"] }, dir + "/many");
  const tree = (size) => dir + "/many/" + size;
  Deno.mkdirSync(tree(1));
  await mount({ type: "tmpfs", source: "t" }, tree(1));
  Deno.mkdirSync(tree(1) + "/1");
  let size = 1;
  for (let next = 2; next < ${limit}; next *= 2) {
    Deno.mkdirSync(tree(next));
    if (await grow(size, tree(next)) !== "ok") break;
    if (await grow(size, tree(next) + "/1") !== "ok") break;
    size = next;
  }
  for (; size >= 1; size /= 2) while (await grow(size, dir + "/rest") === "ok"); // in none of the trees
  async function grow(size, target) {
    try {
      await mount({ type: "bind", source: tree(size), options: ["rbind"] }, target);
      return "ok";
    } catch (error) {
      return error.code;
    }
  }
  for (const missing of ${WAYS}) {
    using _ = pretendMissing(...missing);
    console.log(await reasonOf({ type: "bind", source: "/usr", options: ["bind"] }));
    console.log(await reasonOf({ type: "bind", source: "/usr", options: ["bind", "ro"] }));
    console.log(await reasonOf({ type: "tmpfs", source: "t" }));
  }`;
  const lines = await inChild(["unshare", "-Urm", "--propagation", "private"], t.dir, script);
  assertEquals(lines.length, 9);
  for (const line of lines) {
    assertMatch(
      line,
      /^a mount namespace that the mount would be in has as many mounts as the sysctl fs.mount-max allows \((move_mount|mount): ENOSPC\)$/,
    );
  }
});

const MAPS = ["uidmap=0:0:1", "gidmap=0:0:1"];
const unmountable: [string, Feature[], (dir: string) => Mount][] = [
  ["rro", ["mountSetattr"], () => ({ type: "bind", source: "/usr", options: ["rbind", "rro"] })],
  ["rro", WITHOUT_API, () => ({ type: "bind", source: "/usr", options: ["rbind", "rro"] })],
  ["rnoatime", ["mountSetattr"], () => ({ type: "bind", source: "/usr", options: ["rbind", "rnoatime"] })],
  ["a remount with rro", ["mountSetattr"], () => ({ type: "", source: "", options: ["remount", "rro"] })],
  ["an id map", ["mountSetattr"], (dir) => ({ type: "bind", source: dir, options: ["bind", ...MAPS] })],
  ["an id map", WITHOUT_API, (dir) => ({ type: "bind", source: dir, options: ["bind", ...MAPS] })],
  ["an id-mapped tmpfs", ["mountSetattr"], () => ({ type: "tmpfs", source: "t", options: MAPS })],
  [
    "an id map with nosymfollow",
    ["nosymfollow"],
    (dir) => ({ type: "bind", source: dir, options: ["bind", "nosymfollow", ...MAPS] }),
  ],
  [
    "an id-mapped overlay",
    ["mountSetattr"],
    (dir) => ({ type: "overlay", source: "o", options: [`lowerdir=${dir}/a:${dir}/b`, ...MAPS] }),
  ],
  ["a comma", WITHOUT_API, () => ({ type: "tmpfs", source: "t", options: ["size=1m\\,2m"] })],
  ["a mount manager's type", [], () => ({ type: "mkfs/ext4", source: "t" })],
  ["an unknown option", [], () => ({ type: "bind", source: "/usr", options: ["bogus"] })],
];
for (const [what, missing, make] of unmountable) {
  kernelTest(
    `explain() refuses ${what} as mountAll() does${missing.length > 0 ? `, without ${missing}` : ""}`,
    { features: what.includes("id") ? ["mountSetattr"] : [] },
    async (t) => {
      using _ = pretendMissing(...missing);
      t.make("root/sub", "a", "b");
      const list = [{ ...make(t.dir), target: "/sub" }];
      const error = await assertRejects(() => mountAll(list, `${t.dir}/root`), MountError);
      let explained: unknown;
      try {
        explain(list, `${t.dir}/root`);
      } catch (error) {
        explained = error;
      }
      assert(explained instanceof MountError, "explain() does not refuse it");
      assertEquals([explained.message, explained.code, explained.target], [
        error.message,
        error.code,
        error.target,
      ]);
      assertEquals(t.mounts(), []);
    },
  );
}

kernelTest("explain() refuses a FUSE mount without its helper as mountAll() does", {
  ...inNamespaces,
  tools: ["mount.fuse3"],
}, async (t) => {
  t.make("root");
  Deno.writeTextFileSync(`${t.dir}/empty`, "");
  // A file that can't be executed covers the helper.
  const script = `await mount({ type: "bind", source: dir + "/empty" }, "/usr/sbin/mount.fuse3");
  const entry = { type: "fuse3.bindfs", source: "/usr" };
  console.log(await reasonOf(entry));
  try {
    explain([entry], dir + "/root");
  } catch (error) {
    console.log(error.message.replace(/^cannot mount .*? on .*?: /, ""));
  }`;
  const sentence = "mount.fuse3 is not installed: install the package fuse3";
  assertEquals(await inChild(["unshare", "-Urm", "--propagation", "private"], t.dir, script), [
    sentence,
    sentence,
  ]);
});

kernelTest("denomount explain ends with status 1 and the error of a list that can't be mounted", {
  permissions: { run: true, env: true },
}, async (t) => {
  t.make("root");
  Deno.writeTextFileSync(
    `${t.dir}/list.json`,
    JSON.stringify([{ type: "auto", source: "/dev/x", target: "/a" }]),
  );
  const { code, out, err } = await denomount(["explain", `${t.dir}/list.json`, `${t.dir}/root`]);
  assertEquals([code, out], [1, ""]);
  assertMatch(
    err,
    RegExp(`^denomount: cannot mount auto /dev/x on ${t.dir}/root/a: the type "auto" asks to guess`),
  );
});

const filter = new URL("../syscalls/with_filter.ts", import.meta.url).pathname;
// asm-generic/unistd.h; from 424 up, every architecture has the same numbers.
const filtered: Record<string, number> = {
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  fspick: 433,
  openat2: 437,
  mount_setattr: 442,
  statmount: 457,
  listmount: 458,
};
/** Calls without which an id map and a recursive attribute are refused. */
const needed = ["open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"];

for (const errno of ["EPERM", "ENOSYS"]) {
  for (const [name, number] of Object.entries(filtered)) {
    kernelTest(`a seccomp filter of ${name}(2) with ${errno} leaves the fallback, or its absence is named`, {
      root: true,
      features: ["mountSetattr", "overlay"],
      tools: ["mkfs.ext4"],
      permissions: { run: true },
      notEmulated: "it takes long",
    }, async (t) => {
      t.make("root", "source", "lower", "upper", "work");
      Deno.writeTextFileSync(`${t.dir}/file`, "");
      new Deno.Command("mkfs.ext4", { args: ["-q", `${t.dir}/image`, "8M"] }).outputSync();
      const script = `kernelFeatures();
      const show = async (what, ...rest) => console.log(what + ":", await reasonOf(...rest));
      const source = dir + "/source";
      await show("bind", { type: "bind", source, options: ["bind"] });
      await show("read-only bind", { type: "bind", source, options: ["rbind", "ro", "nosuid"] });
      await show("read-only file", { type: "bind", source: "/etc/passwd", options: ["ro"] }, dir + "/file");
      await show("tmpfs", { type: "tmpfs", source: "t", options: ["size=1m", "X-mount.mode=700"] });
      await show("ext4", { type: "ext4", source: dir + "/image", options: ["loop"] });
      const options = ["lowerdir=" + dir + "/lower", "upperdir=" + dir + "/upper", "workdir=" + dir + "/work"];
      await show("overlay", { type: "overlay", source: "o", options });
      const tmpfs = await mount({ type: "tmpfs", source: "t" }, dir + "/root");
      await show("remount", { type: "", source: "", options: ["remount", "size=2m", "noexec"] });
      await show("bind remount", { type: "", source: "", options: ["remount", "bind", "ro"] });
      await show("propagation", { type: "", source: "", options: ["rshared"] });
      const [row] = await listMounts({ filter: prefixFilter(dir) });
      console.log("it is:", row.options, row.optional !== "", row.vfsOptions.includes("size=2048k"));
      await tmpfs.unmount();
      await show("id map", { type: "bind", source, options: ["bind", "uidmap=0:1:9", "gidmap=0:1:9"] });
      await show("rro", { type: "bind", source, options: ["rbind", "rro"] });
      console.log("left:", (await listMounts({ filter: prefixFilter(dir) })).length);`;
      const launcher = [Deno.execPath(), "run", "-A", "--quiet", "--no-check", filter, `${number}`, errno];
      const lines = await inChild(launcher, t.dir, script);
      const mounted = ["bind", "read-only bind", "read-only file", "tmpfs", "ext4", "overlay"];
      const changed = ["remount", "bind remount", "propagation"];
      assertEquals(lines.slice(0, 10), [
        ...[...mounted, ...changed].map((what) => `${what}: mounted`),
        "it is: ro,noexec,relatime true true",
      ]);
      const [idMap = "", rro = ""] = lines.slice(10);
      if (needed.includes(name)) {
        const why = name === "mount_setattr"
          ? "mount_setattr\\(2\\), which came with Linux 5.12 and which a seccomp filter may forbid"
          : "mount_setattr\\(2\\), .*, and the calls of Linux 5.2, such as open_tree\\(2\\), one of which a seccomp filter forbids";
        assertMatch(idMap, RegExp(`^id map: id-mapped mounts need ${why}$`));
        assertMatch(rro, RegExp(`^rro: "rro" changes a tree, which needs ${why}$`));
      } else assertEquals([idMap, rro], ["id map: mounted", "rro: mounted"]);
      assertEquals(lines.slice(12), ["left: 0"]);
    });
  }
}

kernelTest(
  "a bind of a part of a locked tree in a user namespace has the hint to bind all of it",
  inNamespaces,
  async (t) => {
    t.make("root", "source");
    await using _source = await mountAll([{ type: "tmpfs", source: "t" }], `${t.dir}/source`);
    Deno.mkdirSync(`${t.dir}/source/inner`);
    await using _inner = await mountAll([{ type: "tmpfs", source: "t" }], `${t.dir}/source/inner`);
    const script = `for (const missing of ${WAYS}) {
    using _ = pretendMissing(...missing);
    console.log(await reasonOf({ type: "bind", source: dir + "/source", options: ["bind"] }));
    console.log(await reasonOf({ type: "bind", source: dir + "/source", options: ["rbind"] }));
  }`;
    const lines = await inChild(["unshare", "-Urm", "--propagation", "private"], t.dir, script);
    for (const [index, line] of lines.entries()) {
      if (index % 2 === 1) assertEquals(line, "mounted");
      else {
        assertMatch(
          line,
          /^its mount is unbindable, or has mounts below it that a user namespace can't leave out: add "rbind" \((open_tree|mount): EINVAL\)$/,
        );
      }
    }
  },
);

for (const [way, missing] of ways) {
  kernelTest(`a remount of what is not a mountpoint says so${way}`, {}, async (t) => {
    t.make("root");
    using _ = pretendMissing(...missing);
    const lists: [type: string, options: string[]][] = [
      ...["", "tmpfs"].flatMap((type): [string, string[]][] => [
        [type, ["remount", "size=1m"]],
        [type, ["remount", "bind", "ro"]],
      ]),
      ...usesMountSetattr() ? [["", ["rshared"]] satisfies [string, string[]]] : [],
    ];
    for (const [type, options] of lists) {
      assertMatch(
        await reasonOf([{ type, source: "", options }], `${t.dir}/root`),
        /^the target is not a mountpoint \((fspick|mount_setattr|mount): EINVAL\)$/,
      );
    }
  });
}

const LONG = "x".repeat(10_000_000);
const long: Record<string, Mount> = {
  type: { type: LONG, source: "s" },
  "mount manager's type": { type: `mkfs/${LONG}`, source: "s" },
  "FUSE type": { type: `fuse3.${LONG}`, source: LONG },
  source: { type: "bind", source: `/${LONG}`, options: ["bind"] },
  name: { type: "tmpfs", source: LONG },
  image: { type: "ext4", source: `/${LONG}`, options: ["loop"] },
  device: { type: "ext4", source: `/dev/${LONG}` },
  target: { type: "tmpfs", source: "t", target: LONG },
  option: { type: "tmpfs", source: "t", options: [LONG] },
  "option of a bind": { type: "bind", source: "/usr", options: ["bind", LONG] },
  owner: { type: "tmpfs", source: "t", options: [`X-mount.owner=${"9".repeat(10_000_000)}`] },
  layer: { type: "overlay", source: "o", options: [`lowerdir=/usr:/${LONG}`] },
  "work directory": {
    type: "overlay",
    source: "o",
    options: ["lowerdir=/usr", "upperdir=/tmp", `workdir=/${LONG}`],
  },
};
for (const [way, missing] of ways) {
  kernelTest(`a text of 10 MB is cut in an error's message, and whole in its mount${way}`, {
    permissions: { env: true, run: true },
  }, async (t) => {
    using _ = pretendMissing(...missing);
    t.make("root");
    for (const [what, mount] of Object.entries(long)) {
      const error = await assertRejects(() => mountAll([mount], `${t.dir}/root`), MountError);
      assert(error.message.length < 3000, `${what}: ${error.message.length} characters`);
      assert(error.mount === mount, what);
    }
    assertEquals(t.mounts(), []);
  });
}
