/**
 * The templates of the `format/` modifier, which name the mounts before an entry.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";
import type { Mount } from "../spec/mount.ts";
import type { ActiveMount } from "./types.ts";

/**
 * Fills the templates in a mount's source, target and options: `{{ mount 0 }}` is the mountpoint of the first mount,
 * `{{ source 0 }}` and `{{ target 0 }}` are its fields, and `{{ overlay 0 2 }}` or `{{ overlay 2 0 }}` the mountpoints of
 * several, joined by colons.
 *
 * @param mount the mount.
 * @param active the mounts before it.
 * @returns the mount without templates.
 * @throws {TypeError} with the template, if it is broken or names a mount that is not there.
 */
export function formatMount(mount: Mount, active: readonly ActiveMount[]): Mount {
  const { target, options } = mount;
  return {
    ...mount,
    source: fill(mount.source, active),
    ...target === undefined ? {} : { target: fill(target, active) },
    ...options === undefined ? {} : { options: options.map((option) => fill(option, active)) },
  };
}

/**
 * Checks the templates of a mount before anything is mounted.
 *
 * @param mount the mount.
 * @param count how many mounts are active before it.
 * @throws {TypeError} as {@linkcode formatMount} does.
 */
export function checkTemplates(mount: Mount, count: number): void {
  const active = Array.from({ length: count }, () => NONE);
  formatMount(mount, active);
}

const NONE: ActiveMount = { type: "", source: "", mountPoint: "", mountedAt: new Date(0), data: {} };

function fill(text: string, active: readonly ActiveMount[]): string {
  const filled = text.replace(
    /\{\{(.*?)\}\}/gs,
    (template, inside: string) => value(template, inside, active),
  );
  // What is between two templates can't end one that a mountpoint begins.
  if (/\{\{/.test(text.replace(/\{\{.*?\}\}/gs, ""))) throw broken(text, "it has no end");
  return filled;
}

function value(template: string, inside: string, active: readonly ActiveMount[]): string {
  const [name = "", ...words] = inside.trim().split(/\s+/);
  const numbers = words.map((word) => /^\d{1,9}$/.test(word) ? Number(word) : NaN);
  if (numbers.some(Number.isNaN)) throw broken(template, "a mount is named by its number, from 0");
  const expected = name === "overlay" ? 2 : 1;
  if (!Object.hasOwn(FIELDS, name) && name !== "overlay") {
    throw broken(template, "it is none of source, target, mount and overlay");
  }
  if (numbers.length !== expected) {
    throw broken(template, `${name} takes ${expected} number${expected > 1 ? "s" : ""}`);
  }
  for (const number of numbers) {
    if (number >= active.length) {
      throw broken(
        template,
        `${active.length === 0 ? "no mount is" : `only ${active.length} are`} before it`,
      );
    }
  }
  const [first = 0, last = first] = numbers;
  if (name !== "overlay") return FIELDS[name as keyof typeof FIELDS](at(active, first));
  return range(first, last).map((number) => at(active, number).mountPoint).join(":");
}

const FIELDS = {
  source: ({ source }: ActiveMount) => source,
  target: ({ target = "" }: ActiveMount) => target,
  mount: ({ mountPoint }: ActiveMount) => mountPoint,
};

function at(active: readonly ActiveMount[], number: number): ActiveMount {
  return active[number] ?? NONE;
}

function range(first: number, last: number): number[] {
  const step = first > last ? -1 : 1;
  return Array.from({ length: Math.abs(last - first) + 1 }, (_, index) => first + index * step);
}

function broken(template: string, why: string): TypeError {
  return new TypeError(`the template ${quote(template)} is wrong: ${why}`);
}
