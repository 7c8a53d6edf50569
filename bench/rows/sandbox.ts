/**
 * A command in a box: beside bubblewrap and unshare(1), which are programs of their own and no runtime.
 *
 * @module
 */

import { type Sandbox, sandbox } from "../../linux/sandbox/mod.ts";
import { type Contender, OURS } from "../measure.ts";
import type { Row } from "../row.ts";

const AT_ONCE = 50;
/** strace would count the calls of many processes. */
const NO_CALLS = { calls: false } as const;

async function runTrue(box: Sandbox): Promise<void> {
  const { success } = await box.spawn("true").status;
  if (!success) throw new Error("true failed");
}

async function program(name: string, args: string[]): Promise<number> {
  const before = performance.now();
  const { success } = await new Deno.Command(name, { args, stdin: "null", stdout: "null" }).output();
  if (!success) throw new Error(`${name} failed`);
  return performance.now() - before;
}

/** The start of the runtime with an empty program: the first process of a box is one. */
const runtime = (dir: string) =>
  program(Deno.execPath(), ["run", "--quiet", "--no-config", "--allow-ffi", `${dir}/empty.ts`]);

async function wholeBox(): Promise<number> {
  const before = performance.now();
  await using box = await sandbox();
  await runTrue(box);
  await box.close();
  return performance.now() - before;
}

const PEERS: readonly [name: string, args: string[]][] = [
  ["bwrap", [
    "--unshare-all",
    "--ro-bind",
    "/",
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
    "--tmpfs",
    "/tmp",
    "true",
  ]],
  ["unshare", ["--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--cgroup", "--mount-proc", "true"]],
];

/** The peers that are installed. */
async function peers(): Promise<Contender[]> {
  const found: Contender[] = [];
  for (const [name, args] of PEERS) {
    const works = await program(name, args).catch(() => undefined);
    if (works !== undefined) found.push({ name, run: () => program(name, args) });
  }
  return found;
}

const whole: Row = {
  name: "a box, /bin/true in it, and its end",
  limits: [],
  ...NO_CALLS,
  async prepare() {
    return [{ name: OURS, run: wholeBox }, ...await peers()];
  },
};

const overRuntime: Row = {
  name: "the same, over the start of Deno",
  limits: [{ most: 100 }],
  ...NO_CALLS,
  // deno-lint-ignore require-await
  async prepare({ dir }) {
    Deno.writeTextFileSync(`${dir}/empty.ts`, "export {};\n");
    return [{ name: OURS, run: async () => -(await runtime(dir)) + await wholeBox() }];
  },
};

const command: Row = {
  name: "a further command in a box",
  limits: [],
  ...NO_CALLS,
  async prepare({ undo }) {
    const box = undo.use(await sandbox());
    return [{
      name: OURS,
      run: async () => {
        const before = performance.now();
        await runTrue(box);
        return performance.now() - before;
      },
    }];
  },
};

const many: Row = {
  name: `${AT_ONCE} boxes at once with /bin/true, each`,
  limits: [],
  rounds: 3,
  ...NO_CALLS,
  async prepare() {
    const all = async (run: () => Promise<unknown>) => {
      const before = performance.now();
      await Promise.all(Array.from({ length: AT_ONCE }, run));
      return (performance.now() - before) / AT_ONCE;
    };
    return [OURS, ...(await peers()).map(({ name }) => name)].map((name) => {
      const args = PEERS.find((peer) => peer[0] === name)?.[1];
      return { name, run: () => all(args === undefined ? wholeBox : () => program(name, args)) };
    });
  },
};

/** The memory that only this process has, and its share of the rest. */
function proportionalSize(pid: number): number {
  const [, kilobytes = "0"] = /^Pss:\s+(\d+)/m.exec(Deno.readTextFileSync(`/proc/${pid}/smaps_rollup`)) ?? [];
  return Number(kilobytes) * 1024;
}

const memory: Row = {
  name: "memory of a box, one of ten",
  unit: "bytes",
  limits: [],
  rounds: 3,
  ...NO_CALLS,
  // deno-lint-ignore require-await
  async prepare() {
    const run = async () => {
      await using boxes = new AsyncDisposableStack();
      const pids: number[] = [];
      for (let count = 0; count < 10; count++) {
        const { pid } = boxes.use(await sandbox());
        const [stage = ""] = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim().split(" ");
        pids.push(pid, Number(stage));
      }
      return pids.reduce((sum, pid) => sum + proportionalSize(pid), 0) / 10;
    };
    return [{ name: OURS, run }];
  },
};

/** Every row of this file. */
export const rows: readonly Row[] = [whole, overRuntime, command, many, memory];
