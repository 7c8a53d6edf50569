/**
 * The mounts that an overlay's layers are mapped with, as the kernel shows them while they exist.
 *
 * @module
 */

import { cleanupTempMounts, createUserNamespace, setTempMountLocation } from "../../mod.ts";
import { errnoNumber, SyscallError } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { explainIdMap } from "../../linux/idmap/explain.ts";
import { AttachedLayers, openMappedLayers } from "../../linux/idmap/mapped_layers.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  mkdir,
  mount,
  MS_SHARED,
  O_RDONLY,
  open,
  statx,
  STATX_BASIC_STATS,
  umount2,
} from "../../linux/mod.ts";
import { assert, assertEquals, assertNotEquals, assertThrows } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { names, readText } from "../kernel.ts";
import { otherMount } from "../other_mount.ts";

const needs = { root: true, features: ["mountSetattr"] } as const;

const mountIdOf = (fd: OwnedFd | undefined) =>
  /mnt_id:\t(\d+)/.exec(readText(`/proc/self/fdinfo/${fd?.fd}`) ?? "")?.[1];
const statOf = (fd: OwnedFd | undefined) => statx(fd?.fd ?? -1, "", AT_EMPTY_PATH, STATX_BASIC_STATS);
const inodeAt = (path = "") => statx(AT_FDCWD, path, 0, STATX_BASIC_STATS).inode;

/** A shared mount with two layers in it. */
async function sharedLayers(t: KernelContext) {
  t.make("shared/a/below", "shared/b/below", "temporary"); // hidden by the mount: none of them is a layer
  const shared = await otherMount(`${t.dir}/shared`);
  mount("", `${t.dir}/shared`, "", MS_SHARED, "");
  const layers = ["a", "b"].map((name) => t.make("", `shared/${name}/below`) && `${t.dir}/shared/${name}`);
  return { layers, [Symbol.asyncDispose]: () => shared[Symbol.asyncDispose]() };
}

kernelTest("attached layers are id-mapped, read-only and in no peer group", {
  ...needs,
  privateDirectory: true,
}, async (t) => {
  await using shared = await sharedLayers(t);
  using userns = await createUserNamespace("0:1000:10", "0:2000:10");
  await setTempMountLocation(`${t.dir}/temporary`);
  {
    await using layers = await AttachedLayers.attach(shared.layers, userns);
    const [row, ...others] = t.mounts().filter(({ mountpoint }) => mountpoint.startsWith("/temporary"));
    assertEquals(others, []);
    assertEquals([row?.options.includes("idmapped"), row?.options.includes("ro")], [true, true]);
    assertEquals(row?.optional, "");
    for (const path of shared.layers) {
      const { uid, gid } = Deno.statSync(layers.paths.get(path) ?? "");
      assertEquals([uid, gid], [1000, 2000]);
    }
    mount("t", `${shared.layers[0]}/below`, "tmpfs", 0, "");
    assertEquals(t.mounts().filter(({ mountpoint }) => mountpoint.startsWith("/temporary")).length, 1);
    umount2(`${shared.layers[0]}/below`, 0);
  }
  assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/shared"]);
  await setTempMountLocation("/tmp");
});

kernelTest(
  "detached layers are id-mapped and read-only, and those of a mount have one clone",
  needs,
  async (t) => {
    t.make("other/c"); // hidden, as those below "shared"
    await using shared = await sharedLayers(t);
    await using _other = await otherMount(`${t.dir}/other`);
    t.make("other/c");
    Deno.symlinkSync(shared.layers[0] ?? "", `${t.dir}/link`);
    using userns = await createUserNamespace("0:1000:10", "0:2000:10");
    for (const first of [shared.layers[0] ?? "", `${t.dir}/link`]) {
      using keep = new OwnedFds();
      const paths = [first, shared.layers[1] ?? "", `${t.dir}/other/c`];
      const [a, b, c] = await openMappedLayers(paths, userns, keep);
      assertEquals(mountIdOf(a), mountIdOf(b));
      assertNotEquals(mountIdOf(a), mountIdOf(c));
      for (const [index, layer] of [a, b, c].entries()) {
        const { uid, gid, inode } = statOf(layer);
        assertEquals([uid, gid, inode], [1000, 2000, inodeAt(paths[index])]);
        const error = assertThrows(() => mkdir(`/proc/self/fd/${layer?.fd}/new`, 0o700), SyscallError);
        assertEquals(error.code, "EROFS");
      }
    }
  },
);

kernelTest("layers whose common directory is the root have one clone too", needs, async () => {
  using userns = await createUserNamespace("0:1000:10", "0:2000:10");
  using keep = new OwnedFds();
  const paths = ["/etc", "/usr"];
  const parts = await openMappedLayers(["/"], userns, keep).catch((error) => error);
  if (parts instanceof Error) return; // the root file system of this machine can't be id-mapped
  const [etc, usr] = await openMappedLayers(paths, userns, keep);
  const devices = paths.map((path) => Deno.statSync(path).dev);
  assertEquals(
    mountIdOf(etc) === mountIdOf(usr),
    devices.every((device) => device === Deno.statSync("/").dev),
  );
  for (const [index, layer] of [etc, usr].entries()) {
    assertEquals(statOf(layer).inode, inodeAt(paths[index]));
  }
});

kernelTest("a relative link in a layer's path leads where it leads without the clone", needs, async (t) => {
  t.make("layers/a", "layers/elsewhere/c", "elsewhere/c");
  Deno.symlinkSync("../elsewhere", `${t.dir}/layers/link`); // in a clone of "layers", .. is the clone's root
  using userns = await createUserNamespace("0:1000:10", "0:2000:10");
  using keep = new OwnedFds();
  const paths = [`${t.dir}/layers/a`, `${t.dir}/layers/link/c`];
  const layers = await openMappedLayers(paths, userns, keep);
  for (const [index, layer] of layers.entries()) {
    assertEquals(statOf(layer).inode, inodeAt(paths[index]));
  }
});

kernelTest("a path with .. leads where the kernel says", needs, async (t) => {
  t.make("layers/a", "b/c", "b/a");
  Deno.symlinkSync("../b/c", `${t.dir}/layers/link`);
  using userns = await createUserNamespace("0:1000:10", "0:2000:10");
  const [plain, dots, linked] = ["layers/a", "layers/../layers/a", "layers/link/../a"].map((path) =>
    `${t.dir}/${path}`
  );
  for (const paths of [[dots], [linked], [plain, dots, linked]]) {
    using keep = new OwnedFds();
    const layers = await openMappedLayers(paths.map(String), userns, keep);
    assertEquals(layers.map((layer) => statOf(layer).inode), paths.map(inodeAt));
  }
});

kernelTest("attached layers that are busy are left to cleanupTempMounts()", needs, async (t) => {
  await using shared = await sharedLayers(t);
  using userns = await createUserNamespace("0:1000:10", "0:2000:10");
  await setTempMountLocation(`${t.dir}/temporary`);
  const { warn } = console;
  const warnings: string[] = [];
  try {
    console.warn = (text: string) => void warnings.push(text);
    const layers = await AttachedLayers.attach(shared.layers, userns);
    using _held = open(layers.paths.get(shared.layers[0] ?? "") ?? "", O_RDONLY);
    await layers[Symbol.asyncDispose]();
  } finally {
    console.warn = warn;
  }
  assertEquals(
    warnings.map((text) => /^id-mapped layers stay at .* until cleanupTempMounts\(\): .*EBUSY/.test(text)),
    [true],
  );
  assertEquals(t.mounts().length, 2);
  assertEquals(await cleanupTempMounts(), []);
  assertEquals([t.mounts().length, names(`${t.dir}/temporary`)], [1, []]);
  await setTempMountLocation("/tmp");
});

const failed = (syscall: string, code: string) => new SyscallError({ syscall, errno: errnoNumber(code) });

kernelTest("only a refusal of the id map itself is explained", needs, async (t) => {
  t.make("source/a/b");
  await using _hidden = await otherMount(`${t.dir}/source/a/b`);
  await using _above = await otherMount(`${t.dir}/source/a`); // open_tree(2) of the other one is ENOENT
  using userns = await createUserNamespace("0:1000:10", "0:2000:10");
  const refused = failed("mount_setattr", "EINVAL");
  assertEquals(await explainIdMap(refused, `${t.dir}/source`, userns, true), refused);
  const named = await explainIdMap(refused, "/proc", userns, false);
  assert(named instanceof Error && named.message.includes("proc, at /proc, can't be id-mapped"));
  for (
    const other of [failed("open_tree", "EINVAL"), failed("mount_setattr", "ENOSYS"), new TypeError("x")]
  ) {
    assertEquals(await explainIdMap(other, "/proc", userns, false), other);
  }
});
