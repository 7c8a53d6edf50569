/**
 * A tool that runs the commands of a coding agent: each line of standard input is a shell command, each line of standard
 * output what came of it, as JSON. The commands share a box. They can write the project, but not its .git/hooks and what else
 * would run on this machine later; credentials are hidden, and the network is off unless the tool is started with --network.
 *
 *     echo 'make test' | deno run --allow-ffi --allow-run --allow-read --allow-env examples/agent.ts PROJECT [--network]
 *
 * It needs no root.
 *
 * @module
 */

import { type Sandbox, sandbox, SandboxError } from "../linux/sandbox/mod.ts";

const TIMEOUT = 120_000; // ms for a command
const LONGEST = 30_000; // bytes of output that the agent gets

/** Files of a project that other programs of its owner execute or obey. */
const TRUSTED = [".git/hooks", ".git/config", ".vscode", ".idea", ".envrc", ".npmrc", ".mcp.json"];
/** Files of a user that no command of an agent needs. */
const SECRETS = [".ssh", ".gnupg", ".aws", ".netrc", ".config/gh", ".docker", ".kube", ".bash_history"];

/** What the agent learns of a command. */
interface Outcome {
  code: number | null;
  output: string;
  timedOut?: true;
}

async function startBox(project: string, network: boolean): Promise<Sandbox> {
  const home = Deno.env.get("HOME") ?? "/root";
  return await sandbox({
    writable: [project],
    readonly: TRUSTED.map((name) => `${project}/${name}`),
    hidden: [...SECRETS.map((name) => `${home}/${name}`), `${project}/.env`],
    missing: "skip", // secrets that this user doesn't have; what is missing in the project can't be made all the same
    network,
    cwd: project,
    env: { HOME: "/tmp", CI: "true" },
  });
}

/** Runs a command in the box; its process group is ended after the timeout. */
async function run(box: Sandbox, command: string): Promise<Outcome> {
  const signal = AbortSignal.timeout(TIMEOUT);
  try {
    const args = ["-c", `exec 2>&1\n${command}`]; // both streams in their order
    const child = box.spawn("sh", { args, stdin: "null", stdout: "piped", stderr: "null", signal });
    const [output, { code }] = await Promise.all([readShort(child.stdout), child.status]);
    return signal.aborted ? { code: null, output, timedOut: true } : { code, output };
  } catch (error) {
    if (!(error instanceof SandboxError)) throw error;
    return { code: null, output: error.message };
  }
}

/** Reads to the end, and keeps the beginning. */
async function readShort(stream: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    if (text.length < LONGEST) text += chunk;
  }
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}\n[cut]` : text;
}

async function* readLines(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  yield rest;
}

const [project, ...flags] = Deno.args;
if (project === undefined) {
  console.error("usage: agent.ts PROJECT [--network]");
  Deno.exit(2);
}
await using box = await startBox(await Deno.realPath(project), flags.includes("--network"));
for await (const command of readLines(Deno.stdin.readable)) {
  if (command.trim() !== "") console.log(JSON.stringify(await run(box, command)));
}
