import { mountAll } from "../../mod.ts";
import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { run } from "../namespace/namespaces.ts";

const tmpfs = { type: "tmpfs", source: "t" };

kernelTest("a mount that a user namespace has locked is an error, and its own tree is unmounted", {
  tools: ["unshare", "timeout"],
  permissions: { run: true },
}, async (t) => {
  t.make("source", "target");
  await using _source = await mountAll([
    tmpfs,
    { ...tmpfs, target: "/sub", options: ["X-mount.mkdir"] },
  ], `${t.dir}/source`);
  Deno.writeTextFileSync(
    `${t.dir}/script.ts`,
    `import { listMounts, mount, prefixFilter, unmount, unmountAll, unmountMounts } from ${
      JSON.stringify(new URL("../../mod.ts", import.meta.url))
    };
    const [dir] = Deno.args;
    const code = (work) => work.then(() => "unmounted", (error) => error.code);
    console.log(await code(unmount(dir + "/source")), await code(unmountAll(dir + "/source")));
    const rbind = { type: "bind", source: dir + "/source", options: ["rbind"] };
    const left = async () => (await listMounts({ filter: prefixFilter(dir + "/target") })).length;
    for (const unmountTree of [(handle) => handle.unmount(), () => unmountMounts([rbind], dir + "/target")]) {
      const handle = await mount(rbind, dir + "/target");
      console.log(await left(), await code(unmountTree(handle)), await left());
    }`,
  );
  const deno = [Deno.execPath(), "run", "-A", "--quiet", "--no-config", `${t.dir}/script.ts`, t.dir];
  const said = await run("timeout", "10", "unshare", "-Urm", "--propagation", "private", ...deno);
  assertEquals(said.trim().split("\n"), ["EINVAL EINVAL", "2 unmounted 0", "2 unmounted 0"]);
});
