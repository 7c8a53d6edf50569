import { assertEquals, assertMatch } from "../assert.ts";
import { kernelTest } from "../harness.ts";

kernelTest(
  "after each of a minute's random operations the mount table is as expected, and nothing is left behind",
  {
    root: true,
    notEmulated: "an emulated minute is too short",
    deadline: 300,
    tools: ["mkfs.ext4"],
    permissions: { run: true },
  },
  async () => {
    const program = new URL("main.ts", import.meta.url).pathname;
    const args = [
      "run",
      "-A",
      "--quiet",
      "--v8-flags=--expose-gc",
      program,
      "--seconds",
      "60",
      "--seed",
      "14",
    ];
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
    const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assertEquals(code, 0, said);
    assertMatch(said, /"left":0/);
  },
);
