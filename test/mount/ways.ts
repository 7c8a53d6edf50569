/**
 * The ways on which a mount can come about: the kinds of mounts, on this kernel, on one that lacks calls, and in another
 * mount namespace. Each says what it can't do, and why.
 *
 * @module
 */

import type { Feature } from "../../linux/syscalls/features.ts";
import type { Mount } from "../../mod.ts";
import type { Needs } from "../harness.ts";
import type { Word } from "./words.ts";

/** What a mount is. */
export type Kind =
  | "bind"
  | "tmpfs"
  | "overlay"
  | "ext4"
  | "fuse"
  | "remount"
  | "remount,bind"
  | "propagation";

/** A way. */
export interface Way {
  /** Its name. */
  readonly name: string;
  /** What is mounted or changed. */
  readonly kind: Kind;
  /** The kernel features that count as missing. */
  readonly missing: readonly Feature[];
  /** Whether the mounts below a bind's source are bound too. */
  readonly recursive?: boolean;
  /** Whether the target is in another mount namespace. */
  readonly namespace?: boolean;
  /** Whether the source is longer than fsconfig(2) takes. */
  readonly long?: boolean;
  /** What the kernel and the machine need. */
  readonly needs: Needs;
}

const old: readonly Feature[] = [
  "mountApi",
  "mountSetattr",
  "nosymfollow",
  "overlayLayers",
  "openat2",
  "statmount",
];
const before512: readonly Feature[] = ["mountSetattr", "nosymfollow", "overlayLayers", "statmount"];
const current: readonly Feature[] = [];
const setattr: Needs = { features: ["mountSetattr", "nosymfollow"] };
const overlay: Needs = { features: ["overlay"] };
const loop: Needs = { root: true, tools: ["mkfs.ext4"] };
const fuse: Needs = { root: true, tools: ["mount.fuse3", "bindfs", "fusermount3", "fusermount"] };
const other: Needs = {
  features: ["mountSetattr", "nosymfollow"],
  tools: ["unshare"],
  permissions: { run: true },
};

/** All of them. */
export const ways: readonly Way[] = [
  { name: "bind by open_tree(2)", kind: "bind", missing: current, needs: setattr },
  { name: "bind by mount(2)", kind: "bind", missing: old, needs: {} },
  { name: "bind without mount_setattr(2)", kind: "bind", missing: before512, needs: {} },
  {
    name: "bind without nosymfollow in mount_setattr(2)",
    kind: "bind",
    missing: ["nosymfollow"],
    needs: setattr,
  },
  { name: "rbind by open_tree(2)", kind: "bind", recursive: true, missing: current, needs: setattr },
  { name: "rbind by mount(2)", kind: "bind", recursive: true, missing: old, needs: {} },
  { name: "rbind without mount_setattr(2)", kind: "bind", recursive: true, missing: before512, needs: {} },
  { name: "overlay by lowerdir+", kind: "overlay", missing: current, needs: { features: ["overlayLayers"] } },
  { name: "overlay by mount(2)", kind: "overlay", missing: ["overlayLayers"], needs: overlay },
  { name: "overlay by mount(2) alone", kind: "overlay", missing: old, needs: overlay },
  { name: "tmpfs by fsopen(2)", kind: "tmpfs", missing: current, needs: setattr },
  { name: "tmpfs by mount(2)", kind: "tmpfs", missing: old, needs: {} },
  { name: "tmpfs with a long source", kind: "tmpfs", long: true, missing: current, needs: setattr },
  { name: "ext4 by fsopen(2)", kind: "ext4", missing: current, needs: { ...setattr, ...loop } },
  { name: "ext4 by mount(2)", kind: "ext4", missing: old, needs: loop },
  { name: "FUSE", kind: "fuse", missing: current, needs: { ...setattr, ...fuse } },
  { name: "FUSE without mount_setattr(2)", kind: "fuse", missing: old, needs: fuse },
  { name: "remount by mount_setattr(2)", kind: "remount", missing: current, needs: setattr },
  { name: "remount by mount(2)", kind: "remount", missing: old, needs: {} },
  { name: "remount,bind by mount_setattr(2)", kind: "remount,bind", missing: current, needs: setattr },
  { name: "remount,bind by mount(2)", kind: "remount,bind", missing: old, needs: {} },
  { name: "propagation by mount_setattr(2)", kind: "propagation", missing: current, needs: setattr },
  { name: "propagation by mount(2)", kind: "propagation", missing: old, needs: {} },
  {
    name: "rbind in another namespace",
    kind: "bind",
    recursive: true,
    namespace: true,
    missing: current,
    needs: other,
  },
  { name: "tmpfs in another namespace", kind: "tmpfs", namespace: true, missing: current, needs: other },
  {
    name: "overlay by mount(2) in another namespace",
    kind: "overlay",
    namespace: true,
    missing: ["overlayLayers"],
    needs: { ...other, features: ["mountSetattr", "nosymfollow", "overlay"] },
  },
  { name: "remount in another namespace", kind: "remount", namespace: true, missing: current, needs: other },
  {
    name: "propagation in another namespace",
    kind: "propagation",
    namespace: true,
    missing: current,
    needs: other,
  },
];

/** A way that changes a mount, and makes none. */
export function changesMount({ kind }: Way): boolean {
  return kind === "remount" || kind === "remount,bind" || kind === "propagation";
}

/**
 * The mount of a way, without the word that is tested.
 *
 * @param way the way.
 * @param dir the directory with the sources.
 * @param source the directory that is bound.
 * @returns the mount.
 */
export function mountOf(way: Way, dir: string, source: string): Mount {
  const layers = [`lowerdir=${dir}/lower1:${dir}/lower2`, `upperdir=${dir}/upper`, `workdir=${dir}/work`];
  switch (way.kind) {
    case "bind":
      return { type: "bind", source, options: [way.recursive ? "rbind" : "bind"] };
    case "tmpfs":
      return { type: "tmpfs", source: way.long ? longPath(dir) : source, options: [] };
    case "overlay":
      // The cells in another namespace are mounted together, and can't have one upper directory.
      return { type: "overlay", source: "overlay", options: way.namespace ? layers.slice(0, 1) : layers };
    case "ext4":
      return { type: "ext4", source: `${dir}/image`, options: ["loop"] };
    case "fuse":
      return { type: "fuse3.bindfs", source, options: [] };
    case "remount":
      return { type: "tmpfs", source: "x", options: ["remount"] };
    case "remount,bind":
      return { type: "none", source: "", options: ["remount", "bind"] };
    case "propagation":
      return { type: "none", source, options: ["private"] };
  }
}

/** A directory whose path is longer than 255 bytes. */
export function longPath(dir: string): string {
  return `${dir}/${"long/".repeat(60)}end`;
}

/** Whether mount(2) has to set the attributes. */
export function lacksSetattr({ missing }: Way): boolean {
  return missing.includes("mountSetattr");
}

/**
 * Why a way can't do what a word says, by what the kernel has for it.
 *
 * @param way the way.
 * @param word the word.
 * @param start "restricted" if the source is read-only.
 * @returns the reason; undefined if the word is to be carried out.
 */
export function obstacle(way: Way, word: Word, start: string): string | undefined {
  const { option, effect, onlySuperblock } = word;
  const { kind } = way;
  if (effect.refused) return "it is refused everywhere";
  const hasOnlyMount = kind === "bind" || kind === "remount,bind" || kind === "propagation";
  if (onlySuperblock && hasOnlyMount) {
    return "a mount has no such flag, and the superblock is another mount's too";
  }
  if (onlySuperblock && kind === "fuse" && option !== "sync" && option !== "dirsync") {
    return "the helper knows no such flag";
  }
  if (option === "dirsync" && kind === "remount") {
    return "the kernel can't change it, fs/namespace.c, MS_RMT_MASK";
  }
  if (effect.tree && effect.attributes && lacksSetattr(way) && (changesMount(way) || way.recursive)) {
    // A bind that grants nothing its source withholds has nothing to do.
    const isGrant = effect.attributes.every((change) => change.startsWith("-") && change !== "-nodiratime");
    if (!(isGrant && kind === "bind")) return "mount(2) changes one mount";
  }
  if (effect.mapped) {
    if (changesMount(way)) return "the kernel maps a mount's ids before it is attached";
    if (kind === "fuse") return "the helper attaches the mount";
    if (lacksSetattr(way)) return "mount(2) can't map ids";
    if (way.long) return "mount(2) makes it, and can't map ids";
  }
  const changesRoot = effect.is === undefined && effect.root !== undefined;
  if (effect.subdir || changesRoot) {
    if (changesMount(way) || kind === "fuse") return "it is for a mount that this library makes";
    if (changesRoot && start === "restricted") return "the source is read-only";
    if (changesRoot && kind === "overlay" && way.namespace) {
      return "an overlay without an upper layer is read-only";
    }
    if (effect.subdir && kind === "tmpfs") return "a new tmpfs has no such directory";
  }
  if (effect.is === "loop" && kind !== "ext4") return "it has no image file";
  if (effect.is === "bind" && (kind === "overlay" || kind === "ext4")) {
    return "a bind has no layers and no loop device";
  }
  if (effect.is === "remount" && kind === "ext4") return "a remount attaches no loop device";
  return undefined;
}
