/**
 * What runs in the guest: says what this kernel lacks, then runs the tests. Each line for the host begins with a mark.
 *
 * @module
 */

import { type Job, tell } from "../protocol.ts";

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
tell({ kernel, architecture: Deno.build.arch, missing });

const start = performance.now();
const args = ["run", "-A", "--cached-only", "scripts/test.ts", "--no-check", "--cached-only", ...job.tests];
const { code } = await new Deno.Command(Deno.execPath(), { args }).spawn().status;
tell({ code, seconds: Math.round((performance.now() - start) / 1000) });
