import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { say } from "../use/ways.ts";

kernelTest("the first error of a process has the kernel's errno", {
  permissions: { run: true, env: true },
}, async (t) => {
  const library = new URL("../../linux/mod.ts", import.meta.url);
  const program = `import { O_RDONLY, open } from "${library}";
    try { open("/etc/passwd/none", O_RDONLY); } catch (error) { console.log(error.code); }`;
  Deno.writeTextFileSync(`${t.dir}/program.ts`, program);
  const args = ["run", "--quiet", "--no-config", "--allow-ffi", `${t.dir}/program.ts`];
  const said = new Set<string>();
  for (let count = 0; count < 20; count++) said.add((await say(Deno.execPath(), args)).out.join());
  assertEquals([...said], ["ENOTDIR"]);
});
