import { assertEquals, assertMatch } from "../assert.ts";
import { kernelTest } from "../harness.ts";

kernelTest(
  "a minute of random operations leaves the mount table as it should be after each, and nothing behind",
  {
    root: true,
    notEmulated: "a minute is a second there",
    tools: ["mkfs.ext4"],
    permissions: { run: true },
  },
  async () => {
    const program = new URL("main.ts", import.meta.url).pathname;
    const args = ["run", "-A", "--quiet", "--v8-flags=--expose-gc", program, "--seconds", "60"];
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
    const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assertEquals(code, 0, said);
    assertMatch(said, /"left":0/);
  },
);
