/**
 * The command with the mount manager, in tests.
 *
 * @module
 */

import type { Mount } from "../../mod.ts";
import type { KernelContext } from "../harness.ts";
import { names, readText } from "../kernel.ts";
import { cli, type Output } from "./command.ts";

/** A list that needs the manager, and no root. */
export const MANAGED: Mount[] = [
  { type: "tmpfs", source: "base", options: ["size=1m"] },
  {
    type: "format/mkdir/overlay",
    source: "overlay",
    options: [
      "X-containerd.mkdir.path={{ mount 0 }}/upper",
      "X-containerd.mkdir.path={{ mount 0 }}/work",
      "lowerdir=/usr",
      "upperdir={{ mount 0 }}/upper",
      "workdir={{ mount 0 }}/work",
    ],
  },
];

/** The arguments for the manager's directory in that of the test. */
export function at({ dir }: KernelContext): string[] {
  return ["--root", `${dir}/manager`];
}

/** The types of the mounts below the test's directory, in their order. */
export function mountedTypes(t: KernelContext): string[] {
  return t.mounts().map(({ fsType }) => fsType);
}

/** What is in the manager's directory, besides the record. */
export function leftBehind({ dir }: KernelContext): string[] {
  return names(`${dir}/manager`).filter((name) => !name.startsWith("activations.db"));
}

/** Runs the command as a process of its own, with a program before it. */
export async function denomountUnder(
  wrapper: readonly string[],
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Output & { signal: Deno.Signal | null }> {
  const [program = "", ...rest] = [...wrapper, Deno.execPath(), "run", "--quiet", "-A", cli, ...args];
  const { code, signal, stdout, stderr } = await new Deno.Command(program, { args: rest, env }).output();
  return { code, signal, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

/** The words of strace(1) that kill a process at the nth call of a kind. */
export function killedAt(t: KernelContext, call: string, when: number): string[] {
  const inject = `inject=${call}:signal=SIGKILL:when=${when}`;
  return ["strace", "-f", "-qq", "-o", `${t.dir}/trace`, "-e", `trace=${call}`, "-e", inject];
}

/** A mkfs.ext4 that sleeps; the environment that has the command find it, and the pid of its process once it runs. */
export function sleepingMkfs(t: KernelContext) {
  const lines = [
    "#!/bin/sh",
    `echo $$ > ${t.dir}/started`,
    `mv ${t.dir}/started ${t.dir}/mkfs.pid`,
    "exec sleep 60",
    "",
  ];
  Deno.writeTextFileSync(`${t.make("bin")}/mkfs.ext4`, lines.join("\n"), { mode: 0o755 });
  const running = async () => {
    while (!names(t.dir).includes("mkfs.pid")) await new Promise((resolve) => setTimeout(resolve, 5));
    const pid = (readText(`${t.dir}/mkfs.pid`) ?? "").trim();
    Deno.removeSync(`${t.dir}/mkfs.pid`);
    return pid;
  };
  return { env: { PATH: `${t.dir}/bin:/usr/bin:/bin` }, running };
}

/** Whether a process runs: a zombie does not. */
export function isRunning(pid: string): boolean {
  return /^State:\s*[^ZX]/m.test(readText(`/proc/${pid}/status`) ?? "");
}
