import { assert, assertEquals } from "../assert.ts";
import { Bench } from "../faults/bench.ts";
import { harm } from "../faults/harm.ts";
import { operations } from "../faults/operations.ts";
import { nameOf, type Point } from "../faults/points.ts";
import { kernelTest, type Needs } from "../harness.ts";
import { names, processCommands } from "../kernel.ts";
import { tools } from "./everything.ts";

const needs: Needs = {
  root: true,
  tools: ["strace", ...tools],
  permissions: { run: true, env: true },
  notEmulated: "it starts some hundred processes, which take a second each in the emulator",
};

/**
 * The calls that change what another process finds. SIGKILL comes before the call is executed, so that these leave every
 * state that the calls between them can leave. `deno task test:faults --only "manager, "` has all calls.
 */
const changing = new Set([
  "mkdir",
  "rmdir",
  "flock",
  "pwrite64",
  "fsync",
  "fdatasync",
  "ftruncate",
  "clone",
  "link",
  "unlink",
  "symlink",
  "fchownat",
  "chmod",
  "ioctl",
  "fsconfig",
  "move_mount",
  "mount",
  "umount2",
]);

/** The runtime's calls when it has started mkfs, which goes on without it. */
const whileMkfsRuns: Point[] = ["recvfrom", "pidfd_open"].map((call) => ({
  call,
  nth: 1,
  threads: "main",
  undoing: false,
}));

/** The mkfs programs of processes that were killed. */
function orphans(): string[] {
  return processCommands().filter((command) => {
    const [, pid] = /mkfs.*\0\/proc\/(\d+)\/fd\//.exec(command) ?? [];
    return pid !== undefined && !names("/proc").includes(pid);
  });
}

const LANES = 2; // children at the same time

/** Kills the process at each point of an operation; returns how often. */
async function killAtEach(name: string, base: string, more: readonly Point[]): Promise<string> {
  let [killed, count] = [0, 0];
  const broken: string[] = [];
  const lane = async (_: unknown, number: number): Promise<void> => {
    const dir = `${base}/${number}`;
    const operation = operations(dir).find((operation) => operation.name === name);
    if (operation === undefined) throw new Error(`no operation is called "${name}"`);
    await using bench = await Bench.open(operation, dir);
    const isSelected = ({ call, threads }: Point) => changing.has(call) && threads !== "all";
    const points = [...bench.points.filter(isSelected), ...more];
    count = points.length;
    for (const point of points.filter((_, index) => index % LANES === number)) {
      const { outcome, violations } = await harm(bench, point, "KILL");
      broken.push(...violations.map((text) => `${nameOf(point)}: ${text}`));
      if (outcome === "killed") killed++;
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  assertEquals(broken, []);
  for (let tries = 0; tries < 500 && orphans().length > 0; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assertEquals(orphans(), [], "mkfs is left");
  assert(killed > count * 0.9, `${killed} of ${count}`);
  return `${name}: killed at ${killed} of ${count} points`;
}

kernelTest(
  "a process that is killed while it activates or deactivates leaves nothing after sync(), or all of it recorded",
  needs,
  async (t) => {
    console.log(await killAtEach("manager, activate", `${t.dir}/activate`, whileMkfsRuns));
    console.log(await killAtEach("manager, deactivate", `${t.dir}/deactivate`, []));
  },
);

kernelTest(
  "a failed look at an image is an error: only the kernel's answer about the image leads to a loop device",
  needs,
  async (t) => {
    const dir = `${t.dir}/activate`;
    const operation = operations(dir).find(({ name }) => name === "manager, activate");
    if (operation === undefined) throw new Error("no operation activates");
    await using bench = await Bench.open(operation, dir);
    // glibc's statx(3) makes EINVAL of ENOSYS.
    const looks = bench.points.filter(({ call, nth, threads }) =>
      call === "statx" && nth <= 3 && threads === "main"
    );
    assertEquals(looks.length, 3);
    for (const point of looks) {
      assertEquals(await harm(bench, point, "ENOSYS"), { outcome: "typed error", violations: [] });
    }
  },
);
