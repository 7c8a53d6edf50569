import fc from "fast-check";
import { decodeName } from "../../ffi/text.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { escapeDirectory, escapeLayer } from "../../linux/spec/overlay_options.ts";
import { mount, MountError, unmount, unmountAll, unmountRecursive } from "../../mod.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { nameBytes } from "./input.ts";
import { mountAtRandomNames } from "./names.ts";
import { comparePaths } from "./paths.ts";
import { rules } from "./rules.ts";
import { cases, timed } from "./scale.ts";
import { kernelTest } from "../harness.ts";
import * as raw from "../raw.ts";

fc.configureGlobal({ seed: 14 }); // the same inputs in each run; `deno task test:proofs` draws new ones

for (const { name, run } of rules) Deno.test(`fuzzing: ${name}`, () => run(200));

kernelTest("no input takes more than linear time or overflows the stack", { root: true }, () => {
  for (const [name, prepare] of cases) {
    const { ms, isLinear } = timed(prepare, /long|quotes|their bytes/.test(name) ? 10 : 1);
    assert(isLinear, `${name}: ${Math.round(ms)} ms`);
  }
});

kernelTest("a mount at any name is listed under that name", {}, async (t) => {
  await mountAtRandomNames(t.dir, 150);
});

// Two names that are not valid UTF-8, and a name with the replacement character that decoders use for them.
const lookAlikes = [[0x78, 0xff], [0x78, 0xfe], [0x78, 0xef, 0xbf, 0xbd]].map((name) =>
  Uint8Array.from(name)
);

kernelTest("unmounting a name that is not valid UTF-8 unmounts no similar name", {}, async (t) => {
  for (const call of [unmount, unmountAll, unmountRecursive]) {
    for (const name of lookAlikes) {
      raw.mkdir(raw.path(t.dir, `${call.name}`));
      const targets = lookAlikes.map((other) => raw.path(t.dir, call.name, other));
      for (const target of targets) {
        raw.mkdir(target);
        raw.mountTmpfs(raw.utf8("t"), target);
      }
      await call(decodeName(raw.path(t.dir, call.name, name)));
      const left = raw.mountpointsBelow(t.dir);
      for (const target of targets) raw.umount(target);
      const others = lookAlikes.filter((other) => other !== name).map((other) =>
        raw.path(t.dir, call.name, other).join()
      );
      assertEquals(left, others.sort());
      Deno.removeSync(`${t.dir}/${call.name}`, { recursive: true });
    }
  }
});

kernelTest("rootPath() agrees with openat2(2) in random trees of links", {}, async (t) => {
  await comparePaths(t.dir, 300);
});

kernelTest("an overlay takes layers of any name, with lowerdir+ and with mount(2)", {}, async (t) => {
  for (const [index, name] of fc.sample(nameBytes, { numRuns: 30 }).entries()) {
    const dir = raw.path(t.dir, `${index}`);
    const layers = ["lower", "other", "upper", "work"].map((kind) => raw.path(dir, kind, name));
    raw.mkdir(dir);
    for (const kind of ["lower", "other", "upper", "work", "target"]) raw.mkdir(raw.path(dir, kind));
    for (const layer of layers) raw.mkdir(layer);
    raw.mkdir(raw.path(layers[0] ?? dir, "in-lower"));
    raw.mkdir(raw.path(layers[2] ?? dir, "in-upper"));
    const [lower = "", other = "", upper = "", work = ""] = layers.map(decodeName);
    const options = [
      `lowerdir=${escapeLayer(lower)}:${escapeLayer(other)}`,
      `upperdir=${escapeDirectory(upper)}`,
      `workdir=${escapeDirectory(work)}`,
    ];
    for (const missing of [[], ["overlayLayers"]] as const) {
      using _ = pretendMissing(...missing);
      await using _stack = await mount({ type: "overlay", source: "o", options }, `${t.dir}/${index}/target`);
      const found = [...Deno.readDirSync(`${t.dir}/${index}/target`)].map(({ name }) => name).sort();
      assertEquals(found, ["in-lower", "in-upper"], decodeName(name));
    }
  }
});

kernelTest("a FUSE helper never gets a name other than the mountpoint's", {
  root: true,
  tools: ["mount.fuse3", "bindfs", "fusermount3"],
  permissions: { run: true },
}, async (t) => {
  t.make("source", "x\ufffd");
  const odd = raw.path(t.dir, Uint8Array.from([0x78, 0xff]));
  raw.mkdir(odd);
  const m = { type: "fuse3.bindfs", source: `${t.dir}/source` };
  const error = await assertRejects(() => mount(m, decodeName(odd)), MountError, "no UTF-8");
  assert(!error.message.includes("\ufffd"));
  assertEquals(raw.mountpointsBelow(t.dir), []);

  await using _lookAlike = await mount(m, `${t.dir}/x\ufffd`);
  const script = 'cd "$1" && exec bindfs source "$(printf "x\\377")"';
  const { success } = await new Deno.Command("sh", { args: ["-c", script, "sh", t.dir] }).output();
  assert(success);
  assertEquals(raw.mountpointsBelow(t.dir).length, 2);
  await unmount(decodeName(odd));
  assertEquals(raw.mountpointsBelow(t.dir), [raw.path(t.dir, "x\ufffd").join()]);
});
