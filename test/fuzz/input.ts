/**
 * Random input: valid, nearly valid, and arbitrary.
 *
 * @module
 */

import fc from "fast-check";
import { decodeName } from "../../ffi/text.ts";
import type { IdMapping } from "../../linux/spec/id_mapping.ts";
import type { Mount } from "../../linux/spec/mount.ts";
import type { MountInfo } from "../../linux/mountinfo/parse_mountinfo.ts";
import type { OverlayOptions } from "../../linux/spec/overlay_options.ts";

const text = fc.string({ unit: "binary", maxLength: 20 });

/** Any UTF-16, with lone surrogates. */
export const units: fc.Arbitrary<string> = fc.string({
  unit: fc.oneof(
    fc.integer({ min: 0, max: 0xffff }),
    fc.integer({ min: 0xd800, max: 0xdfff }),
    fc.integer({ min: 0xdc80, max: 0xdcff }),
  ).map((unit) => String.fromCharCode(unit)),
});

const byte = fc.oneof(
  fc.integer({ min: 1, max: 255 }),
  fc.constantFrom(...new TextEncoder().encode("\n\t \\#:,'\"é€😀\ufeff\ufffd")),
);

/** Any bytes except NUL, many of them special characters. */
export const bytes: fc.Arbitrary<Uint8Array<ArrayBuffer>> = fc.array(byte).map((all) => Uint8Array.from(all));

/** The bytes of a name that a directory can have. */
export const nameBytes: fc.Arbitrary<Uint8Array<ArrayBuffer>> = fc
  .array(byte.filter((code) => code !== 0x2f), { minLength: 1, maxLength: 40 })
  .map((all) => Uint8Array.from(all))
  .filter((all) => ![".", ".."].includes(decodeName(all)));

/** A name that is valid UTF-8. */
export const fileName: fc.Arbitrary<string> = nameBytes.map(decodeName).filter((name) => name.isWellFormed());

const words = [
  "ro rw rro rrw nosuid rnosuid suid dev exec noatime relatime strictatime bind rbind remount shared rslave",
  "private unbindable loop direct-io offset=1K sizelimit=4MiB size=1m user users defaults x-a X-b _netdev sync",
  "uidmap=0:1:2 gidmap=0:1:2 uidmap= gidmap=a uidmap=0:0:0 X-containerd.x loop=/dev/loop0 comment=a volatile",
  'context="a,b" lowerdir=/a:/b upperdir=/u workdir=/w lowerdir+=/c datadir+=/d __proto__ constructor=1 toString',
].join(" ").split(" ");

/** An entry of options. */
export const option: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(...words),
  text,
  fc.array(fc.oneof(fc.constantFrom(...words, '"', "\\", "=", ":", ""), text), { maxLength: 6 }).map((all) =>
    all.join(",")
  ),
);

/** A list of options. */
export const options: fc.Arbitrary<string[]> = fc.array(option, { maxLength: 8 });

const layerPath = fc.array(fileName, { minLength: 1, maxLength: 3 }).map((names) => `/${names.join("/")}`);

/** An overlay's layers. */
export const layers: fc.Arbitrary<OverlayOptions> = fc.record({
  lower: fc.array(layerPath, { minLength: 1, maxLength: 4 }),
  dataOnly: fc.array(layerPath, { maxLength: 2 }),
  upper: layerPath,
  work: layerPath,
  rest: fc.subarray(["index=off", "volatile", "metacopy=on"]),
}, { requiredKeys: ["lower", "dataOnly", "rest"] });

/** Options of an overlay, valid or not. */
export const overlayOptions: fc.Arbitrary<string[]> = fc.array(
  fc.tuple(
    fc.constantFrom("lowerdir=", "lowerdir+=", "datadir+=", "upperdir=", "workdir=", "lowerdir", ""),
    fc.array(fc.oneof(fc.constantFrom(":", "::", "\\", "\\:", ",", "/a"), text), { maxLength: 6 }),
  ).map(([key, parts]) => key + parts.join("")),
  { maxLength: 5 },
);

/** Splits a text at commas without a backslash before them, as overlay does. */
export function commaParts(data: string): string[] {
  return data.match(/(?:[^,\\]|\\.)+/gs) ?? [];
}

/** Valid id maps. */
export const idMappings: fc.Arbitrary<IdMapping[]> = fc.array(
  fc.record({ gap: fc.nat(1000), size: fc.integer({ min: 1, max: 65536 }) }),
  { minLength: 1, maxLength: 20 },
).map((ranges) => {
  let next = 0;
  return ranges.map(({ gap, size }) => {
    const first = next + gap;
    next = first + size;
    return { containerId: first, hostId: 4_000_000 - next, size };
  });
});

/** The text of an id map, valid or not. */
export const idMapText: fc.Arbitrary<string> = fc.array(
  fc.oneof(
    fc.tuple(fc.nat(9), fc.nat(9), fc.nat(9)).map((all) => all.join(":")),
    fc.array(
      fc.oneof(fc.nat().map(String), fc.constantFrom("-1", "", "4294967295", "1e3", "0x1", " 1"), text),
      {
        maxLength: 4,
      },
    ).map((all) => all.join(":")),
  ),
  { maxLength: 5 },
).map((all) => all.join(","));

const name = fc.oneof(nameBytes, nameBytes, fc.constant(new TextEncoder().encode("a"))).map(decodeName);
const mountedPath = fc.array(name, { maxLength: 3 }).map((names) => `/${names.join("/")}`);
const word = fc.constantFrom("tmpfs", "ext4", "fuse.x", "shared:1", "master:2", "rw", "ro,nosuid", "size=1m");

/** Entries of a mount table. */
export const mountInfos: fc.Arbitrary<MountInfo[]> = fc.array(
  fc.record({
    id: fc.nat(),
    parent: fc.nat(),
    major: fc.nat(4095),
    minor: fc.nat(1 << 20),
    root: mountedPath,
    mountpoint: mountedPath,
    options: word,
    optional: fc.array(word, { maxLength: 2 }).map((all) => all.join(" ")),
    fsType: word,
    source: fc.oneof(name, fc.constant("")),
    vfsOptions: word,
  }),
  { maxLength: 4 },
);

/** Formats a mount table as show_mountinfo() in the kernel's fs/proc_namespace.c does: seq_escape() with " \t\n\\" and "#". */
export function mountInfoBytes(infos: readonly MountInfo[]): Uint8Array<ArrayBuffer> {
  const written: number[] = [];
  const put = (plain: string) => written.push(...new TextEncoder().encode(plain));
  for (const info of infos) {
    put(`${info.id} ${info.parent} ${info.major}:${info.minor} `);
    for (const path of [info.root, info.mountpoint]) written.push(...escaped(path)), put(" ");
    put(`${info.options}${info.optional && ` ${info.optional}`} - ${info.fsType} `);
    written.push(...escaped(info.source));
    put(` ${info.vfsOptions}\n`);
  }
  return Uint8Array.from(written);
}

/** The escaped bytes of a name that has a lone surrogate for each byte that is not valid UTF-8. */
function escaped(name: string): number[] {
  return [...name].flatMap((character) => {
    if (/^[\udc80-\udcff]$/.test(character)) return [character.charCodeAt(0) - 0xdc00];
    const plain = /[ \t\n\\#]/.test(character);
    const escapedCharacter = plain ? `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}` : character;
    return [...new TextEncoder().encode(escapedCharacter)];
  });
}

/** A mount table with a part removed or inserted, or arbitrary text. */
export const damagedTable: fc.Arbitrary<string> = fc.oneof(
  text,
  fc.tuple(
    mountInfos,
    fc.nat(),
    fc.nat(10),
    fc.oneof(text, fc.constantFrom(" ", "\n", "-", " - ", "\\04", "\\")),
  )
    .map(([infos, at, length, inserted]) => {
      const table = new TextDecoder().decode(mountInfoBytes(infos));
      const start = at % (table.length + 1);
      return table.slice(0, start) + inserted + table.slice(start + length);
    }),
);

/** A path that may lead out of its root. */
export const path: fc.Arbitrary<string> = fc.array(
  fc.oneof(fc.constantFrom("..", ".", "", "a", "b", "...", "..a"), fileName),
  { maxLength: 8 },
).chain((parts) => fc.constantFrom(parts.join("/"), `/${parts.join("/")}`));

/** The path below a root, if no component is a symbolic link. */
export function walk(path: string): string {
  const stack: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") stack.pop();
    else if (part !== "" && part !== ".") stack.push(part);
  }
  return `/${stack.join("/")}`;
}

const type = fc.oneof(
  fc.constantFrom("bind", "overlay", "tmpfs", "ext4", "fuse3.x", "fuse.", "none", "", "constructor"),
  text,
);

/** Lists of mounts. */
export const mounts: fc.Arbitrary<Mount[]> = fc.array(
  fc.record({ type, source: fc.oneof(units, path), target: path, options }, {
    requiredKeys: ["type", "source"],
  }),
  { maxLength: 5 },
);

/** A mount as the parser returns it: empty fields are left out. */
export function asRead({ type, source, target = "", options = [] }: Mount): Mount {
  return {
    type,
    source,
    ...(target === "" ? {} : { target }),
    ...(options.length === 0 ? {} : { options }),
  };
}

const field = fc.constantFrom("type", "Type", "source", "target", "options", "Options", "__proto__", "x");

/** JSON of nearly valid mounts, arbitrary JSON, and invalid JSON. */
export const json: fc.Arbitrary<string> = fc.oneof(
  text,
  fc.json(),
  fc.array(fc.dictionary(field, fc.oneof(text, fc.array(text), fc.jsonValue()))).map((all) =>
    JSON.stringify(all)
  ),
);
