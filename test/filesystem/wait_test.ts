import { mount } from "../../mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { loopDevices, openFiles } from "../kernel.ts";

const TRIES = 16; // with an abort up to 8 ms later: before, while and after the disk is read

kernelTest("a mount of a disk that is aborted leaves nothing, at whatever moment", {
  root: true,
  tools: ["mkfs.ext4"],
  permissions: { run: true },
}, async (t) => {
  const target = t.make("target");
  await new Deno.Command("mkfs.ext4", { args: ["-q", `${t.dir}/image`, "64M"] }).output();
  const entry = { type: "ext4", source: `${t.dir}/image`, options: ["loop"] };
  await (await mount(entry, target)).unmount();
  const files = openFiles();
  let aborted = 0;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const controller = new AbortController();
    const mounting = mount(entry, target, { signal: controller.signal });
    const start = performance.now();
    const abort = async () => {
      while (performance.now() - start < attempt / 2) await new Promise((resolve) => setImmediate(resolve));
      controller.abort(new RangeError("mine"));
    };
    const [ended] = await Promise.all([
      mounting.then((handle) => handle.unmount(), (error) => error),
      abort(),
    ]);
    if (ended !== undefined) {
      aborted++;
      assert(ended instanceof RangeError, `${ended}`);
    }
    assertEquals(t.mounts(), []);
  }
  assert(aborted > 0, "no mount was aborted");
  // The disk is read, and then closed, after the call has ended.
  const isClean = () => openFiles().length <= files.length && loopDevices(t.dir).length === 0;
  for (let tries = 0; tries < 100 && !isClean(); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assertEquals([openFiles(), loopDevices(t.dir)], [files, []]);
});

const DELAY = 1000; // ms that the disk takes, by strace(1)

kernelTest("an aborted signal ends the wait for a slow disk", {
  root: true,
  tools: ["mkfs.ext4", "strace"],
  permissions: { run: true },
}, async (t) => {
  const target = t.make("target");
  await new Deno.Command("mkfs.ext4", { args: ["-q", `${t.dir}/image`, "1M"] }).output();
  Deno.writeTextFileSync(
    `${t.dir}/script.ts`,
    `import { mount } from ${JSON.stringify(new URL("../../mod.ts", import.meta.url))};
    const controller = new AbortController();
    const entry = { type: "ext4", source: ${JSON.stringify(`${t.dir}/image`)}, options: ["loop", "ro"] };
    let aborted = 0;
    setTimeout(() => {
      aborted = performance.now();
      controller.abort(new RangeError("mine"));
    }, ${DELAY / 2}); // the main thread sets the source meanwhile
    const error = await mount(entry, ${
      JSON.stringify(target)
    }, { signal: controller.signal }).catch((e) => e);
    console.log(error.message, Math.round(performance.now() - aborted));
    Deno.exit(0);`,
  );
  const deno = [Deno.execPath(), "run", "-A", "--quiet", "--no-config", `${t.dir}/script.ts`];
  const inject = `--inject=fsconfig:delay_enter=${DELAY * 1000}:when=1`; // the first call of each thread
  const args = ["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "--trace=fsconfig", inject, ...deno];
  const { stdout } = await new Deno.Command("strace", { args }).output();
  const [message, ms] = new TextDecoder().decode(stdout).trim().split(" ");
  assertEquals(message, "mine");
  assert(Number(ms) < DELAY / 2, `it took ${ms} ms`);
  assertEquals(t.mounts(), []);
});
