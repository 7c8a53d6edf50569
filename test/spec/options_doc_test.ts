/**
 * docs/options.md and the library know the same words, and agree on which kinds of mounts take them.
 *
 * @module
 */

import { type Mount, MountError } from "../../mod.ts";
import { parseOptions } from "../../linux/spec/options.ts";
import { ATTRIBUTES, WORDS, X_MOUNT } from "../../linux/spec/option_table.ts";
import { parseOverlayOptions } from "../../linux/spec/overlay_options.ts";
import { type Plan, planMounts } from "../../linux/spec/plan.ts";
import { assert, assertEquals, assertThrows } from "../assert.ts";

const project = new URL("../../", import.meta.url);
const page = Deno.readTextFileSync(new URL("docs/options.md", project));

interface Table {
  head: string[];
  rows: string[][];
}

/** The tables of the page. */
function readTables(text: string): Table[] {
  return text.split(/\n\n+/).filter((block) => block.startsWith("|")).map((block) => {
    const [head = [], , ...rows] = block.trim().split("\n").map((line) =>
      line.slice(1, -1).split("|").map((cell) => cell.trim())
    );
    return { head, rows };
  });
}

const quoted = (text = "") => [...text.matchAll(/`([^`]+)`/g)].map(([, word = ""]) => word);
const tables = readTables(page);
const firstCells = (head: string) =>
  tables.filter((table) => table.head[0] === head).flatMap(({ rows }) =>
    rows.flatMap(([cell]) => quoted(cell))
  );
const described = firstCells("words");

/** The words that take a value, each as the page writes it, with a list in which it means something. */
const samples: Record<string, string[]> = {
  "uidmap=": ["uidmap=0:1000:1", "gidmap=0:1000:1"],
  "gidmap=": ["uidmap=0:1000:1", "gidmap=0:1000:1"],
  "offset=": ["loop", "offset=4K"],
  "sizelimit=": ["loop", "sizelimit=1GiB"],
  "direct-io": ["loop", "direct-io"],
  "lowerdir=": ["lowerdir=/c"],
  "lowerdir+=": ["lowerdir+=/c"],
  "datadir+=": ["datadir+=/c"],
  "upperdir=": ["upperdir=/u"],
  "workdir=": ["workdir=/w"],
  volatile: ["volatile"],
  "fsync=volatile": ["fsync=volatile"],
  "user=": ["user=me"],
  "comment=": ["comment=mine"],
  "x-*": ["x-mine"],
  "x-mount.mkdir": ["x-mount.mkdir"],
  "X-fstrim.*": ["X-fstrim.notrim"],
  "X-denomount.unmapped=": ["uidmap=0:1000:1", "gidmap=0:1000:1", "X-denomount.unmapped=/a"],
  "context=": ["context=a:b:c"],
  "fscontext=": ["fscontext=a:b:c"],
  "defcontext=": ["defcontext=a:b:c"],
  "rootcontext=": ["rootcontext=a:b:c"],
  seclabel: ["seclabel"],
  idmap: ["idmap", "uidmap=0:1000:1", "gidmap=0:1000:1"],
  ridmap: ["ridmap", "uidmap=0:1000:1", "gidmap=0:1000:1"],
  "X-mount.idmap=": ["X-mount.idmap=b:0:1000:1"],
  "X-mount.subdir=": ["X-mount.subdir=below"],
  "X-mount.owner=": ["X-mount.owner=1000"],
  "X-mount.mkdir=": ["X-mount.mkdir=0700"],
  "X-mount.nocanonicalize=": ["X-mount.nocanonicalize=source"],
  "X-containerd.*": ["X-containerd.some=thing"],
  "X-*": ["X-other"],
  "loop=": ["loop=/dev/loop7"],
  "size=": ["size=1m"],
};

const xMountWords = Object.entries(X_MOUNT).flatMap(([name, takes]) => [
  ...takes === "value" ? [] : [`X-mount.${name}`],
  ...takes === "none" ? [] : [`X-mount.${name}=`],
]);

Deno.test("docs/options.md has every word of the tables, each once, and no other", () => {
  const outside = Object.keys(samples).filter((word) =>
    !WORDS.has(word) && !xMountWords.includes(word) && word !== "size="
  );
  const known = [...WORDS.keys()].filter((word) => word !== ""); // an empty word is no word of the page
  assertEquals(described.toSorted(), [...known, ...xMountWords, ...outside].toSorted());
});

Deno.test("docs/options.md has every beginning of a word that the code looks for", () => {
  const files = ["options.ts", "overlay_options.ts", "split_options.ts", "x_mount.ts"];
  const sources = files.map((file) => Deno.readTextFileSync(new URL(`linux/spec/${file}`, project))).join(
    "\n",
  );
  const literals = [...sources.matchAll(/startsWith\("([^"]+)"\)/g)].map(([, text = ""]) => text);
  const constants = [...sources.matchAll(/^const \w+ = "([^"]+=)";$/gm)].map(([, text = ""]) => text);
  const found = [...new Set([...literals, ...constants])].filter((text) =>
    text !== "/" && text !== "X-mount."
  );
  assert(found.length > 12, `${found}`);
  for (const text of found) {
    const word = text.endsWith("=") ? text : `${text}*`;
    assert(described.includes(word), `the code looks for ${text}, and the page has no ${word}`);
  }
});

Deno.test("every word of docs/options.md is read, and none goes to the file system but overlay's", () => {
  const refused = ["X-containerd.*", "X-*", "loop=", "X-mount.auto-fstypes="];
  for (const word of described) {
    if (refused.includes(word)) {
      assertThrows(() => parseOptions(samples[word] ?? [`${word}ext4`]), TypeError);
      continue;
    }
    const { data } = parseOptions(samples[word] ?? [word.endsWith("=") ? `${word}0` : word]);
    const isVolatile = /volatile$/.test(word);
    assertEquals(parseOverlayOptions(data).rest, isVolatile ? [word] : [], word);
    assertEquals(data.length > 0, isVolatile || /dir\+?=$/.test(word) && !word.startsWith("X-"), word);
  }
});

Deno.test("docs/options.md has every value that an attribute takes", () => {
  const values = firstCells("value");
  assertEquals(values, ["=vfs", "=fs", "=recursive"]);
  for (const name of Object.keys(ATTRIBUTES)) {
    for (const value of values) {
      const read = () => parseOptions([`${name}${value}`]);
      if (value === "=fs" && name !== "ro" && name !== "rw") assertThrows(read, TypeError);
      else assertEquals(read().data, []);
    }
    assertThrows(() => parseOptions([`${name}=other`]), TypeError, '"vfs", "fs" or "recursive"');
  }
});

const overlay = ["lowerdir=/a:/b"];
const kinds: Record<string, Mount> = {
  bind: { type: "bind", source: "/srv", options: ["bind"] },
  overlay: { type: "overlay", source: "o", options: overlay },
  "file system": { type: "tmpfs", source: "t", options: [] },
  FUSE: { type: "fuse3.bindfs", source: "/srv", options: [] },
  remount: { type: "", source: "", options: ["remount"] },
  "remount, bind": { type: "", source: "", options: ["remount", "bind"] },
  propagation: { type: "none", source: "", options: ["shared"] },
};

/** What a plan does, without the list that it is made from and what its kind leaves out. */
function effect(mount: Mount): unknown {
  const [plan] = planMounts([mount], "/mnt");
  const { mount: _, ...rest } = plan as Plan;
  if (rest.kind === "fuse") return { ...rest, labels: [] };
  if (rest.kind !== "remount" || !rest.bind) return rest;
  return { ...rest, superFlags: [], data: [], labels: [] };
}

function answer(mount: Mount, words: readonly string[]): string {
  try {
    const before = effect(mount);
    const after = effect({ ...mount, options: [...mount.options ?? [], ...words] });
    return Deno.inspect(before, { depth: 9 }) === Deno.inspect(after, { depth: 9 }) ? "nothing" : "yes";
  } catch (error) {
    if (error instanceof MountError) return "refused";
    throw error;
  }
}

Deno.test("docs/options.md says which kind takes which word", () => {
  const [matrix] = tables.filter(({ head }) => head[0] === "for example");
  assertEquals(matrix?.head.slice(1), Object.keys(kinds));
  for (const [cell, ...answers] of matrix?.rows ?? []) {
    for (const word of quoted(cell)) {
      const found = Object.values(kinds).map((mount) => answer(mount, samples[word] ?? [word]));
      assertEquals(found, answers, word);
    }
  }
});
