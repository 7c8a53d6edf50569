import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { install } from "../../scripts/install.ts";
import { pages, pattern, readPage, type Session, session, unexplained } from "./pages.ts";

Deno.test("every command of the pages is run by the tests, or says why not", () => {
  const left = pages().flatMap((page) => unexplained(readPage(page)).map((block) => `${page}: ${block}`));
  assertEquals(left, []);
});

const project = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
const MARK = "@@ next command";

/** Runs a page's commands in one shell, in a copy of the project; returns what each prints. */
async function run(directory: string, { commands, before }: Session): Promise<string[]> {
  const bin = `${directory}/bin`;
  await install(bin);
  await Deno.writeTextFile(`${bin}/sudo`, '#!/bin/sh\nexec "$@"\n');
  await Deno.symlink(Deno.execPath(), `${bin}/deno`);
  await Deno.chmod(`${bin}/sudo`, 0o755);
  await Deno.mkdir(`${directory}/work`);
  const script = commands.map((shown) => {
    const first = before.get(shown);
    return `${first ? `{ ${first}\n} >/dev/null\n` : ""}echo '${MARK}'\n${shown.command}\n`;
  });
  // The copy is an overlay: what the commands write is gone with their mount namespace.
  const copy =
    `mount -t tmpfs tmpfs work && mkdir work/upper work/work work/copy && mount -t overlay overlay -o ` +
    `lowerdir=${project},upperdir=work/upper,workdir=work/work work/copy && cd work/copy || exit 1`;
  const { stdout } = await new Deno.Command("unshare", {
    args: ["-m", "--propagation", "private", "--", "bash", "-c", `exec 2>&1\n${copy}\n${script.join("")}`],
    cwd: directory,
    env: {
      PATH: `${bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      NO_COLOR: "1",
      COLUMNS: "80",
      LC_ALL: "C.UTF-8",
    },
    stdin: "null",
  }).output();
  return new TextDecoder().decode(stdout).split(`${MARK}\n`).slice(1);
}

for (const page of pages()) {
  const shown = session(page, readPage(page));
  if (shown.commands.length === 0) continue;
  kernelTest(`the commands of ${page} print what it shows`, {
    root: true,
    tools: ["unshare", "bash"],
    permissions: { run: true, write: true, read: true, env: true },
  }, async (t) => {
    const printed = await run(t.dir, shown);
    assertEquals(printed.length, shown.commands.length, printed.at(-1));
    for (const [index, { command, output, line }] of shown.commands.entries()) {
      const actual = (printed[index] ?? "").trimEnd();
      assert(
        pattern(output).test(actual),
        `${page}:${line}: ${command}\nprints\n${actual}\ninstead of\n${output}`,
      );
    }
  });
}
