/**
 * Option lists as fstab and containerd write them, read once into a value that says what to do.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";
import { mapFileText } from "./id_mapping.ts";
import { type AttributeChange, ATTRIBUTES, type AttributeWord, WORDS } from "./option_table.ts";
import { needsManager } from "./needs_manager.ts";
import { unescapeLayer } from "./overlay_options.ts";
import { readSize } from "./size.ts";
import { splitOptions } from "./split_options.ts";
import { type IdMapText, isXMount, readXMount, type XMount } from "./x_mount.ts";
import { MOUNT_ATTR__ATIME } from "../syscalls/constants.ts";

export type { AttributeChange } from "./option_table.ts";
export { isIdMap, splitOptions } from "./split_options.ts";

/** A change of a mount's propagation. */
export interface PropagationStep {
  /** `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`. */
  readonly type: number;
  /** Whether the mounts below are changed too. */
  readonly recursive: boolean;
}

/** How to attach a loop device for a mount. */
export interface LoopOption {
  /** Whether it bypasses the page cache. */
  direct: boolean;
  /** Where the data begins in the backing file, in bytes. */
  offset?: number;
  /** How much of the backing file is used, in bytes. */
  sizeLimit?: number;
}

/** Id maps, as the kernel's uid_map and gid_map files take them; or the namespace file that has them. */
export interface IdMaps {
  /** The user ids, a line for each range. */
  readonly uid: string;
  /** The group ids. */
  readonly gid: string;
  /** The file of a user namespace whose maps are taken instead. */
  readonly file?: string;
  /** Whether the top mount alone is mapped, though the bind is recursive: OCI's `idmap`. */
  readonly topOnly?: boolean;
  /**
   * Present if the maps are those of the call's `userNamespace`: "implied" if the mount says nothing about it, "asked" if
   * it has OCI's word `idmap` or `ridmap`.
   */
  readonly ofCall?: "implied" | "asked";
}

/** What a list of options says. */
export interface ParsedOptions {
  /** A bind mount. */
  bind: boolean;
  /** A bind of the whole tree of mounts. */
  recursive: boolean;
  /** A change of an existing mount. */
  remount: boolean;
  /** Attributes of the mount. */
  attributes: AttributeChange;
  /** Attributes of the mount and of every mount below it. */
  recursiveAttributes: AttributeChange;
  /** Flags of the superblock, as fsconfig(2) names them: "ro", "sync", … */
  superFlags: string[];
  /** Words that name the superblock, such as "ro=fs". */
  superWords: string[];
  /** Changes of propagation, after the mount is attached. */
  propagation: PropagationStep[];
  /** The file system's own parameters, one to an entry. */
  data: string[];
  /** Security contexts, which only an SELinux kernel knows. */
  labels: string[];
  /** Lower layers of an id-mapped overlay that keep their owners: this library's own `X-denomount.unmapped=`. */
  unmapped: string[];
  /** Instructions that begin with `X-mount.`. */
  xMount: XMount;
  /** Present if a loop device is wanted. */
  loop?: LoopOption;
  /** Present if the mount is to be id-mapped. */
  idMaps?: IdMaps;
}

/** What counts when all options are read. */
interface Seen {
  loop: boolean;
  uid: string | undefined;
  gid: string | undefined;
  idmap: "top" | "tree" | undefined;
  implied: boolean;
  takenBack: boolean;
}

/**
 * Reads a list of options.
 *
 * @param options the options; an entry with commas counts as several.
 * @param isMapped whether the call has a user namespace whose maps every new mount gets.
 * @returns what they say.
 * @throws {TypeError} for what this library can't do, or what contradicts itself.
 */
export function parseOptions(options: readonly string[], isMapped = false): ParsedOptions {
  const parsed: ParsedOptions = {
    bind: false,
    recursive: false,
    remount: false,
    attributes: NO_CHANGE,
    recursiveAttributes: NO_CHANGE,
    superFlags: [],
    superWords: [],
    propagation: [],
    data: [],
    labels: [],
    unmapped: [],
    xMount: NO_INSTRUCTIONS,
  };
  const seen: Seen = {
    loop: false,
    uid: undefined,
    gid: undefined,
    idmap: undefined,
    implied: false,
    takenBack: false,
  };
  for (const entry of options) {
    if (!entry.includes(",")) readOption(entry, parsed, seen);
    else for (const option of splitOptions(entry)) readOption(option, parsed, seen);
  }
  if (seen.implied && seen.takenBack) return parseOptions(withoutTakenBack(options), isMapped);
  readIdMaps(parsed, seen, isMapped);
  readLoop(parsed, seen);
  return parsed;
}

const NO_CHANGE: AttributeChange = { set: 0, clear: 0 };
const NO_INSTRUCTIONS: XMount = {};

function readOption(option: string, parsed: ParsedOptions, seen: Seen): void {
  const spec = WORDS.get(option);
  if (spec === undefined) return readOther(option, parsed, seen);
  const { kind, attribute, tree = false, superFlag, propagation, recursive = false, implied, takesBack } =
    spec;
  if (attribute) changeAttributes(parsed, attribute, tree);
  if (superFlag !== undefined) parsed.superFlags.push(superFlag);
  if (propagation !== undefined) parsed.propagation.push({ type: propagation, recursive });
  if (kind === "bind") {
    parsed.bind = true;
    parsed.recursive ||= recursive;
  } else if (kind === "remount") parsed.remount = true;
  else if (kind === "loop") seen.loop = true;
  else if (kind === "idmap") seen.idmap = recursive ? "tree" : "top";
  if (implied) {
    seen.implied = true;
    for (const word of implied) readOption(word, parsed, seen);
  }
  if (takesBack !== undefined) seen.takenBack = true;
}

/** Without the words that a later word takes back, and without those: `user,nouser` says nothing. */
function withoutTakenBack(options: readonly string[]): string[] {
  const kept: string[] = [];
  const takenBack = new Set<string>();
  for (const option of options.flatMap(splitOptions).reverse()) {
    const takesBack = WORDS.get(option)?.takesBack;
    if (takesBack !== undefined) takenBack.add(takesBack);
    else if (!takenBack.has(option.startsWith("user=") ? "user" : option)) kept.push(option);
  }
  return kept.reverse();
}

function readOther(option: string, parsed: ParsedOptions, seen: Seen): void {
  if (option.startsWith("uidmap=")) seen.uid = option.slice("uidmap=".length);
  else if (option.startsWith("gidmap=")) seen.gid = option.slice("gidmap=".length);
  else if (readLayeredAttribute(option, parsed)) return;
  else if (isXMount(option)) parsed.xMount = readXMount(option, parsed.xMount);
  else if (LABEL.test(option)) parsed.labels.push(option);
  else if (option.startsWith(UNMAPPED)) {
    parsed.unmapped.push(unescapeLayer(option.slice(UNMAPPED.length)));
  } else if (option.startsWith("user=")) readOption("user", parsed, seen);
  else if (!isComment(option)) parsed.data.push(option);
}

const UNMAPPED = "X-denomount.unmapped=";
const LABEL = /^((fs|def|root)?context=|seclabel$)/;

/** A later word has the last say over an earlier one. */
function changeAttributes(parsed: ParsedOptions, word: AttributeWord, tree: boolean): void {
  const key = tree ? "recursiveAttributes" : "attributes";
  const before = parsed[key];
  const { set, clear, takesBack } = word;
  if (takesBack && before.clear & MOUNT_ATTR__ATIME) {
    const mode = before.set & MOUNT_ATTR__ATIME;
    if (!takesBack.includes(mode)) return;
  }
  parsed[key] = { set: (before.set & ~(clear | set)) | set, clear: (before.clear & ~set) | clear };
  if (!tree) return;
  const own = parsed.attributes; // the tree's top is this mount: a word before it is overruled
  const both = ~(set | clear);
  parsed.attributes = { set: own.set & both, clear: own.clear & both };
}

/** mount(8) since 2.39: `ro=vfs` is about the mount, `ro=fs` about the superblock, `ro=recursive` about the tree. */
function readLayeredAttribute(option: string, parsed: ParsedOptions): boolean {
  const at = option.indexOf("=");
  const name = option.slice(0, at);
  const attribute = at > 0 && Object.hasOwn(ATTRIBUTES, name) ? ATTRIBUTES[name] : undefined;
  if (attribute === undefined) return false;
  const layers = option.slice(at + 1).replace(/^"(.*)"$/, "$1").split(/[,:]/);
  for (const layer of layers) {
    if (!["vfs", "fs", "recursive"].includes(layer)) {
      throw new TypeError(`${quote(option)}: after "${name}=" comes "vfs", "fs" or "recursive"`);
    }
  }
  const hasFlag = name === "ro" || name === "rw";
  const isVfs = !layers.includes("fs") || layers.includes("vfs");
  const isFs = hasFlag && (!layers.includes("vfs") || layers.includes("fs"));
  if (!hasFlag && !isVfs) {
    throw new TypeError(`${quote(option)}: "${name}" is about a mount, and no file system knows it`);
  }
  if (isVfs) changeAttributes(parsed, attribute, layers.includes("recursive"));
  if (isFs) parsed.superFlags.push(name);
  if (isFs && layers.includes("fs")) parsed.superWords.push(option);
  return true;
}

/** Whether an option is a comment, which the kernel never sees. */
function isComment(option: string): boolean {
  if (option.startsWith("X-containerd.")) {
    throw needsManager(quote(option));
  }
  if (option.startsWith("X-") && !option.startsWith("X-fstrim.")) {
    throw new TypeError(`${quote(option)} is no instruction that this library knows`);
  }
  if (option.startsWith("loop=")) {
    throw new TypeError(`${quote(option)} names a loop device: write "loop", and a free one is used`);
  }
  return option.startsWith("x-") || option.startsWith("X-fstrim.") || option.startsWith("comment=");
}

function readLoop(parsed: ParsedOptions, { loop }: Seen): void {
  if (!loop) {
    const word = parsed.data.find((option) => LOOP_WORD.test(option) && !option.startsWith("offset="));
    if (word !== undefined) throw new TypeError(`${quote(word)} is about a loop device: add "loop"`);
    return;
  }
  if (parsed.xMount.noloop) throw new TypeError('"loop" and "X-mount.noloop" contradict each other');
  const value = (key: string) => parsed.data.findLast((option) => option.startsWith(key))?.slice(key.length);
  parsed.loop = { direct: parsed.data.includes("direct-io") };
  const offset = value("offset=");
  const sizeLimit = value("sizelimit=");
  if (offset !== undefined) parsed.loop.offset = parseSize("offset", offset);
  if (sizeLimit !== undefined) parsed.loop.sizeLimit = parseSize("sizelimit", sizeLimit);
  parsed.data = parsed.data.filter((option) => !LOOP_WORD.test(option));
}

const LOOP_WORD = /^(offset=|sizelimit=|direct-io$)/;

function parseSize(name: string, text: string): number {
  const size = readSize(text);
  if (size === undefined) throw new TypeError(`${quote(`${name}=${text}`)} is not a number of bytes`);
  return size;
}

function readIdMaps(parsed: ParsedOptions, { uid, gid, idmap }: Seen, isMapped: boolean): void {
  const given = parsed.xMount.idmap;
  if (uid === undefined && gid === undefined && given === undefined) {
    if (isMapped) parsed.idMaps = idMapsOfCall(idmap);
    if (isMapped || idmap === undefined) return;
    throw new TypeError(
      `"${idmap === "tree" ? "ridmap" : "idmap"}" needs the maps: "uidmap=" and "gidmap=" beside it`,
    );
  }
  if (isMapped) {
    throw new TypeError(
      `"${given ? "X-mount.idmap=" : "uidmap="}" and the call's user namespace contradict each other: ` +
        "a mount has one id map",
    );
  }
  if (given !== undefined && (uid !== undefined || gid !== undefined)) {
    throw new TypeError('"X-mount.idmap=" and "uidmap=", "gidmap=" contradict each other');
  }
  const topOnly = idmap === "top";
  parsed.idMaps = given !== undefined ? idMapsOfText(given, topOnly) : idMapsOfPair(uid, gid, topOnly);
}

function idMapsOfCall(idmap: Seen["idmap"]): IdMaps {
  return { uid: "", gid: "", topOnly: idmap === "top", ofCall: idmap === undefined ? "implied" : "asked" };
}

function idMapsOfText(given: IdMapText, topOnly: boolean): IdMaps {
  if ("file" in given) return { uid: "", gid: "", file: given.file, topOnly };
  return { uid: mapFileText(given.uid), gid: mapFileText(given.gid), topOnly };
}

function idMapsOfPair(uid: string | undefined, gid: string | undefined, topOnly: boolean): IdMaps {
  if (gid === undefined) throw new TypeError('"uidmap=" needs a "gidmap=" beside it');
  if (uid === undefined) throw new TypeError('"gidmap=" needs a "uidmap=" beside it');
  return { uid: mapFileText(uid), gid: mapFileText(gid), topOnly };
}
