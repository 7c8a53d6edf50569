/**
 * The option `replace`, beside other processes that read what is replaced, or replace it too.
 *
 * @module
 */

import { mount, mountAll, unmountAll } from "../../mod.ts";
import { pretendMissing, umount2 } from "../../linux/mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { mounted, needs, replace, rows, tmpfs, ways } from "./replacing.ts";

const READS = 20_000;

for (const [way, missing] of ways) {
  kernelTest(`none of ${READS} reads in another process misses a list that is replaced meanwhile, ${way}`, {
    ...needs,
    permissions: { run: true },
  }, async (t) => {
    using _way = pretendMissing(...missing);
    const target = t.make("target/inner");
    const versions = ["one", "two"].map((version) => {
      const outer = t.make(`${version}/outer/inner`, `${version}/in`).slice(0, -"/inner".length);
      for (const file of [`${outer}/file`, `${t.dir}/${version}/in/file`]) {
        Deno.writeTextFileSync(file, version);
      }
      return [
        { type: "bind", source: outer, options: ["ro"] },
        { type: "bind", source: `${t.dir}/${version}/in`, target: "/inner" },
      ];
    });
    const root = target.slice(0, -"/inner".length);
    for (const directory of [root, target]) Deno.writeTextFileSync(`${directory}/file`, "below");
    const [first = [], second = []] = versions;
    await using _first = await mountAll(first, root);
    Deno.writeTextFileSync(
      `${t.dir}/reader.ts`,
      `const found: Record<string, number> = {};
     console.log("ready");
     for (let count = 0; count < ${READS}; count++) {
       const path = count % 2 ? "${root}/file" : "${target}/file";
       let text;
       try { text = Deno.readTextFileSync(path); } catch (error) { text = String(error); }
       found[text] = (found[text] ?? 0) + 1;
     }
     console.log(JSON.stringify(found));`,
    );
    const reader = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-config", `--allow-read=${t.dir}`, `${t.dir}/reader.ts`],
      stdout: "piped",
    }).spawn();
    let output = "";
    const ended = reader.stdout.pipeThrough(new TextDecoderStream()).pipeTo(
      new WritableStream({ write: (text) => void (output += text) }),
    ).then(() => true);
    while (!output.startsWith("ready")) await new Promise((done) => setTimeout(done, 1));
    let replaced = 0;
    for (let isOver = false; !isOver; replaced++) {
      await mountAll(replaced % 2 ? first : second, root, replace); // the next one replaces it
      isOver = await Promise.race([ended, new Promise<false>((done) => setTimeout(done, 0, false))]);
    }
    await reader.status;
    const found: Record<string, number> = JSON.parse(output.slice("ready\n".length));
    assertEquals([Object.keys(found).sort(), Object.values(found).reduce((a, b) => a + b)], [
      ["one", "two"],
      READS,
    ]);
    assert(replaced > 20, `only ${replaced} replacements`);
    umount2(target, 0);
    umount2(root, 0);
    assertEquals(rows(t), []);
  });
}

kernelTest("two processes that replace the same mount at once leave no moment without one", {
  ...needs,
  permissions: { run: true },
}, async (t) => {
  const target = t.make("target", "source");
  Deno.writeTextFileSync(`${t.dir}/source/file`, "");
  await mount({ type: "bind", source: `${t.dir}/source` }, target);
  Deno.writeTextFileSync(
    `${t.dir}/program.ts`,
    `import { mount } from "${new URL("../../mod.ts", import.meta.url).href}";
     const bind = { type: "bind", source: "${t.dir}/source" };
     for (let count = 0; count < 300; count++) {
       await mount(bind, "${target}", { replace: true });
       Deno.statSync("${target}/file");
     }`,
  );
  const args = ["run", "--quiet", "-A", "--no-config", `${t.dir}/program.ts`];
  const start = () => new Deno.Command(Deno.execPath(), { args, stdout: "piped", stderr: "piped" }).output();
  for (const { code, stderr } of await Promise.all([start(), start()])) {
    assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  }
  assert(rows(t).length > 0);
  await unmountAll(target);
});

kernelTest("two calls at once both mount, and each handle unmounts its own", needs, async (t) => {
  const target = t.make("target");
  await using _lower = await mount(tmpfs("lower"), target);
  await mount(tmpfs("old"), target);
  const [one, two] = await Promise.all([
    mount(tmpfs("one"), target, replace),
    mountAll([tmpfs("two"), tmpfs("in", "/in", "X-mount.mkdir")], target, replace),
  ]);
  assertEquals(mounted(t).filter((row) => row.startsWith("old")), []);
  const top = mounted(t).filter((row) => row.endsWith(" /target")).at(-1);
  for (const handle of top === "one /target" ? [one, two] : [two, one]) await handle.unmount();
  assertEquals(mounted(t), ["lower /target"]);
});
