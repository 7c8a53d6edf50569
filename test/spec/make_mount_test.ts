import fc from "fast-check";
import { bind, image, type Mount, mount, mountAll, overlay, tmpfs, withTempMount } from "../../mod.ts";
import { parseOverlayOptions } from "../../linux/spec/overlay_options.ts";
import { splitOptions } from "../../linux/spec/split_options.ts";
import { assertEquals, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";

const path = fc.stringMatching(/^[\\:,"=a+ ]{1,8}$/).map((text) => `/${text}`);

Deno.test("the layers of overlay() are read as they were given, whatever their names", () => {
  fc.assert(
    fc.property(
      fc.array(path, { minLength: 1 }),
      fc.array(path),
      path,
      path,
      (lower, dataOnly, upper, work) => {
        const { options = [] } = overlay({ lower, dataOnly, upper, work, nosuid: true });
        const words = options.flatMap(splitOptions);
        assertEquals(words.at(-1), "nosuid");
        assertEquals(parseOverlayOptions(words.slice(0, -1)), { lower, dataOnly, upper, work, rest: [] });
      },
    ),
    { numRuns: 1000 },
  );
});

Deno.test("bind(), tmpfs() and image() write what they are given", () => {
  const cases: [Mount, Mount][] = [
    [bind({ source: "/a" }), { type: "bind", source: "/a", options: ["rbind"] }],
    [bind({ source: "/a", recursive: false, readonly: true }), {
      type: "bind",
      source: "/a",
      options: ["bind", "ro"],
    }],
    [bind({ source: "/a", target: "/b", readonly: true, noexec: true, options: ["rslave"] }), {
      type: "bind",
      source: "/a",
      target: "/b",
      options: ["rbind", "rro", "noexec", "rslave"],
    }],
    [bind({ source: "/a", idMap: { uid: "0:1:2" } }), {
      type: "bind",
      source: "/a",
      options: ["rbind", "uidmap=0:1:2", "gidmap=0:1:2"],
    }],
    [tmpfs(), { type: "tmpfs", source: "tmpfs", options: [] }],
    [
      tmpfs({
        source: "x",
        size: "50%",
        inodes: 9,
        mode: 0o1750,
        uid: 1,
        gid: 2,
        nodev: true,
        readonly: true,
      }),
      {
        type: "tmpfs",
        source: "x",
        options: ["size=50%", "nr_inodes=9", "uid=1", "gid=2", "mode=01750", "ro", "nodev"],
      },
    ],
    [image({ source: "i", type: "ext4", offset: 512, size: 1024, readonly: true }), {
      type: "ext4",
      source: "i",
      options: ["loop", "offset=512", "sizelimit=1024", "ro"],
    }],
  ];
  for (const [made, expected] of cases) assertEquals(made, expected);
});

Deno.test("what is no size, mode, id or path is refused", () => {
  const bad: (() => Mount)[] = [
    () => overlay({ lower: [] }),
    () => overlay({ lower: ["/a", ""] }),
    () => overlay({ lower: ["/a"], upper: "/u" }),
    () => overlay({ lower: ["/a"], work: "/w" }),
    () => bind({ source: "" }),
    ...["1X", "", "-1", "1,mode=0", 1.5, -1, NaN, Infinity].map((size) => () => tmpfs({ size })),
    ...[-1, 0o10000, 1.5].map((mode) => () => tmpfs({ mode })),
    () => tmpfs({ uid: -1 }),
    () => tmpfs({ inodes: 0.5 }),
    () => image({ source: "a", type: "" }),
    () => image({ source: "a", type: "ext4", offset: -1 }),
    () => image({ source: "a", type: "ext4", size: 1.5 }),
  ];
  for (const make of bad) assertThrows(make, TypeError);
});

kernelTest("the kernel mounts what they describe, with commas, colons and backslashes in paths", {
  features: ["overlay"],
}, async (t) => {
  const odd = String.raw`a,b:c\d e"f`;
  t.make(`${odd}/lower`, `${odd}/upper`, `${odd}/work`, "target/bound");
  Deno.writeTextFileSync(`${t.dir}/${odd}/lower/file`, "text");
  const [lower, upper, work] = ["lower", "upper", "work"].map((name) => `${t.dir}/${odd}/${name}`) as [
    string,
    string,
    string,
  ];
  const list = [
    tmpfs({ size: "64k", mode: 0o751 }),
    bind({ source: lower, target: "/bound", readonly: true, options: ["X-mount.mkdir"] }),
  ];
  {
    await using _list = await mountAll(list, `${t.dir}/target`);
    const [memory, bound] = t.mounts();
    assertEquals([memory?.superOptions.includes("size=64k"), bound?.options[0]], [true, "ro"]);
    assertEquals((Deno.statSync(`${t.dir}/target`).mode ?? 0) & 0o7777, 0o751);
    assertEquals(Deno.readTextFileSync(`${t.dir}/target/bound/file`), "text");
  }
  await using _overlay = await mount(overlay({ lower: [lower], upper, work }), `${t.dir}/target`);
  Deno.writeTextFileSync(`${t.dir}/target/new`, "new");
  assertEquals(Deno.readTextFileSync(`${upper}/new`), "new");
});

kernelTest(
  "a temporary mount that is in use at the end is detached, if the caller says so",
  {},
  async (t) => {
    let file: Deno.FsFile | undefined;
    await withTempMount([tmpfs({ size: "64k" })], async (root) => {
      file = await Deno.create(`${root}/file`);
    }, { detach: true });
    file?.writeSync(new Uint8Array(1)); // its user keeps it
    file?.close();
    assertEquals(t.mounts(), []);
  },
);
