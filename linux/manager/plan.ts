/**
 * What a manager does with each entry of a list: read from its type, before anything is mounted.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";
import { checkMount } from "../spec/read_mount.ts";
import type { Mount } from "../spec/mount.ts";
import { splitOptions } from "../spec/options.ts";
import { readMkdirs } from "./mkdir_options.ts";
import { readMkfs } from "./mkfs_options.ts";
import { checkTemplates } from "./template.ts";

/** An instruction before the slash of a type. */
export type Modifier = "format" | "mkfs" | "mkdir";

/** An entry of a list, and what becomes of it. */
export interface Entry {
  /** The mount with the file system's own type. */
  readonly mount: Mount;
  /** The modifiers before its type, from left to right. */
  readonly modifiers: readonly Modifier[];
  /** The name of the handler that mounts it; undefined if the kernel does. */
  readonly handler: string | undefined;
}

/** A list, divided. */
export interface ActivationPlan {
  /** The entries that are mounted one by one under the manager's directory, because later ones need them. */
  readonly active: readonly Entry[];
  /** The entries that the caller mounts, with their modifiers carried out. */
  readonly system: readonly Entry[];
}

/**
 * Divides a list. What a later entry may name, or a handler makes, is mounted by the manager: everything before the last
 * entry with a modifier, and everything up to the last one with a handler.
 *
 * @param mounts the list.
 * @param handlers the names of the handlers.
 * @param allowed the types that the caller mounts itself.
 * @returns the plan.
 * @throws {TypeError} for a field that is missing or none of a mount, a modifier that is not known, a template that is
 * wrong, and options of a modifier that are wrong.
 */
export function planActivation(
  mounts: readonly Mount[],
  handlers: ReadonlySet<string>,
  allowed: readonly string[] = [],
): ActivationPlan {
  const entries = mounts.map((mount) => readEntry(copyMount(mount), handlers, allowed));
  const lastModified = entries.findLastIndex(({ modifiers }) => modifiers.length > 0);
  const lastHandled = entries.findLastIndex(({ handler }) => handler !== undefined);
  const count = Math.max(lastModified, lastHandled + 1, 0);
  for (const [index, entry] of entries.entries()) checkEntry(entry, Math.min(index, count));
  return { active: entries.slice(0, count), system: entries.slice(count) };
}

/** A checked copy, without the fields that the caller has left out. */
function copyMount(mount: Mount): Mount {
  const { type, source, target, options } = checkMount(mount);
  const hasTarget = mount.target !== undefined && mount.target !== null;
  return {
    type,
    source,
    ...hasTarget ? { target } : {},
    ...options.length > 0 ? { options: [...options] } : {},
  };
}

function readEntry(mount: Mount, handlers: ReadonlySet<string>, allowed: readonly string[]): Entry {
  const left = { mount, modifiers: [], handler: undefined };
  if (allowed.includes(mount.type)) return left;
  const modifiers: Modifier[] = [];
  let type = mount.type;
  for (let slash = type.indexOf("/"); slash >= 0 && !handlers.has(type); slash = type.indexOf("/")) {
    const word = type.slice(0, slash);
    if (!isModifier(word)) {
      throw new TypeError(`${quote(word)} in the type ${quote(mount.type)} is no modifier`);
    }
    modifiers.push(word);
    type = type.slice(slash + 1);
  }
  if (type === "") throw new TypeError(`the type ${quote(mount.type)} names no file system`);
  const handler = handlers.has(type) && !allowed.includes(type) ? type : undefined;
  if (handler === undefined) refuseUnread(mount, modifiers);
  return { mount: { ...mount, type }, modifiers, handler };
}

/** Refuses instructions that no modifier of the entry reads. A handler reads what it knows itself. */
function refuseUnread({ options = [] }: Mount, modifiers: readonly Modifier[]): void {
  for (const option of options.flatMap(splitOptions)) {
    const [, word] = /^X-containerd\.([^.=]*)/.exec(option) ?? [];
    if (word === undefined || modifiers.some((modifier) => modifier === word)) continue;
    if (isModifier(word)) {
      throw new TypeError(`${quote(option)} needs the modifier "${word}/" before the type`);
    }
    throw new TypeError(`${quote(option)} is no option that this manager knows`);
  }
}

function isModifier(word: string): word is Modifier {
  return word === "format" || word === "mkfs" || word === "mkdir";
}

/** Refuses what is wrong before anything is mounted. Paths are only known once the templates are filled. */
function checkEntry({ mount, modifiers }: Entry, count: number): void {
  if (modifiers.includes("format")) checkTemplates(mount, count);
  if (modifiers.includes("mkfs")) readMkfs(mount);
  if (modifiers.includes("mkdir")) readMkdirs(mount);
}
