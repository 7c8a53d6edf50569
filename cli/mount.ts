/**
 * `denomount mount`: one mount, in the words of mount(8).
 *
 * @module
 */

import { isErrno } from "../ffi/errno.ts";
import type { ProbeResult } from "../linux/filesystem/probe.ts";
import { mount, type MountHandle } from "../linux/mount/mount.ts";
import { findProgram } from "../linux/path/program.ts";
import { readTextFile } from "../linux/path/text_file.ts";
import { openMayWait } from "../linux/path/cached_lookup.ts";
import type { WaitOptions } from "../linux/path/wait.ts";
import { MountError } from "../linux/spec/error.ts";
import type { Mount } from "../linux/spec/mount.ts";
import { helperOf } from "../linux/spec/plan.ts";
import { readSize } from "../linux/spec/size.ts";
import { splitOptions } from "../linux/spec/split_options.ts";
import {
  AT_EMPTY_PATH,
  AT_STATX_DONT_SYNC,
  O_PATH,
  S_IFBLK,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  STATX_TYPE,
} from "../linux/syscalls/constants.ts";
import { statx } from "../linux/syscalls/mod.ts";
import { errorMessage } from "./errors.ts";
import { withNamespaceErrors } from "./namespace.ts";
import { escapeControl, printError } from "./print.ts";
import { withProgress } from "./progress.ts";
import { DeferredSignals } from "./signals.ts";

/** The options of `mount`. */
export interface MountFlags {
  /** The type of the file system. */
  type?: string;
  /** Options, several of them joined by commas. */
  options?: string[];
  /** Binds the source. */
  bind?: true;
  /** Binds the source with the mounts below it. */
  rbind?: true;
  /** Moves a mount. */
  move?: true;
  /** Mounts beneath what is mounted on the target. */
  beneath?: true;
  /** Read-only. */
  readOnly?: true;
  /** Writable, or an error. */
  readWrite?: true;
  /** Makes the mountpoint. */
  mkdir?: true;
  /** Changes of propagation, such as "shared" and "rslave", in their order. */
  propagation?: string[];
  /** The process whose mount namespace contains the target. */
  namespace?: number;
}

/** The exit status of a failed mount, as mount(8)'s. */
const MOUNT_FAILED = 32;

/**
 * Mounts, or changes a mount, as mount(8) does with these words.
 *
 * @param operands the source and the target, or the target alone of a change.
 * @param flags the options.
 * @returns the exit status.
 */
export async function mountWords(operands: readonly string[], flags: MountFlags): Promise<number> {
  using signals = new DeferredSignals();
  let handle: MountHandle | undefined;
  try {
    handle = await signals.abortable((signal) => {
      const work = withNamespaceErrors(flags.namespace, () => mountOrMove(operands, flags, signal));
      return withProgress(`mounting on ${escapeControl(operands.at(-1) ?? "")}`, work);
    });
  } catch (error) {
    printError(`denomount: ${escapeControl(errorMessage(error))}`);
    return MOUNT_FAILED;
  }
  const status = await signals.status();
  if (status !== undefined) await handle?.unmount();
  return status ?? 0;
}

async function mountOrMove(
  operands: readonly string[],
  flags: MountFlags,
  signal: AbortSignal,
): Promise<MountHandle | undefined> {
  const [first = "", second] = operands;
  const target = second ?? first;
  const source = second === undefined ? undefined : first;
  const options = optionsOf(flags);
  if (flags.move) return await move(source, target, { ...flags, options }, signal);
  const wanted = await mountOf(source, target, { ...flags, options }, signal);
  if (flags.beneath) {
    if (flags.namespace !== undefined) throw new Error("--beneath and --namespace don't go together");
    const { mountBeneath } = await loadMove();
    await mountBeneath(wanted, target, { signal });
    return undefined;
  }
  const where = flags.namespace === undefined ? {} : { namespace: flags.namespace };
  return await mountOrReadonly(wanted, target, flags, (spec) => mount(spec, target, { signal, ...where }));
}

function optionsOf({ options = [], bind, rbind, readOnly, readWrite, mkdir, propagation = [] }: MountFlags) {
  return [
    ...bind ? ["bind"] : [],
    ...rbind ? ["rbind"] : [],
    ...options.flatMap(splitOptions),
    ...readOnly ? ["ro"] : [],
    ...readWrite ? ["rw"] : [],
    ...mkdir ? ["X-mount.mkdir"] : [],
    ...propagation,
  ];
}

const loadMove = () => import("../linux/mount/move.ts");

async function move(
  source: string | undefined,
  target: string,
  { options = [], beneath, namespace, type }: MountFlags,
  signal: AbortSignal,
): Promise<undefined> {
  if (source === undefined) throw new Error("--move needs SOURCE and TARGET");
  if (options.length > 0 || type !== undefined) {
    throw new Error("--move moves a mount as it is: change it before or after, with -o remount");
  }
  const { moveMountTo } = await loadMove();
  const work = () => moveMountTo(source, target, { beneath, signal });
  if (namespace === undefined) return void await work();
  const { runInNamespace } = await import("../linux/namespace/mount.ts");
  await runInNamespace(namespace, work);
}

const CHANGE = /^(remount|bind|rbind|r?(shared|slave|private|unbindable))$/;

/** The mount that the words say, with its type and its device found out. */
async function mountOf(
  given: string | undefined,
  target: string,
  { type = "auto", options = [] }: MountFlags,
  wait: WaitOptions["signal"],
): Promise<Mount> {
  if (options.some((option) => CHANGE.test(option)) && (type === "auto" || type === "none")) {
    const isBind = options.includes("bind") || options.includes("rbind");
    if (isBind && given === undefined && !options.includes("remount")) {
      throw new Error("a bind needs SOURCE and TARGET");
    }
    return { type: "", source: given ?? "none", options };
  }
  if (given === undefined) {
    throw new Error(`name SOURCE and TARGET: /etc/fstab is not read, so ${target} alone says too little`);
  }
  const signal = { signal: wait };
  const { findTagged, probe } = await import("../linux/filesystem/probe.ts");
  const source = await findTagged(given, signal) ?? given;
  const known = type === "auto" ? networkType(source) : type;
  if (known !== undefined && known !== "auto") {
    const mount = { type: withHelper(known), source, options: withoutGuesses(options) };
    if (helperOf(mount) !== undefined || !mayBeImage(known)) return mount;
  }
  const kind = await kindOf(source, signal);
  if (known === undefined || known === "auto") {
    return await guessed(source, kind, options, (range) => probe(source, { ...range, ...signal }));
  }
  const part = await partitionOf(source, kind, options, () => probe(source, signal));
  return {
    type: withHelper(known),
    source,
    options: [...loopFor(kind, options), ...withoutGuesses(part.options)],
  };
}

/** As mount(8) guesses. */
function networkType(source: string): string | undefined {
  if (/^[^/]+:\//.test(source)) return "nfs";
  return source.startsWith("//") ? "cifs" : undefined;
}

/** Whether a file system of this type is on a device, so that a regular file needs a loop device. */
function mayBeImage(type: string): boolean {
  if (type === "erofs") return true; // the kernel lists it as one without a device
  return !/[./]/.test(type) && !isListed(type, "nodev\t");
}

/** Whether the kernel lists a type in /proc/filesystems. */
function isListed(type: string, before: string): boolean {
  return readTextFile("/proc/filesystems").split("\n").includes(before + type);
}

/** A type that the kernel does not know may have a program that mounts it, which mount(8) starts too. */
function withHelper(type: string): string {
  if (!/^[\w-]+$/.test(type) || isListed(type, "nodev\t") || isListed(type, "\t")) return type;
  return findProgram(`mount.${type}`) === undefined ? type : `mount.${type}`;
}

async function kindOf(source: string, wait: WaitOptions): Promise<number | undefined> {
  try {
    using file = await openMayWait(source, O_PATH, wait);
    return statx(file.fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE).mode & S_IFMT;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

/** The part of an image that a mount is of. */
interface Part {
  options: string[];
  range: { offset?: number; size?: number };
}

type Probe<T> = (range: Part["range"]) => Promise<T>;

async function guessed(
  source: string,
  kind: number | undefined,
  options: string[],
  probe: Probe<ProbeResult>,
): Promise<Mount> {
  if (kind === undefined) throw new Error(`${source} does not exist`);
  if (kind === S_IFDIR) throw new Error(`${source} is a directory: add --bind, or name the type with -t`);
  const { range, options: rest } = await partitionOf(source, kind, options, () => probe({}));
  const { type, usage, partitions } = await probe(range);
  if (type === undefined) {
    const hint = partitions.length > 0
      ? `; it has partitions: add -o partition=${partitions[0]?.number}`
      : "";
    throw new Error(`${source} has no file system that blkid knows${hint || "; name its type with -t"}`);
  }
  if (usage !== undefined && usage !== "filesystem") {
    throw new Error(`${source} is no file system, but ${type} (${usage})`);
  }
  refuseType(type, options);
  const mount = { type: withHelper(type), source, options: withoutGuesses(rest) };
  return helperOf(mount) === undefined
    ? { ...mount, options: [...loopFor(kind, options), ...mount.options] }
    : mount;
}

function loopFor(kind: number | undefined, options: readonly string[]): string[] {
  return kind === S_IFREG && !options.includes("X-mount.noloop") ? ["loop"] : [];
}

const AUTO_TYPES = "X-mount.auto-fstypes=";

/** mount(8): the types that may be guessed, or with "no" before the first one those that may not. */
function refuseType(type: string, options: readonly string[]): void {
  const list = options.findLast((option) => option.startsWith(AUTO_TYPES))?.slice(AUTO_TYPES.length);
  if (list === undefined) return;
  const names = list.replace(/^no/, "").split(",");
  if (names.includes(type) === list.startsWith("no")) {
    throw new Error(`it is ${type}, which ${AUTO_TYPES}${list} does not allow`);
  }
}

function withoutGuesses(options: readonly string[]): string[] {
  return options.filter((option) => !option.startsWith(AUTO_TYPES));
}

const PARTITION = "partition=";

/** `partition=2` of an image: its offset and its size. */
async function partitionOf(
  source: string,
  kind: number | undefined,
  options: readonly string[],
  probe: () => Promise<ProbeResult>,
): Promise<Part> {
  const rest = options.filter((option) => !option.startsWith(PARTITION));
  const wanted = options.findLast((option) => option.startsWith(PARTITION))?.slice(PARTITION.length);
  if (wanted === undefined) return { options: rest, range: rangeOf(rest) };
  if (kind === S_IFBLK) throw new Error(`${source} is a device: name its partition's own device`);
  if (kind !== S_IFREG) throw new Error(`${source} is no image file, which ${PARTITION} is for`);
  if (!/^[1-9]\d{0,3}$/.test(wanted)) {
    throw new Error(`${PARTITION}${wanted} is not the number of a partition`);
  }
  const { partitions } = await probe();
  const found = partitions.find(({ number }) => number === Number(wanted));
  if (found === undefined) {
    const others = partitions.map(({ number }) => number).join(", ") || "none";
    throw new Error(`${source} has no partition ${wanted}; it has ${others}`);
  }
  const { offset, size } = found;
  return { options: [...rest, `offset=${offset}`, `sizelimit=${size}`], range: { offset, size } };
}

/** The range of `offset=` and `sizelimit=`, which a guess looks at too. */
function rangeOf(options: readonly string[]): Part["range"] {
  const value = (name: string) => {
    const text = options.findLast((option) => option.startsWith(name))?.slice(name.length);
    return text === undefined ? undefined : readSize(text);
  };
  const [offset, size] = [value("offset="), value("sizelimit=")];
  return { ...offset === undefined ? {} : { offset }, ...size === undefined ? {} : { size } };
}

/** As mount(8): a source that can't be written is mounted read-only, with a warning, unless -w forbids it. */
async function mountOrReadonly(
  spec: Mount,
  target: string,
  { readWrite }: MountFlags,
  mount: (spec: Mount) => Promise<MountHandle>,
): Promise<MountHandle> {
  try {
    return await mount(spec);
  } catch (error) {
    if (
      !isWriteProtected(error) || spec.type === "" || spec.options?.some((word) => /^r?ro(=|$)/.test(word))
    ) {
      throw error;
    }
    if (readWrite) {
      throw new Error(`${spec.source} is write-protected, and -w asks for a writable mount`, {
        cause: error,
      });
    }
    const handle = await mount({ ...spec, options: [...spec.options ?? [], "ro"] }).catch(() => {
      throw error; // the first failure explains it
    });
    printError(`denomount: ${escapeControl(target)}: the source is write-protected, mounted read-only`);
    return handle;
  }
}

function isWriteProtected(error: unknown): boolean {
  return error instanceof MountError && (error.code === "EROFS" || error.code === "EACCES");
}
