/**
 * A system call in words: what `explain()` prints. Each `create…` of linux/filesystem has a `describe…` beside it that
 * returns these.
 *
 * @module
 */

import * as constants from "../syscalls/constants.ts";
import type { AttributeChange } from "./options.ts";
import { keyAndValue } from "./overlay_options.ts";

/** A system call, or the start of a program. */
export interface Call {
  /** The call's name as in its man page, or "exec" for a helper program. */
  call: string;
  /** Its arguments as strace(1) prints them, descriptors by what they are. */
  arguments: string;
  /** What it is for. */
  purpose: string;
}

/**
 * Describes a call.
 *
 * @param name the call's name.
 * @param args its arguments.
 * @param purpose what it is for.
 * @returns the description.
 */
export function call(name: string, args: readonly (string | number)[], purpose: string): Call {
  return { call: name, arguments: args.join(", "), purpose };
}

/**
 * A string argument in quotes.
 *
 * @param text the string.
 * @returns the text as strace(1) prints it.
 */
export function quoted(text: string): string {
  return JSON.stringify(text);
}

/**
 * The names of a call's flags, joined with "|".
 *
 * @param prefix what the names begin with, such as "MS_".
 * @param value the flags.
 * @returns the names; "0" for none.
 */
export function flagNames(prefix: string, value: number): string {
  const names = Object.entries(constants).filter(([name, bit]) =>
    name.startsWith(prefix) && !name.startsWith(`${prefix}_`) && typeof bit === "number" && bit !== 0 &&
    (bit & (bit - 1)) === 0 && (value & bit) === bit
  ).map(([name]) => name);
  return names.join("|") || "0";
}

/**
 * Describes a call of mount(2).
 *
 * @param args source, target, type and data as they are printed, and the flags.
 * @param purpose what it is for.
 * @returns the description.
 */
export function mountCall(
  args: { source?: string; target: string; type?: string; flags: number; data?: string },
  purpose: string,
): Call {
  const { source, target, type, flags, data } = args;
  const orNull = (text: string | undefined) => text === undefined ? "NULL" : quoted(text);
  return call(
    "mount",
    [orNull(source), quoted(target), orNull(type), flagNames("MS_", flags), orNull(data)],
    purpose,
  );
}

/** What mount_setattr(2) is described with. */
export interface SetattrArguments {
  /** The mount. */
  mount: string;
  /** The attributes to set and to clear. */
  change?: AttributeChange;
  /** Whether the mounts below it are changed too. */
  recursive?: boolean;
  /** Whether it gets an id map. */
  isMapped?: boolean;
  /** The propagation type to set, 0 for none. */
  propagation?: number;
}

/**
 * Describes a call of mount_setattr(2).
 *
 * @param args what is changed.
 * @param purpose what it is for.
 * @returns the description.
 */
export function setattrCall(args: SetattrArguments, purpose: string): Call {
  const flags = args.recursive ? "AT_EMPTY_PATH|AT_RECURSIVE" : "AT_EMPTY_PATH";
  return call("mount_setattr", [args.mount, flags, attributesText(args)], purpose);
}

/**
 * Writes a struct mount_attr.
 *
 * @param args what is changed.
 * @returns its fields that are not 0.
 */
export function attributesText(args: Omit<SetattrArguments, "mount" | "recursive">): string {
  const { change = { set: 0, clear: 0 }, isMapped = false, propagation = 0 } = args;
  const set = isMapped ? change.set | constants.MOUNT_ATTR_IDMAP : change.set;
  const fields = [
    ...set ? [`attr_set=${flagNames("MOUNT_ATTR_", set)}`] : [],
    ...change.clear ? [`attr_clr=${clearedNames(change.clear)}`] : [],
    ...propagation ? [`propagation=${flagNames("MS_", propagation)}`] : [],
    ...isMapped ? ["userns_fd=namespace"] : [],
  ];
  return `{${fields.join(", ")}}`;
}

/** The access time is one field of two bits, which is cleared as a whole. */
function clearedNames(clear: number): string {
  const { MOUNT_ATTR__ATIME } = constants;
  const rest = flagNames("MOUNT_ATTR_", clear & ~MOUNT_ATTR__ATIME);
  if ((clear & MOUNT_ATTR__ATIME) !== MOUNT_ATTR__ATIME) return rest;
  return rest === "0" ? "MOUNT_ATTR__ATIME" : `${rest}|MOUNT_ATTR__ATIME`;
}

/**
 * Describes the calls of fsconfig(2) that set parameters.
 *
 * @param options the parameters, such as "size=1m" or "ro".
 * @returns a description of each.
 */
export function fsconfigCalls(options: readonly string[]): Call[] {
  return options.map((option) => {
    const { key, value } = keyAndValue(option);
    return value === undefined
      ? call("fsconfig", ["context", "FSCONFIG_SET_FLAG", quoted(key)], "a parameter")
      : call("fsconfig", ["context", "FSCONFIG_SET_STRING", quoted(key), quoted(value)], "a parameter");
  });
}
