import { SharedMachine } from "../../scripts/machine.ts";
import { assert, assertEquals, assertStringIncludes } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { mountTable, processCommands } from "../kernel.ts";

kernelTest("a mount in the shared machine shows in its slave and its peer, and not outside", {
  tools: ["unshare", "nsenter", "mount"],
  permissions: { run: true, env: true },
}, async (t) => {
  await using machine = await SharedMachine.start(false);
  const mounted = machine.spawn(["mount", "-t", "tmpfs", "-o", "size=64k", "new", t.dir], {});
  assertEquals((await mounted.output()).code, 0);
  const found = (pid: number | "self") => mountTable(pid).find(({ mountpoint }) => mountpoint === t.dir);
  assertEquals(
    machine.beside.map((pid) => found(pid)?.optional.replace(/\d+/, "")),
    ["master:", "shared:"],
  );
  assertEquals(found("self"), undefined);
});

kernelTest("a test that is later than its deadline fails with what it waited for, and its child is killed", {
  tools: ["sh"],
  permissions: { run: true, env: true },
}, async (t) => {
  const file = `${t.dir}/late_test.ts`;
  Deno.writeTextFileSync(
    file,
    `import { kernelTest } from "${new URL("../harness.ts", import.meta.url)}";
     kernelTest("late", { deadline: 1, tools: ["sh"], permissions: { run: true } }, async () => {
       await new Deno.Command("sh", { args: ["-c", "sleep 4321; true"] }).output();
     });`,
  );
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const args = ["test", "-A", "--no-check", "--config", config, file];
  const { code, stdout } = await new Deno.Command(Deno.execPath(), { args, env: { NO_COLOR: "1" } }).output();
  const text = new TextDecoder().decode(stdout);
  assert(code !== 0);
  assertStringIncludes(text, '"late" did not end in 1 seconds; it waited with');
  assertStringIncludes(text, "sh -c sleep 4321; true");
  const left = processCommands().filter((command) => command.startsWith("sleep\x004321\0"));
  assertEquals(left, [], "the child runs on");
});
