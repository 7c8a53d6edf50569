import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { project, say } from "./ways.ts";

/** The programs of a page, each with the output that it shows in comments. */
function programs(page: string): { code: string; output: string[] }[] {
  const text = Deno.readTextFileSync(new URL(page, project));
  return [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code = ""]) => ({
    code,
    output: [...code.matchAll(/^ *console\.log\(.*\); \/\/ (.*)$/gm)].map(([, shown = ""]) => shown),
  }));
}

kernelTest("the fixtures of docs/testing.md print what the page shows", {
  permissions: { run: true, env: true },
}, async (t) => {
  const all = programs("docs/testing.md");
  assertEquals(all.map(({ output }) => output), [["ENOSPC"], ["EROFS"], ["changed"]]);
  for (const [index, { code, output }] of all.entries()) {
    const file = `${t.dir}/${index}.ts`;
    Deno.writeTextFileSync(
      file,
      code.replace('"@denomount/mount"', JSON.stringify(new URL("mod.ts", project).href)),
    );
    const { code: status, out, err } = await say(Deno.execPath(), ["run", "-A", "--no-check", file]);
    assertEquals([status, out.map((line) => line.trimEnd()).filter((line) => line !== "")], [0, output], err);
  }
  assert(t.mounts().length === 0);
});
