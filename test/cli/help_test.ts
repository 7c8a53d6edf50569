import type { Command } from "../../cli/deps.ts";
import { program } from "../../cli/commander.ts";
import { assert, assertEquals, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { cli } from "./command.ts";
import { command } from "./in_process.ts";

/** Every subcommand, as its words. */
function allCommands(parent: Command = program(() => {}), words: string[] = []): string[][] {
  const inner = parent.createHelp().visibleCommands(parent).filter((each) => each.name() !== "help");
  return [words, ...inner.flatMap((each) => allCommands(each, [...words, each.name()]))];
}

const help = async (words: string[]) => (await command([...words, "--help"])).out;

/** The lines that a help gives as examples. */
async function examplesOf(words: string[]): Promise<string[]> {
  const [, text = ""] = /Examples?:\n((?: {2}denomount .*\n?)+)/.exec(await help(words)) ?? [];
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}

Deno.test("no line of --help is longer than 80 characters, and every subcommand has an example", async () => {
  for (const words of allCommands()) {
    const text = await help(words);
    for (const line of text.split("\n")) assert(line.length <= 80, `${words.join(" ")}: ${line}`);
    if (words.join(" ") !== "loop") assert((await examplesOf(words)).length > 0, words.join(" "));
  }
});

kernelTest("the manual page has its sections, and no line over 80 columns", {
  tools: ["groff"],
  permissions: { run: true, env: true },
}, async (t) => {
  const { out } = await command(["manual"]);
  Deno.writeTextFileSync(`${t.dir}/page`, out);
  const { code, stdout, stderr } = await new Deno.Command("groff", {
    args: ["-man", "-Tascii", "-ww", "-rLL=80n", "-P-bou", "-P-c", `${t.dir}/page`],
  }).output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  const lines = new TextDecoder().decode(stdout).split("\n");
  for (const line of lines) assert(line.length <= 80, line);
  const sections = lines.filter((line) => /^[A-Z]/.test(line)).filter((line) =>
    !line.startsWith("DENOMOUNT")
  );
  const names = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "COMMANDS",
    "EXIT STATUS",
    "ENVIRONMENT",
    "FILES",
    "EXAMPLES",
  ];
  assertEquals(sections.filter((line) => !line.includes("denomount")), [...names, "SEE ALSO"]);
  const page = lines.join("\n").replaceAll(/\s+/g, " ");
  for (const words of allCommands().slice(1)) {
    for (const example of await examplesOf(words)) {
      assertStringIncludes(page.replaceAll(" \\ ", " "), example.replaceAll(/\s+/g, " "));
    }
  }
});

/** What an example needs before it. Each runs in a mount namespace of its own, where /mnt and /srv are empty. */
const before: [RegExp, string][] = [
  [/^denomount (down mounts|up --replace)/, "denomount up mounts.json /mnt"],
  [/^denomount umount --rec/, "mount -t tmpfs below /mnt"],
  [/^denomount umount disk/, "mount disk.img /mnt"],
  [/^denomount mount -o remount/, "mount -t tmpfs changed /mnt"],
  [/^denomount deactivate/, "denomount activate box rootfs.json > /dev/null"],
  [
    /^denomount loop detach/,
    "test -e /dev/loop0 && losetup /dev/loop0 >/dev/null 2>&1 || losetup /dev/loop0 disk.img",
  ],
];

/** What an example leaves, outside of its namespace. */
const after: [RegExp, string][] = [
  [/^denomount activate/, "denomount down - /mnt < mounts.json; denomount deactivate box"],
  [/^denomount loop attach/, "losetup -j image.ext4 | cut -d: -f1 | xargs losetup -d"],
];

/** They need containerd, or a terminal; test/cli/containerd_test.ts and watch_test.ts have them. */
const ELSEWHERE = /--containerd|^denomount (snapshotter|watch) |loop detach/;

async function prepare(t: KernelContext): Promise<string> {
  const list = (entries: unknown[]) => JSON.stringify(entries);
  const write = (name: string, text: string) => Deno.writeTextFileSync(`${t.dir}/${name}`, text);
  write(
    "mounts.json",
    list([{ type: "tmpfs", source: "t" }, {
      type: "tmpfs",
      source: "u",
      target: "/tmp",
      options: ["X-mount.mkdir"],
    }]),
  );
  write("rootfs.json", list([{ type: "bind", source: "/", options: ["rbind", "ro"] }]));
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  const { denoDir } = JSON.parse(new TextDecoder().decode(stdout));
  Deno.writeTextFileSync(
    `${t.make("bin")}/denomount`,
    `#!/bin/sh\nDENO_DIR='${denoDir}' exec '${Deno.execPath()}' run --quiet -A '${cli}' "$@"\n`,
    { mode: 0o755 },
  );
  return `set -e
cd ${t.dir}
export PATH=${t.dir}/bin:/usr/sbin:/usr/bin:/sbin:/bin XDG_STATE_HOME=${t.dir}/state
mount -t tmpfs empty /mnt
mount -t tmpfs empty /srv
mount -t tmpfs state /var/lib
mount -t tmpfs run /run
mkdir /srv/rootfs
for image in disk.img image.ext4 labelled.img; do truncate -s 4M $image; mkfs.ext4 -q -F $image; done
tune2fs -L data labelled.img > /dev/null
data=$(losetup --find --show labelled.img)
trap 'umount -R /mnt 2>/dev/null || true; losetup -d $data' EXIT
`;
}

kernelTest("every example of --help works as it stands", {
  root: true,
  tools: ["unshare", "mount", "mkfs.ext4", "sh"],
  permissions: { run: true, env: true, sys: true },
  notEmulated: "each example starts a program",
}, async (t) => {
  const setup = await prepare(t);
  for (const words of allCommands()) {
    for (const example of (await examplesOf(words)).filter((line) => !ELSEWHERE.test(line))) {
      const found = (list: [RegExp, string][]) => list.find(([pattern]) => pattern.test(example))?.[1] ?? "";
      const target = `${t.dir}/bash_completion.d`;
      const line = example.replace("/etc/bash_completion.d", t.make("bash_completion.d") && target)
        .replace("-- /bin/sh", words.length === 0 ? "-- /bin/sh -c true" : "-- /bin/sh")
        .replace("man -l -", "cat > /dev/null");
      const script = `${setup}${found(before)}\n${line}\n${found(after)}`;
      const { code, stderr } = await new Deno.Command("unshare", {
        args: ["--mount", "--propagation", "private", "sh", "-c", script],
        stdout: "null",
      }).output();
      assertEquals([example, code, new TextDecoder().decode(stderr)], [example, 0, ""]);
    }
  }
});
