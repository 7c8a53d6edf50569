/**
 * The option `userNamespace`: the id maps of one namespace for every new mount of a call.
 *
 * @module
 */

import {
  createUserNamespace,
  explain,
  type Mount,
  mount,
  mountAll,
  MountError,
  type OwnedFd,
} from "../../mod.ts";
import { O_PATH, O_RDONLY, O_WRONLY, open, pretendMissing, write } from "../../linux/mod.ts";
import { assertEquals, assertMatch, assertRejects } from "../assert.ts";
import { kernelHas } from "../feature.ts";
import { kernelTest, type Needs } from "../harness.ts";
import { openFiles } from "../kernel.ts";

const needs: Needs = { root: true, features: ["mountSetattr"] };
const bind = (source: string, target: string, ...options: string[]): Mount => ({
  type: "bind",
  source,
  target,
  options,
});
const ownerOf = (path: string) => {
  const { uid, gid } = Deno.statSync(path);
  return [uid, gid];
};

kernelTest("every new mount of a list gets the maps of the call's namespace, given in any way", {
  ...needs,
  features: ["mountSetattr", "overlayLayers", "mappedTmpfs"],
  tools: ["unshare"],
  permissions: { run: true },
}, async (t) => {
  const root = t.make("root/a", "root/b", "root/c", "root/d", "lower", "other", "source").slice(
    0,
    -"/a".length,
  );
  using userns = await createUserNamespace("0:100000:65536", "0:200000:65536");
  const path = `/proc/self/fd/${userns.fd}`;
  const child = new Deno.Command("unshare", {
    args: ["--user", "sh", "-c", "echo ready; exec sleep 600"],
    stdout: "piped",
  }).spawn();
  try {
    const reader = child.stdout.getReader();
    await reader.read();
    await reader.cancel();
    for (const name of ["uid_map", "gid_map"]) {
      using file = open(`/proc/${child.pid}/${name}`, O_WRONLY);
      write(file.fd, new TextEncoder().encode("0 300000 1000"));
    }
    const list: Mount[] = [
      bind(`${t.dir}/source`, "/a"),
      { type: "overlay", source: "o", target: "/b", options: [`lowerdir=${t.dir}/lower:${t.dir}/other`] },
      { type: "tmpfs", source: "t", target: "/c" },
      bind(`${t.dir}/source`, "/d", "rbind"),
      { type: "none", source: "none", target: "/a", options: ["private"] },
      { type: "none", source: "none", target: "/c", options: ["remount", "bind", "nosuid"] },
    ];
    const files = openFiles();
    const given: [OwnedFd | string | number, number[]][] = [
      [userns, [100000, 200000]],
      [path, [100000, 200000]],
      [child.pid, [300000, 300000]],
    ];
    for (const [userNamespace, owner] of given) {
      await using _mounts = await mountAll(list, root, { userNamespace });
      const owners = ["a", "b", "c", "d"].map((name) => ownerOf(`${root}/${name}`));
      assertEquals(owners, Array(4).fill(owner), `${typeof userNamespace}`);
    }
    assertEquals([openFiles(), userns.isOpen], [files, true]);
  } finally {
    child.kill("SIGKILL");
    await child.status;
  }
});

kernelTest("idmap maps the top mount of a recursive bind alone, ridmap and nothing the whole tree", {
  ...needs,
  features: ["mountSetattr", "mappedTmpfs"],
}, async (t) => {
  const [root, source] = [t.make("root"), t.make("source")];
  await using _in = await mount(
    { type: "tmpfs", source: "in", target: "/in", options: ["X-mount.mkdir"] },
    source,
  );
  using userNamespace = await createUserNamespace("0:100000:65536", "0:100000:65536");
  for (const [word, inner] of [["idmap", 0], ["ridmap", 100000], [undefined, 100000]] as const) {
    const options = ["rbind", ...word === undefined ? [] : [word]];
    await using _mount = await mount(bind(source, "/", ...options), root, { userNamespace });
    assertEquals([ownerOf(root)[0], ownerOf(`${root}/in`)[0]], [100000, inner], word);
  }
});

const COUNT = 1000;

kernelTest(`${COUNT} mapped mounts with one namespace start no process`, {
  ...needs,
  tools: ["strace"],
  permissions: { run: true },
}, async (t) => {
  const root = t.make("root", "source");
  Deno.writeTextFileSync(
    `${t.dir}/program.ts`,
    `import { createUserNamespace, mount } from "${new URL("../../mod.ts", import.meta.url).href}";
     using userNamespace = await createUserNamespace("0:100000:65536", "0:100000:65536");
     const mounts = new AsyncDisposableStack();
     for (let count = 0; count < ${COUNT}; count++) {
       mounts.use(await mount({ type: "bind", source: "${t.dir}/source" }, "${root}", { userNamespace }));
     }
     console.log(Deno.statSync("${root}").uid);
     const { uid } = Deno.statSync("${root}");
     await mounts.disposeAsync();
     if (uid !== 100000) throw new Error("not mapped");`,
  );
  const program = [Deno.execPath(), "run", "--quiet", "-A", "--no-config", `${t.dir}/program.ts`];
  const trace = ["-f", "-qq", "--seccomp-bpf", "-o", `${t.dir}/trace`];
  const { code, stdout, stderr } = await new Deno.Command("strace", {
    args: [...trace, "--trace=!futex,mmap,munmap,madvise,statx,openat2,close", ...program],
  }).output();
  const [out, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals([code, out, error], [0, "100000\n", ""]);
  const lines = Deno.readTextFileSync(`${t.dir}/trace`).split("\n");
  const count = (pattern: RegExp) => lines.filter((line) => pattern.test(line)).length;
  // 467, asm-generic/unistd.h, is open_tree_attr(2), for which strace 6.1 has no name.
  assertEquals(count(/mount_setattr\(.*MOUNT_ATTR_IDMAP|syscall_0x1d3\((?!.* = -1)/), COUNT);
  // Threads of the runtime apart, the namespace's own child is the only one.
  const children = lines.filter((line) =>
    /\b(clone3?|v?fork)\(/.test(line) && !line.includes("CLONE_THREAD")
  );
  assertEquals(children.length, 1, children.join("\n"));
  assertMatch(children[0] ?? "", /CLONE_NEWUSER/);
});

kernelTest("what has maps of its own, or can't be mapped, is refused, and so is what is no namespace", {
  ...needs,
  permissions: { run: true },
}, async (t) => {
  const root = t.make("root", "source");
  const source = `${t.dir}/source`;
  using userNamespace = await createUserNamespace("0:100000:65536", "0:100000:65536");
  using directory = open("/", O_PATH);
  using other = open("/proc/self/ns/mnt", O_RDONLY);
  const refuse = async (entry: Mount, given: OwnedFd | number | string, sentence: string) => {
    await assertRejects(() => mount(entry, root, { userNamespace: given }), MountError, sentence);
    assertEquals(t.mounts(), []);
  };
  const own = ["uidmap=0:1:1", "gidmap=0:1:1"];
  await refuse(
    bind(source, "/", ...own),
    userNamespace,
    '"uidmap=" and the call\'s user namespace contradict',
  );
  await refuse(bind(source, "/", "gidmap=0:1:1"), userNamespace, "contradict each other");
  await refuse(
    bind(source, "/", "X-mount.idmap=0:1:1"),
    userNamespace,
    '"X-mount.idmap=" and the call\'s user',
  );
  await refuse({ type: "proc", source: "proc" }, userNamespace, "proc can't be id-mapped");
  await refuse(
    { type: "fuse3.bindfs", source },
    userNamespace,
    "FUSE helper mounts it itself, without an id map",
  );
  await refuse({ type: "none", source: "", options: ["private", "idmap"] }, userNamespace, "for a new mount");
  await refuse(bind(source, "/"), directory, "no user namespace");
  await refuse(bind(source, "/"), other, "no user namespace");
  await refuse(bind(source, "/"), "/proc/self/ns/mnt", "/proc/self/ns/mnt is no user namespace");
  await refuse(bind(source, "/"), "/none", "/none does not exist");
  await refuse(bind(source, "/"), "/etc", "/etc is no user namespace");
  await refuse(bind(source, "/"), 2 ** 22 + 1, "there is no process 4194305");
  await refuse(bind(source, "/"), -1, "a pid is a positive whole number");
  await refuse(bind(source, "/"), "/proc/self/ns/user", "the initial user namespace maps nothing");
  using _ = pretendMissing("mountSetattr");
  await refuse(bind(source, "/"), userNamespace, "Linux 5.12");
});

kernelTest("explain() opens the call's namespace once and creates none", needs, async (t) => {
  using userNamespace = await createUserNamespace("0:100000:65536", "0:100000:65536");
  const list = [bind("/usr", "/"), bind("/etc", "/")];
  const calls = (given: OwnedFd | number | string) =>
    explain(list, t.dir, { userNamespace: given }).map(({ call }) => call);
  const one = [
    ...kernelHas("openTreeAttr") ? ["open_tree_attr"] : ["open_tree", "mount_setattr"],
    "move_mount",
  ];
  const both = [...one, ...one];
  assertEquals(calls(userNamespace), both);
  assertEquals(calls("/proc/1/ns/user"), ["open", ...both]);
  assertEquals(calls(1).slice(-both.length), both);
});
