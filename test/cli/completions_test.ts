import { assert, assertEquals } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { cli, denomount } from "./command.ts";
import { command, listFile } from "./in_process.ts";

/** A line that is completed, with words that must be in the answer and words that must not. */
interface Case {
  line: string;
  wanted?: string[];
  unwanted?: string[];
}

const FILES = ["mounts-one", "mounts-two"];

const cases: Case[] = [
  { line: "denomount ", wanted: ["umount", "explain", "help"] },
  { line: "denomount lo", wanted: ["loop", "lookup"], unwanted: ["explain"] },
  { line: "denomount help ", wanted: ["umount", "explain"] },
  { line: "denomount help xyz ", unwanted: ["explain", ...FILES] },
  { line: "denomount xyz ", unwanted: ["explain", "--version"] },
  { line: "denomount xyz abc ", unwanted: ["explain", "--version"] },
  { line: "denomount xyz --", unwanted: ["explain", "--version"] },
  { line: "denomount umount --", wanted: ["--lazy", "--recursive"], unwanted: ["--tree", ...FILES] },
  { line: "denomount loop ", wanted: ["attach", "detach"], unwanted: ["explain"] },
  { line: "denomount loop attach --", wanted: ["--autoclear", "--offset"] },
  { line: "denomount loop ls --", wanted: ["--json"], unwanted: ["--tree"] },
  { line: "denomount loop xyz ", unwanted: ["attach", "explain"] },
  { line: "denomount umount --timeout ", unwanted: ["--lazy", "explain", ...FILES] },
  { line: "denomount umount --timeout 5 moun", wanted: FILES },
  { line: "denomount ls --type ext4,xfs --", wanted: ["--tree", "--json"] },
  { line: "denomount up moun", wanted: FILES, unwanted: ["explain"] },
  { line: "denomount up mounts-one moun", wanted: FILES },
  { line: "denomount umount -- moun", wanted: FILES },
  { line: "denomount umount -- --", unwanted: ["--lazy"] },
  { line: "denomount run", unwanted: ["run-isolated"] }, // it is hidden
  { line: "denomount ls -t moun", unwanted: FILES }, // the value of an option
  { line: "denomount run mounts-one -- --", unwanted: ["--chroot"] },
  { line: "denomount ls --", wanted: ["--containerd", "--address", "--namespace"] },
  { line: "denomount up --", wanted: ["--replace", "--namespace"] },
  { line: "denomount explain --", wanted: ["--replace", "--json"] },
  { line: "denomount up --containerd --", wanted: ["--address", "--namespace"] },
  { line: "denomount down --containerd --address moun", wanted: FILES }, // a socket
  { line: "denomount down --containerd overlayfs/key moun", wanted: FILES },
  { line: "denomount down --containerd moun", unwanted: FILES }, // a snapshot
  { line: "denomount mont", unwanted: ["mounts-one"] },
  { line: "denomount moun", wanted: ["mount"], unwanted: FILES },
  { line: "denomount mount -t ", wanted: ["tmpfs", "ext4"], unwanted: FILES },
  { line: "denomount mount --type=tm", wanted: ["tmpfs"], unwanted: ["ext4"] },
  { line: "denomount mount -o moun", unwanted: FILES },
  { line: "denomount mount moun", wanted: FILES },
  { line: "denomount mount a b moun", unwanted: FILES }, // there is no third argument
  { line: "denomount lookup a moun", unwanted: FILES },
  { line: "denomount doctor moun", unwanted: FILES },
  { line: "denomount manual ", unwanted: FILES },
  { line: "denomount activate moun", unwanted: FILES }, // a new name
  { line: "denomount activate box moun", wanted: FILES },
  { line: "denomount completions ", wanted: ["bash", "zsh", "fish"], unwanted: FILES },
  { line: "denomount completions bash moun", unwanted: FILES },
  { line: "denomount ls --columns ", wanted: ["propagation", "used"], unwanted: FILES },
  { line: "denomount ls --namespace moun", unwanted: FILES },
  { line: "denomount up --root mo", wanted: ["mounts-dir"], unwanted: FILES },
  { line: "denomount up --root=mo", wanted: ["mounts-dir"], unwanted: FILES },
  { line: "denomount run mounts-one unshar", wanted: ["unshare"], unwanted: FILES },
  { line: "denomount run mounts-one -- unshar", wanted: ["unshare"] },
  { line: "denomount run mounts-one -- cat moun", wanted: FILES },
  { line: "denomount run mounts-one cat moun", wanted: FILES },
  { line: "denomount loop detach moun", unwanted: FILES },
  { line: "denomount loop attach --offset moun", unwanted: FILES },
  { line: "denomount snapshotter --root d --prepare ", wanted: ["always", "never"] },
  { line: "denomount umount mounts-one mounts-t", wanted: ["mounts-two"] },
];

/** Lines whose completions are names of activations, in the directory "manager". */
const activationCases: Case[] = [
  { line: "denomount deactivate --root manager ", wanted: ["box-one", "box-two"], unwanted: FILES },
  { line: "denomount deactivate --root manager --lazy box", wanted: ["box-one", "box-two"], unwanted: FILES },
  {
    line: "denomount deactivate --root=manager up:/srv/",
    wanted: ["/srv/a", "/srv/b"],
    unwanted: ["box-one"],
  },
  { line: "denomount deactivate --root none ", unwanted: ["box-one", ...FILES] },
];

const DEADLINE = 5000; // ms for one completion; an endless loop takes longer

/** A shell on a terminal of its own; SIGKILL ends it after a minute, also in an endless loop. */
class Terminal implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;
  #text = "";

  constructor(shell: string, cwd: string) {
    this.#child = new Deno.Command("script", {
      args: ["-qfec", `exec timeout --foreground -s KILL 60 ${shell}`, "/dev/null"],
      cwd,
      clearEnv: true,
      env: { PATH: `${cwd}/bin:/usr/bin:/bin`, TERM: "dumb", HOME: "/nonexistent" },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) this.#text += text;
  }

  async type(text: string): Promise<void> {
    this.#text = "";
    await this.#writer.write(new TextEncoder().encode(text));
  }

  /** The output since the last type(), when all words are in it or the time is over. */
  async output(words: string[], ms: number, line = ""): Promise<string> {
    for (const end = Date.now() + ms; Date.now() < end;) {
      const text = completedOn(this.#text, line);
      if (words.length > 0 && words.every((word) => text.includes(word))) break;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return this.#text;
  }

  /** Runs a command line; fails unless the shell answers within the deadline. */
  async run(line: string): Promise<void> {
    await this.type(`${line}; echo REA""DY\n`);
    const text = await this.output(["READY"], DEADLINE);
    assert(text.includes("READY"), `no answer to ${line}: ${text}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    this.#child.kill("SIGKILL");
    await Promise.all([this.#child.status, this.#reading]);
  }
}

/** What a shell has added to a line: after a unique completion, the end of the last word. */
function completedOn(text: string, line: string): string {
  const word = /[^ =]*$/.exec(line)?.[0] ?? "";
  const added = text.replace(line, "");
  return `${word}${added}\n${added}`;
}

const ERASE_LINE = "\x15";

async function completeOnTerminal(t: KernelContext, shell: string, setup: string[]): Promise<void> {
  await using terminal = new Terminal(shell, t.dir);
  for (const line of setup) await terminal.run(line);
  for (const { line, wanted = [], unwanted = [] } of [...cases, ...activationCases]) {
    const isQuiet = wanted.length === 0; // then the shell is asked for something else, which it does afterwards
    await terminal.type(`${line}\t${isQuiet ? `${ERASE_LINE}echo REA""DY\n` : ""}`);
    const text = await terminal.output(isQuiet ? ["READY"] : wanted, DEADLINE, line);
    const added = completedOn(text, line);
    for (const word of wanted) assert(added.includes(word), `${line}<Tab> lacks ${word}: ${text}`);
    for (const word of unwanted) assert(!added.includes(word), `${line}<Tab> contains ${word}: ${text}`);
    await terminal.run(`${ERASE_LINE}true`); // fails if the shell is still busy
  }
  await terminal.type("denomount up with\t");
  assert((await terminal.output(["\\ space"], DEADLINE)).includes("with\\ space"), "a space is escaped");
  await terminal.run(`${ERASE_LINE}true`);
}

const needs = { tools: ["script"], permissions: { run: true, sys: true } as Deno.PermissionOptionsObject };

/** The completions of an argument run the command, which is in PATH. */
async function installCommand(t: KernelContext): Promise<void> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  const { denoDir }: { denoDir: string } = JSON.parse(new TextDecoder().decode(stdout));
  const script = `#!/bin/sh\nDENO_DIR='${denoDir}' exec '${Deno.execPath()}' run --quiet -A '${cli}' "$@"\n`;
  Deno.writeTextFileSync(`${t.make("bin")}/denomount`, script, { mode: 0o755 });
}

async function writeScript(t: KernelContext, shell: string): Promise<string> {
  t.make("mounts-dir");
  for (const name of [...FILES, "with space"]) Deno.writeTextFileSync(`${t.dir}/${name}`, "");
  await installCommand(t);
  const none = listFile(t.dir, [], "none.json");
  for (const name of ["box-one", "box-two", "up:/srv/a", "up:/srv/b"]) {
    assertEquals((await command(["activate", "--root", `${t.dir}/manager`, name, none])).code, 0);
  }
  const { code, out } = await denomount(["completions", shell]);
  assertEquals(code, 0);
  Deno.writeTextFileSync(`${t.dir}/script.${shell}`, out);
  return `${t.dir}/script.${shell}`;
}

kernelTest("bash completes commands, options, files and activations, and answers after any word", {
  ...needs,
  tools: ["script", "bash"],
}, async (t) => {
  const script = await writeScript(t, "bash");
  await completeOnTerminal(t, "bash --norc --noprofile -i", [
    "bind 'set show-all-if-ambiguous on'",
    "bind 'set page-completions off'; bind 'set completion-query-items 0'; bind 'set bell-style none'",
    `source ${script}`,
  ]);
});

kernelTest("zsh completes commands, options, files and activations, and answers after any word", {
  ...needs,
  tools: ["script", "zsh"],
}, async (t) => {
  const script = await writeScript(t, "zsh");
  await completeOnTerminal(t, "zsh -f -i", [
    "autoload -U compinit; compinit -u -D; setopt no_auto_menu no_list_ambiguous; LISTMAX=10000",
    `source ${script}`,
  ]);
});

kernelTest("fish completes commands, options, files and activations, and answers after any word", {
  ...needs,
  tools: ["fish"],
}, async (t) => {
  const script = await writeScript(t, "fish");
  for (const { line, wanted = [], unwanted = [] } of [...cases, ...activationCases]) {
    const { code, stdout, stderr } = await new Deno.Command("timeout", {
      args: [
        "-s",
        "KILL",
        `${DEADLINE / 1000}`,
        "fish",
        "--no-config",
        "-c",
        'source $argv[1]; complete -C "$argv[2]"',
        script,
        line,
      ],
      cwd: t.dir,
      env: { HOME: t.dir, PATH: `${t.dir}/bin:/usr/bin:/bin` },
    }).output();
    const text = new TextDecoder().decode(stdout);
    assertEquals([code, new TextDecoder().decode(stderr)], [0, ""], line);
    const words = text.split("\n").map((row) =>
      row.split("\t")[0]?.replace(/\/$/, "").replace(/^(up:|--[\w-]+=)/, "")
    );
    for (const word of wanted) assert(words.includes(word), `${line}<Tab> lacks ${word}: ${text}`);
    for (const word of unwanted) assert(!words.includes(word), `${line}<Tab> contains ${word}: ${text}`);
  }
});
