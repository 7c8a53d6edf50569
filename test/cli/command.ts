/**
 * Running the command in tests.
 *
 * @module
 */

import { pollingThreads } from "../kernel.ts";

/** The command's file. */
export const cli = new URL("../../cli.ts", import.meta.url).pathname;

/** The output and exit status of the command. */
export interface Output {
  code: number;
  out: string;
  err: string;
}

/** Starts the command. */
export function start(args: string[], cwd: string): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", cli, ...args],
    cwd,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs the command until it exits. */
export async function denomount(args: string[], { cwd = "/", input = "" } = {}): Promise<Output> {
  const child = start(args, cwd);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input)).catch(() => {}); // some subcommands never read standard input
  await writer.close().catch(() => {});
  const { code, stdout, stderr } = await child.output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

/** The exit status of a process that must end; 137 if it goes on for 20 seconds. */
export async function exitCode(child: Deno.ChildProcess): Promise<number> {
  const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
  try {
    return (await child.status).code;
  } finally {
    clearTimeout(timer);
  }
}

/** Starts `denomount watch`; returns the process and the lines that it prints. */
export async function startWatch(args: string[], dir: string) {
  const child = start(["watch", ...args], dir);
  await child.stdin.close();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  const lines = async (count: number) => {
    while (text.split("\n").length <= count) {
      const { value, done } = await reader.read();
      if (done) break;
      text += value;
    }
    return text.trim().split("\n");
  };
  while (pollingThreads(child.pid) === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  return { child, lines, close: () => Promise.all([reader.cancel(), child.stderr.cancel()]) };
}
