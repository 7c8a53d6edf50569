/**
 * What holds for every input, checked with random ones: what is written is read back, and what can't be is refused in
 * words.
 *
 * @module
 */

import fc from "fast-check";
import { parseMounts } from "../../cli/mounts_file.ts";
import { escapeControl } from "../../cli/print.ts";
import { decodeName, encodeName, unescapeOctal } from "../../ffi/text.ts";
import { mapFileText, parseIdMappings } from "../../linux/spec/id_mapping.ts";
import { isReadonly, type Mount, parentsFirst, readonlyMounts, subpathOf } from "../../linux/spec/mount.ts";
import { MountError } from "../../linux/spec/error.ts";
import { parseMountInfo } from "../../linux/mountinfo/parse_mountinfo.ts";
import { parseOptions, splitOptions } from "../../linux/spec/options.ts";
import { escapeDirectory, overlayData, parseOverlayOptions } from "../../linux/spec/overlay_options.ts";
import { planMounts } from "../../linux/spec/plan.ts";
import { assert, assertEquals } from "../assert.ts";
import * as input from "./input.ts";

/** A rule and how to try it. */
export interface Rule {
  /** The rule in words. */
  name: string;
  /** Tries it with so many inputs; throws with the smallest that breaks it, and the seed. */
  run(runs: number): void;
}

function rule<T>(name: string, inputs: fc.Arbitrary<T>, holds: (input: T) => void): Rule {
  return { name, run: (numRuns) => fc.assert(fc.property(inputs, holds), { numRuns }) };
}

// What V8 says where a program is wrong, and no input should make it say.
const mistakes =
  /^(Cannot |Maximum call stack|Invalid (array|string|count|typed)|Class )|is not (a function|iterable|a constructor|an object)$/;

/** What a call returns; undefined where it refused its input in words, and nothing else may be thrown. */
export function unlessRefused<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof MountError)) throw error;
    if (mistakes.test(error.message) || error.message === "") throw error;
    return undefined;
  }
}

/** Every rule that needs no kernel. */
export const rules: readonly Rule[] = [
  rule("any bytes are a name, which leads back to them", input.bytes, (bytes) => {
    const name = decodeName(bytes);
    assertEquals(encodeName(name), bytes);
    assertEquals(name.isWellFormed(), isUtf8(bytes));
  }),
  rule("a text is one name's or no name's", input.units, (text) => {
    const bytes = unlessRefused(() => encodeName(text));
    if (bytes) assertEquals(decodeName(bytes), text);
  }),

  rule("a name on a terminal has no control characters, and is no other name's", input.bytes, (bytes) => {
    const name = decodeName(bytes);
    const shown = escapeControl(name);
    assert(shown.isWellFormed() && !/\p{Cc}/u.test(shown), shown);
    assertEquals(unescapeOctal(shown), name);
  }),

  rule("options are read, or refused in words", input.options, (options) => {
    unlessRefused(() => parseOptions(options));
  }),
  rule("of an entry of options, nothing but commas is lost", input.option, (entry) => {
    const split = splitOptions(entry);
    assertEquals(split.join("").replaceAll(",", ""), entry.replaceAll(",", ""));
    assertEquals(split.flatMap(splitOptions), split);
  }),

  rule("an overlay's layers come back from the text for the kernel", input.layers, (layers) => {
    const data = input.commaParts(overlayData(layers));
    assertEquals(parseOverlayOptions(data), layers);
  }),
  rule("an overlay's options are read, or refused in words", input.overlayOptions, (options) => {
    const parsed = unlessRefused(() => parseOverlayOptions(options));
    if (parsed && parsed.lower.length > 0) {
      assertEquals(parseOverlayOptions(input.commaParts(overlayData({ ...parsed, rest: [] }))), {
        ...parsed,
        rest: [],
      });
    }
  }),
  rule("an overlay made read-only has its upper directory on top", input.layers, (layers) => {
    if (layers.upper === undefined) return;
    const [made] = readonlyMounts([
      { type: "overlay", source: "o", options: input.commaParts(overlayData(layers)) },
    ]);
    assert(made !== undefined && isReadonly(made));
    const { lower, dataOnly, upper } = parseOverlayOptions(made.options ?? []);
    assertEquals([lower, dataOnly, upper], [[layers.upper, ...layers.lower], layers.dataOnly, undefined]);
  }),
  rule("of upperdir=, a backslash makes any character plain", input.fileName, (name) => {
    const text = [...name].map((character) => `\\${character}`).join("");
    assertEquals(parseOverlayOptions([`upperdir=${text}`]).upper, name);
    assertEquals(parseOverlayOptions([`upperdir=${escapeDirectory(name)}`]).upper, name);
    const options = [`lowerdir=/l`, `upperdir=${text}`];
    const [made] = readonlyMounts([{ type: "overlay", source: "o", options }]);
    assertEquals(parseOverlayOptions(made?.options ?? []).lower, [name, "/l"]);
    const oneByOne = [`upperdir=${text}`, `lowerdir+=/l`];
    const [other] = readonlyMounts([{ type: "overlay", source: "o", options: oneByOne }]);
    assertEquals(parseOverlayOptions(other?.options ?? []).lower, [name, "/l"]);
  }),

  rule("id maps are read back", input.idMappings, (mappings) => {
    const text = mappings.map(({ containerId, hostId, size }) => `${containerId}:${hostId}:${size}`).join(
      ",",
    );
    assertEquals(parseIdMappings(text), mappings);
    const lines = mapFileText(text).trimEnd().split("\n");
    assertEquals(lines.map((line) => line.replaceAll(" ", ":")).join(","), text);
  }),
  rule("id maps are read, or refused in words", input.idMapText, (text) => {
    const mappings = unlessRefused(() => parseIdMappings(text));
    if (mappings) assertEquals(mapFileText(mappings), mapFileText(text));
  }),

  rule("a mount table is read as the kernel writes it", input.mountInfos, (infos) => {
    assertEquals(parseMountInfo(input.mountInfoBytes(infos)), infos);
    const text = new TextDecoder().decode(input.mountInfoBytes(infos));
    if (infos.every(({ mountpoint, root, source }) => `${mountpoint}${root}${source}`.isWellFormed())) {
      assertEquals(parseMountInfo(text), infos);
    }
  }),
  rule("a damaged mount table is read, or refused with the line", input.damagedTable, (text) => {
    unlessRefused(() => parseMountInfo(text));
    unlessRefused(() => parseMountInfo(new TextEncoder().encode(text)));
  }),

  rule("a mount's target stays below", input.path, (target) => {
    const subpath = subpathOf({ type: "bind", source: "/", target });
    assertEquals(subpath, input.walk(target));
    assertEquals(subpathOf({ type: "bind", source: "/", target: subpath }), subpath);
  }),
  rule("parents come first, and nothing else is moved for no reason", fc.array(input.path), (targets) => {
    const given = targets.map((target, index) => ({ subpath: input.walk(target), index }));
    const ordered = parentsFirst(given);
    assertEquals(ordered.toSorted((a, b) => a.index - b.index), given);
    for (const [at, item] of ordered.entries()) {
      for (const before of ordered.slice(0, at)) {
        assert(!isBelow(before.subpath, item.subpath), `${before.subpath} came before ${item.subpath}`);
        const isMoved = before.index > item.index;
        const reason = (other: { subpath: string }) => isBelow(other.subpath, before.subpath);
        assert(!isMoved || given.slice(0, before.index).some(reason), `${before.subpath} was moved`);
      }
    }
  }),

  rule("a list of mounts is planned, or refused with the mount that is wrong", input.mounts, (mounts) => {
    const frozen = mounts.map((mount) => Object.freeze({ ...mount, options: Object.freeze(mount.options) }));
    unlessRefused(() => planMounts(frozen as Mount[], "/target"));
  }),
  rule("a file of mounts is read back", input.mounts, (mounts) => {
    assertEquals(parseMounts(JSON.stringify(mounts), "f"), mounts.map(input.asRead));
    const likeGo = mounts.map(({ type: Type, source: Source, target: Target, options: Options }) => ({
      Type,
      Source,
      Target,
      Options,
    }));
    assertEquals(parseMounts(JSON.stringify(likeGo), "f"), mounts.map(input.asRead));
  }),
  rule("a file of anything is read, or refused in words", input.json, (text) => {
    unlessRefused(() => parseMounts(text, "file"));
  }),
];

function isBelow(path: string, directory: string): boolean {
  return path !== directory && path.startsWith(directory === "/" ? "/" : `${directory}/`);
}

function isUtf8(bytes: Uint8Array<ArrayBuffer>): boolean {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes) !== undefined;
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}
