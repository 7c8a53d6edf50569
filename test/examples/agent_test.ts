import { assertEquals, assertMatch } from "../assert.ts";
import { kernelTest } from "../harness.ts";

const example = new URL("../../examples/agent.ts", import.meta.url).pathname;

kernelTest("the example of an agent runs commands that change the project and nothing else", {
  features: ["mountSetattr", "openat2"],
  tools: ["unshare", "sh", "mount"],
  permissions: { run: true, env: true },
}, async (t) => {
  t.make("project/.git", "home/.ssh");
  Deno.writeTextFileSync(`${t.dir}/home/.ssh/id_ed25519`, "secret");
  Deno.writeTextFileSync(`${t.dir}/project/.env`, "secret");
  const commands = [
    "echo built > result; cat result .env",
    "mkdir -p .git/hooks; echo evil > .git/hooks/pre-commit",
    `ls ${t.dir}/home/.ssh; touch ${t.dir}/home/made; cat /proc/1/environ`,
    "sleep 0.1 & exit 3",
  ];
  const grants = ["--allow-ffi", "--allow-run", "--allow-read", "--allow-env"];
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", ...grants, example, `${t.dir}/project`],
    env: { HOME: `${t.dir}/home`, DENO_DIR: denoDirectory() },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(commands.join("\n") + "\n"));
  await writer.close();
  const { stdout, stderr } = await child.output();
  const [out = "", err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  const outcomes = out.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(outcomes.map(({ code }) => code), [0, 2, 1, 3], err);
  assertEquals(outcomes[0].output, "built\n");
  assertMatch(outcomes[1].output, /Read-only file system/);
  assertEquals(outcomes[2].output.includes("id_ed25519"), false);
  const names = (path: string) => [...Deno.readDirSync(`${t.dir}/${path}`)].map(({ name }) => name).sort();
  assertEquals([names("project"), names("home"), names("project/.git")], [[".env", ".git", "result"], [
    ".ssh",
  ], []]);
});

/** The cache of this process: the program's HOME is another one. */
function denoDirectory(): string {
  return Deno.env.get("DENO_DIR") ?? `${Deno.env.get("HOME")}/.cache/deno`;
}
