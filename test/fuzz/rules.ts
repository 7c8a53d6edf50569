/**
 * Rules for every input, checked with random input: formatted values are parsed back, and invalid input is refused with a
 * message.
 *
 * @module
 */

import fc from "fast-check";
import { escapeControl } from "../../cli/print.ts";
import { decodeName, encodeName, unescapeOctal } from "../../ffi/text.ts";
import { mapFileText, parseIdMappings } from "../../linux/spec/id_mapping.ts";
import { isReadonly, type Mount, readonlyMounts, subpathOf } from "../../linux/spec/mount.ts";
import { parseMounts } from "../../linux/spec/read_mount.ts";
import { MountError } from "../../linux/spec/error.ts";
import { parseMountInfo } from "../../linux/mountinfo/parse_mountinfo.ts";
import { parseOptions, splitOptions } from "../../linux/spec/options.ts";
import { escapeDirectory, overlayData, parseOverlayOptions } from "../../linux/spec/overlay_options.ts";
import { planMounts } from "../../linux/spec/plan.ts";
import { assert, assertEquals } from "../assert.ts";
import * as input from "./input.ts";

/** A rule and its check. */
export interface Rule {
  /** The rule as a sentence. */
  name: string;
  /** Checks the rule with a number of inputs; throws with the smallest input that breaks it, and the seed. */
  run(runs: number): void;
}

function rule<T>(name: string, inputs: fc.Arbitrary<T>, holds: (input: T) => void): Rule {
  return { name, run: (numRuns) => fc.assert(fc.property(inputs, holds), { numRuns }) };
}

// Messages of V8 for programming errors, which no input may cause.
const mistakes =
  /^(Cannot |Maximum call stack|Invalid (array|string|count|typed)|Class )|is not (a function|iterable|a constructor|an object)$/;

/** The result of a call; undefined if it refused its input with a message. Fails on any other error. */
export function unlessRefused<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof MountError)) throw error;
    if (mistakes.test(error.message) || error.message === "") throw error;
    return undefined;
  }
}

/** Every rule that requires no kernel. */
export const rules: readonly Rule[] = [
  rule("any bytes decode to a name, which encodes to the same bytes", input.bytes, (bytes) => {
    const name = decodeName(bytes);
    assertEquals(encodeName(name), bytes);
    assertEquals(name.isWellFormed(), isUtf8(bytes));
  }),
  rule("a text encodes to one name, or is refused", input.units, (text) => {
    const bytes = unlessRefused(() => encodeName(text));
    if (bytes) assertEquals(decodeName(bytes), text);
  }),

  rule(
    "a name is printed without control characters, and distinct from other names",
    input.bytes,
    (bytes) => {
      const name = decodeName(bytes);
      const shown = escapeControl(name);
      assert(shown.isWellFormed() && !/\p{Cc}/u.test(shown), shown);
      assertEquals(unescapeOctal(shown), name);
    },
  ),

  rule("options are parsed, or refused with a message", input.options, (options) => {
    unlessRefused(() => parseOptions(options));
  }),
  rule("splitting an entry of options removes only commas", input.option, (entry) => {
    const split = splitOptions(entry);
    assertEquals(split.join("").replaceAll(",", ""), entry.replaceAll(",", ""));
    assertEquals(split.flatMap(splitOptions), split);
  }),

  rule("an overlay's layers are parsed from the text for the kernel", input.layers, (layers) => {
    const data = input.commaParts(overlayData(layers));
    assertEquals(parseOverlayOptions(data), layers);
  }),
  rule("an overlay's options are parsed, or refused with a message", input.overlayOptions, (options) => {
    const parsed = unlessRefused(() => parseOverlayOptions(options));
    if (parsed && parsed.lower.length > 0) {
      assertEquals(parseOverlayOptions(input.commaParts(overlayData({ ...parsed, rest: [] }))), {
        ...parsed,
        rest: [],
      });
    }
  }),
  rule("readonlyMounts() makes the upper directory the topmost layer", input.layers, (layers) => {
    if (layers.upper === undefined) return;
    const [made] = readonlyMounts([
      { type: "overlay", source: "o", options: input.commaParts(overlayData(layers)) },
    ]);
    assert(made !== undefined && isReadonly(made));
    const { lower, dataOnly, upper } = parseOverlayOptions(made.options ?? []);
    assertEquals([lower, dataOnly, upper], [[layers.upper, ...layers.lower], layers.dataOnly, undefined]);
  }),
  rule("in upperdir=, a backslash escapes any character", input.fileName, (name) => {
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

  rule("formatted id maps are parsed back", input.idMappings, (mappings) => {
    const text = mappings.map(({ containerId, hostId, size }) => `${containerId}:${hostId}:${size}`).join(
      ",",
    );
    assertEquals(parseIdMappings(text), mappings);
    const lines = mapFileText(text).trimEnd().split("\n");
    assertEquals(lines.map((line) => line.replaceAll(" ", ":")).join(","), text);
  }),
  rule("id maps are parsed, or refused with a message", input.idMapText, (text) => {
    const mappings = unlessRefused(() => parseIdMappings(text));
    if (mappings) assertEquals(mapFileText(mappings), mapFileText(text));
  }),

  rule("a mount table is parsed as the kernel writes it", input.mountInfos, (infos) => {
    assertEquals(parseMountInfo(input.mountInfoBytes(infos)), infos);
    const text = new TextDecoder().decode(input.mountInfoBytes(infos));
    if (infos.every(({ mountpoint, root, source }) => `${mountpoint}${root}${source}`.isWellFormed())) {
      assertEquals(parseMountInfo(text), infos);
    }
  }),
  rule("a damaged mount table is parsed, or refused with the line number", input.damagedTable, (text) => {
    unlessRefused(() => parseMountInfo(text));
    unlessRefused(() => parseMountInfo(new TextEncoder().encode(text)));
  }),

  rule("a mount's target stays below the root", input.path, (target) => {
    const subpath = subpathOf(target);
    assertEquals(subpath, input.walk(target));
    assertEquals(subpathOf(subpath), subpath);
  }),
  rule("a list is planned in its order", fc.array(input.path), (targets) => {
    const mounts = targets.map((target) => ({ type: "tmpfs", source: "t", target }));
    unlessRefused(() => {
      const planned = planMounts(mounts, "/target").map(({ subpath }) => subpath);
      assertEquals(planned, targets.map((target) => input.walk(target)));
    });
  }),

  rule("a list of mounts is planned, or refused with the invalid mount", input.mounts, (mounts) => {
    const frozen = mounts.map((mount) => Object.freeze({ ...mount, options: Object.freeze(mount.options) }));
    unlessRefused(() => planMounts(frozen as Mount[], "/target"));
  }),
  rule("a file of mounts is parsed back", input.mounts, (mounts) => {
    assertEquals(parseMounts(JSON.stringify(mounts), "f"), mounts.map(input.asRead));
    const likeGo = mounts.map(({ type: Type, source: Source, target: Target, options: Options }) => ({
      Type,
      Source,
      Target,
      Options,
    }));
    assertEquals(parseMounts(JSON.stringify(likeGo), "f"), mounts.map(input.asRead));
  }),
  rule("any JSON is parsed, or refused with a message", input.json, (text) => {
    unlessRefused(() => parseMounts(text, "file"));
  }),
];

function isUtf8(bytes: Uint8Array<ArrayBuffer>): boolean {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes) !== undefined;
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}
