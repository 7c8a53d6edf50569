import { assertEquals } from "./assert.ts";
import { kernelTest } from "./harness.ts";

const root = new URL("..", import.meta.url);

kernelTest("an import of mod.ts over http works with no import map, and needs ffi, read and write alone", {
  notEmulated: "there is no registry of packages to import from",
  permissions: { run: true, net: ["127.0.0.1"], env: true },
}, async (t) => {
  t.make("target", "cache", "where");
  const layers = Array.from({ length: 400 }, (_, index) => `${"l".repeat(60)}/${index}`);
  t.make(...layers);
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const file = new URL("." + new URL(request.url).pathname, root);
    const body = await Deno.readFile(file);
    return new Response(body, { headers: { "content-type": "application/typescript" } });
  });
  const base = `http://127.0.0.1:${server.addr.port}`;
  Deno.writeTextFileSync(
    `${t.dir}/user.ts`,
    `import { mountAll, setTempMountLocation, withTempMount } from "${base}/mod.ts";
     import { pretendMissing } from "${base}/linux/mod.ts";
     const [dir] = Deno.args;
     const layers = Array.from({ length: 400 }, (_, index) => dir + "/${"l".repeat(60)}/" + index);
     const list = [{ type: "overlay", source: "overlay", options: ["lowerdir=" + layers.join(":")] }];
     { await using _new = await mountAll(list, dir + "/target"); }
     using _older = pretendMissing("overlayLayers");
     { await using _old = await mountAll(list, dir + "/target"); }
     await setTempMountLocation(dir + "/where");
     console.log(await withTempMount([{ type: "tmpfs", source: "t" }], (root) => root.startsWith(dir)));`,
  );
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--no-config",
      "--no-lock",
      "--allow-import=127.0.0.1",
      "--allow-ffi",
      "--allow-read",
      "--allow-write",
      `${t.dir}/user.ts`,
      t.dir,
    ],
    cwd: t.dir,
    env: { DENO_DIR: `${t.dir}/cache` },
  }).output();
  assertEquals([code, new TextDecoder().decode(stdout)], [0, "true\n"], new TextDecoder().decode(stderr));
  assertEquals(t.mounts(), []);
});
