/**
 * Runs in the guest: sends the features that this kernel lacks to the host, then runs the tests.
 *
 * @module
 */

import { type Job, send } from "../protocol.ts";

const job: Job = JSON.parse(await Deno.readTextFile("/job.json"));

async function deno(...args: string[]): Promise<{ code: number; stdout: string }> {
  const { code, stdout } = await new Deno.Command(Deno.execPath(), { args, stderr: "inherit" }).output();
  return { code, stdout: new TextDecoder().decode(stdout) };
}

interface Finding {
  name: string;
  state: string;
  note?: string;
}

const doctor = await deno("run", "-A", "--cached-only", "cli.ts", "doctor", "--json");
const { kernel, findings }: { kernel: string; findings: Finding[] } = JSON.parse(doctor.stdout);
const missing = findings.filter(({ state }) => state !== "yes").map(({ name, note }) => ({ name, note }));
send({ kernel, architecture: Deno.build.arch, missing });

const start = performance.now();
const args = ["run", "-A", "--cached-only", "scripts/test.ts", "--no-check", "--cached-only", ...job.tests];
const { code } = await new Deno.Command(Deno.execPath(), { args }).spawn().status;
send({ code, seconds: Math.round((performance.now() - start) / 1000) });
