/**
 * What mounting a list would do, call by call, without doing it.
 *
 * @module
 */

import { hasChanges } from "../idmap/attributes.ts";
import { requireIdMapping, usesMountSetattr } from "../syscalls/features.ts";
import * as constants from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { attributesToFlags, superFlagsToFlags } from "../spec/mount_flags.ts";
import { MountError } from "../spec/error.ts";
import type { Mount } from "../spec/mount.ts";
import type { AttributeChange, IdMaps, ParsedOptions } from "../spec/options.ts";
import { usesLowerdirPlus } from "../filesystem/overlay.ts";
import { keyAndValue, overlayData } from "../spec/overlay_options.ts";
import { commonDirectory, join } from "../path/path.ts";
import { type Plan, planAll } from "./plan.ts";

/** A system call that would be made. */
export interface Step {
  /** The mount that it belongs to. */
  mount: Mount;
  /** The call's name as in its man page, or "exec" for a helper program. */
  call: string;
  /** Its arguments, as strace(1) would print them, the descriptors by what they are. */
  arguments: string;
  /** What it is for. */
  purpose: string;
}

type Call = Omit<Step, "mount">;

/**
 * The system calls that {@linkcode mountAll} would make on this kernel for a list, in their order; nothing is done. The
 * questions that it asks on the way, such as where a path leads, are left out.
 *
 * @param mounts the mounts; they are not changed.
 * @param target the directory that they would go under.
 * @returns the calls. On a kernel without a feature, those of the older way.
 * @throws {MountError} for the first mount that can't be right.
 *
 * Needs the permission `ffi`.
 *
 * @example
 * ```ts
 * import { explain } from "@denomount/mount";
 *
 * for (const step of explain([{ type: "bind", source: "/usr", options: ["ro"] }], "/mnt")) {
 *   console.log(`${step.call}(${step.arguments})`, step.purpose);
 * }
 * ```
 */
export function explain(mounts: readonly Mount[], target: string): Step[] {
  const mapped = new Set<string>();
  return planAll(mounts, target).flatMap((plan) => {
    try {
      const calls = [...namespaceCalls(plan.idMaps, mapped), ...planCalls(plan, placeOf(target, plan))];
      return calls.map((call) => ({ mount: plan.mount, ...call }));
    } catch (error) {
      throw new MountError(plan.mount, target, error);
    }
  });
}

function placeOf(target: string, { subpath }: Plan): string {
  return subpath === "/" ? target : join(target, subpath);
}

function call(name: string, args: (string | number)[], purpose: string): Call {
  return { call: name, arguments: args.join(", "), purpose };
}

const quoted = (text: string) => JSON.stringify(text);

/** The names of a call's flags, joined as C does. */
function flagNames(prefix: string, value: number): string {
  const names = Object.entries(constants).filter(([name, bit]) =>
    name.startsWith(prefix) && !name.startsWith(`${prefix}_`) && typeof bit === "number" && bit !== 0 &&
    (bit & (bit - 1)) === 0 && (value & bit) === bit
  ).map(([name]) => name);
  return names.join("|") || "0";
}

function namespaceCalls(maps: IdMaps | undefined, made: Set<string>): Call[] {
  if (maps === undefined) return [];
  requireIdMapping();
  const key = `${maps.uid}/${maps.gid}`;
  if (made.has(key)) return [];
  made.add(key);
  const written = (file: string, text: string) =>
    call("write", [file, quoted(text)], "the ids inside, those outside, and how many");
  return [
    call(
      "clone",
      ["sleep", "CLONE_NEWUSER|CLONE_PIDFD"],
      "a user namespace, held by a child that only sleeps",
    ),
    written("uid_map", maps.uid),
    written("gid_map", maps.gid),
    call("pidfd_send_signal", ["child", "SIGKILL"], "the descriptor of the namespace is enough from here on"),
  ];
}

function planCalls(plan: Plan, target: string): Call[] {
  const { action } = plan;
  const isMapped = plan.idMaps !== undefined;
  const steps = plan.propagation.map(({ type, recursive }) => propagationCall(type, recursive, target));
  switch (action.kind) {
    case "bind":
      return [...bindCalls(action.plan.source, action.plan.options, target, isMapped), ...steps];
    case "overlay":
      return [...overlayCalls(action.plan, target, isMapped), ...steps];
    case "filesystem":
      return [...filesystemCalls(action.plan, target, isMapped), ...steps];
    case "fuse": {
      const { helper, source, options, type } = action.plan;
      const args = [source, target, ...options.flatMap((option) => ["-o", option]), "-t", type];
      return [
        call("exec", [helper, ...args].map(quoted), "the helper mounts it and starts its server"),
        ...steps,
      ];
    }
    case "remount":
      return [...remountCalls(action.options, target), ...steps];
    case "propagation":
      return steps;
  }
}

function propagationCall(type: number, recursive: boolean, target: string): Call {
  const purpose = "who else sees what is mounted here later";
  const name = flagNames("MS_", type);
  if (!hasFeature("mountSetattr")) {
    return call(
      "mount",
      ["NULL", quoted(target), "NULL", recursive ? `${name}|MS_REC` : name, "NULL"],
      purpose,
    );
  }
  const flags = recursive ? "AT_EMPTY_PATH|AT_RECURSIVE" : "AT_EMPTY_PATH";
  return call("mount_setattr", [quoted(target), flags, `{propagation=${name}}`], purpose);
}

function bindCalls(source: string, options: ParsedOptions, target: string, isMapped: boolean): Call[] {
  const { recursive } = options;
  if (!usesMountSetattr()) {
    const flags = recursive ? "MS_BIND|MS_REC" : "MS_BIND";
    const bind = call("mount", [quoted(source), quoted(target), "NULL", flags, "NULL"], "bind it");
    return hasChanges(options.attributes) ? [bind, remountBindCall(options, target)] : [bind];
  }
  return [
    call(
      "open_tree",
      ["AT_FDCWD", quoted(source), recursive ? "OPEN_TREE_CLONE|AT_RECURSIVE" : "OPEN_TREE_CLONE"],
      recursive
        ? "a clone of the mount and of all below it, attached nowhere"
        : "a clone of the mount, attached nowhere",
    ),
    ...attributeCalls("tree", options, isMapped),
    attachCall("tree", target),
  ];
}

function attributeCalls(mount: string, options: ParsedOptions, isMapped: boolean): Call[] {
  const { attributes, recursiveAttributes, recursive } = options;
  const both = {
    set: recursiveAttributes.set & ~attributes.clear | attributes.set,
    clear: recursiveAttributes.clear & ~attributes.set | attributes.clear,
  };
  if (isMapped && !recursive) return [setattrCall(mount, both, false, true)];
  return [
    ...isMapped || hasChanges(recursiveAttributes)
      ? [setattrCall(mount, recursiveAttributes, true, isMapped)]
      : [],
    ...hasChanges(attributes) ? [setattrCall(mount, attributes, false, false)] : [],
  ];
}

function setattrCall(
  mount: string,
  { set, clear }: AttributeChange,
  recursive: boolean,
  isMapped: boolean,
): Call {
  const all = isMapped ? set | constants.MOUNT_ATTR_IDMAP : set;
  const fields = [
    ...all ? [`attr_set=${flagNames("MOUNT_ATTR_", all)}`] : [],
    ...clear ? [`attr_clr=${atimeNames(clear)}`] : [],
    ...isMapped ? ["userns_fd=namespace"] : [],
  ];
  const flags = recursive ? "AT_EMPTY_PATH|AT_RECURSIVE" : "AT_EMPTY_PATH";
  const purpose = isMapped ? "its attributes and its id map, while nobody can see it" : "its attributes";
  return call("mount_setattr", [mount, flags, `{${fields.join(", ")}}`], purpose);
}

/** The access times are one field, which is cleared as a whole. */
function atimeNames(clear: number): string {
  const { MOUNT_ATTR__ATIME } = constants;
  const rest = flagNames("MOUNT_ATTR_", clear & ~MOUNT_ATTR__ATIME);
  if ((clear & MOUNT_ATTR__ATIME) !== MOUNT_ATTR__ATIME) return rest;
  return rest === "0" ? "MOUNT_ATTR__ATIME" : `${rest}|MOUNT_ATTR__ATIME`;
}

function attachCall(mount: string, target: string): Call {
  return call("move_mount", [mount, quoted(target)], "attach it: only now it can be seen");
}

function remountBindCall(options: ParsedOptions, target: string): Call {
  const flags = flagNames(
    "MS_",
    attributesToFlags(options.attributes) | constants.MS_REMOUNT | constants.MS_BIND,
  );
  return call("mount", ["NULL", quoted(target), "NULL", flags, "NULL"], "its attributes, the others kept");
}

function configCalls(context: string, options: readonly string[]): Call[] {
  return options.map((option) => {
    const { key, value } = keyAndValue(option);
    return value === undefined
      ? call("fsconfig", [context, "FSCONFIG_SET_FLAG", quoted(key)], "an option")
      : call("fsconfig", [context, "FSCONFIG_SET_STRING", quoted(key), quoted(value)], "an option");
  });
}

function createCalls(options: ParsedOptions, target: string, isMapped: boolean): Call[] {
  const attributes = options.attributes.set | options.recursiveAttributes.set;
  return [
    call("fsconfig", ["context", "FSCONFIG_CMD_CREATE"], "make the file system"),
    call("fsmount", ["context", flagNames("MOUNT_ATTR_", attributes)], "a mount of it, attached nowhere"),
    ...isMapped ? [setattrCall("mount", { set: 0, clear: 0 }, false, true)] : [],
    attachCall("mount", target),
  ];
}

interface Filesystem {
  type: string;
  source: string;
  options: ParsedOptions;
}

function filesystemCalls(
  { type, source: given, options }: Filesystem,
  target: string,
  isMapped: boolean,
): Call[] {
  const source = options.loop ? "/dev/loopN" : given;
  const loop = options.loop
    ? [
      call("ioctl", [quoted("/dev/loop-control"), "LOOP_CTL_GET_FREE"], "a free loop device"),
      call(
        "ioctl",
        [quoted(source), "LOOP_CONFIGURE", quoted(given)],
        "the file as its device, freed with the mount",
      ),
    ]
    : [];
  if (!hasFeature("mountApi")) {
    const flags = superFlagsToFlags(options.superFlags, attributesToFlags(options.attributes));
    const args = [
      quoted(source),
      quoted(target),
      quoted(type),
      flagNames("MS_", flags),
      quoted(options.data.join(",")),
    ];
    return [...loop, call("mount", args, "mount it")];
  }
  return [
    ...loop,
    call("fsopen", [quoted(type)], "a file system to be configured"),
    ...source === "" ? [] : configCalls("context", [`source=${source}`]),
    ...configCalls("context", options.superFlags),
    ...configCalls("context", options.data),
    ...createCalls(options, target, isMapped),
  ];
}

interface Overlay {
  source: string;
  options: ParsedOptions;
  layers: Parameters<typeof overlayData>[0];
}

function overlayCalls({ source, options, layers }: Overlay, target: string, isMapped: boolean): Call[] {
  const lower = [...layers.lower, ...layers.dataOnly];
  const detached = isMapped && hasFeature("detachedLayers");
  const before = isMapped ? mappedLayerCalls(lower, detached) : [];
  const after = isMapped && !detached
    ? [call("umount2", [quoted("…/denomount-XXXXXX/root"), "0"], "the overlay has clones of its own")]
    : [];
  if (!usesLowerdirPlus()) {
    const flags = superFlagsToFlags(options.superFlags, attributesToFlags(options.attributes));
    const args = [quoted(source || "overlay"), quoted(target), quoted("overlay"), flagNames("MS_", flags)];
    const mount = call(
      "mount",
      [...args, quoted(overlayData(layers))],
      "its options in one page, shortened where too long",
    );
    return [...before, mount, ...after];
  }
  const layer = (key: string) => (path: string) =>
    detached && key.endsWith("+")
      ? call("fsconfig", ["context", "FSCONFIG_SET_FD", quoted(key), `id-mapped ${path}`], "a layer")
      : call("fsconfig", ["context", "FSCONFIG_SET_STRING", quoted(key), quoted(path)], "a layer");
  return [
    ...before,
    call("fsopen", [quoted("overlay")], "a file system to be configured"),
    ...configCalls("context", [`source=${source || "overlay"}`]),
    ...layers.lower.map(layer("lowerdir+")),
    ...layers.dataOnly.map(layer("datadir+")),
    ...[layers.upper].filter((path) => path !== undefined).map(layer("upperdir")),
    ...[layers.work].filter((path) => path !== undefined).map(layer("workdir")),
    ...configCalls("context", [...layers.rest, ...options.superFlags]),
    ...createCalls(options, target, false),
    ...after,
  ];
}

/** As they are where the layers stand on one mount; those on several are cloned for each. */
function mappedLayerCalls(lower: readonly string[], detached: boolean): Call[] {
  const readonly = { set: constants.MOUNT_ATTR_RDONLY, clear: 0 };
  const common = commonDirectory(lower.map((path) => join("/", path)));
  return [
    call(
      "open_tree",
      ["AT_FDCWD", quoted(common), "OPEN_TREE_CLONE"],
      "what the layers have in common, attached nowhere",
    ),
    setattrCall("tree", readonly, false, true),
    ...detached ? [] : [attachCall("tree", "…/denomount-XXXXXX/root")],
  ];
}

function remountCalls(options: ParsedOptions, target: string): Call[] {
  if (!usesMountSetattr()) {
    if (options.bind) return [remountBindCall(options, target)];
    const flags = superFlagsToFlags(options.superFlags, attributesToFlags(options.attributes)) |
      constants.MS_REMOUNT;
    return [
      call(
        "mount",
        ["NULL", quoted(target), "NULL", flagNames("MS_", flags), quoted(options.data.join(","))],
        "change it",
      ),
    ];
  }
  const told = options.bind ? [] : [...options.superFlags, ...options.data];
  return [
    ...told.length > 0
      ? [
        call("fspick", [quoted(target)], "its file system, to be configured"),
        ...configCalls("context", told),
        call("fsconfig", ["context", "FSCONFIG_CMD_RECONFIGURE"], "change it"),
      ]
      : [],
    ...attributeCalls(quoted(target), options, false),
  ];
}
