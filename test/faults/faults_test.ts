import { assertEquals } from "../assert.ts";
import { Bench } from "./bench.ts";
import { type Fault, harm } from "./harm.ts";
import { operations } from "./operations.ts";
import type { Point } from "./points.ts";
import { runFaults } from "./run.ts";
import type { TestFeature } from "../feature.ts";
import { kernelTest, type Needs } from "../harness.ts";

const needs: Needs = {
  root: true,
  tools: ["strace", "mkfs.ext4", "mount.fuse3", "bindfs"],
  permissions: { run: true, env: true },
};

/** Harms one call of an operation in each way, and expects no rule to be broken. */
function faultTest(
  name: string,
  operation: string,
  call: string,
  nths: number[],
  faults: Fault[],
  features: TestFeature[] = [],
): void {
  kernelTest(name, { ...needs, features }, async (t) => {
    const found = operations(`${t.dir}/bench`).find(({ name }) => name === operation);
    if (found === undefined) throw new Error(`there is no operation "${operation}"`);
    await using bench = await Bench.open(found, `${t.dir}/bench`);
    const isMeant = (point: Point) => point.call === call && nths.includes(point.nth);
    const points = bench.points.filter((point) => isMeant(point) && point.threads === "main");
    assertEquals(points.length, nths.length);
    for (const point of points) {
      for (const fault of faults) assertEquals((await harm(bench, point, fault)).violations, []);
    }
  });
}

faultTest("a mount whose path can't be read is not left", "bind, through a symbolic link", "readlink", [1], [
  "EINTR",
]);

const older = "bind, read-only, the older way";
faultTest("a bind that can't be made read-only is taken off again", older, "mount", [2], ["EPERM", "EBUSY"]);
faultTest("a bind whose flags can't be read is taken off again", older, "statfs", [1], ["ENOMEM"]);
faultTest("a bind that can't be opened again is taken off again", older, "openat", [2], ["EINTR"]);

const namespace = "createUserNamespace";
faultTest("a child that can't be killed is waited for", namespace, "pidfd_send_signal", [2], ["EPERM"]);
faultTest(
  "a mount whose namespace's child can't be waited for is not left",
  "bind, id-mapped",
  "waitid",
  [1],
  [
    "EPERM",
  ],
);
faultTest("a wait that is interrupted goes on", namespace, "waitid", [1], ["EINTR", "ENOSYS"]);

const place = "overlay, id-mapped, at a temporary place";
faultTest("a temporary place that can't be locked is not left", place, "flock", [1], ["EINTR", "ENOMEM"]);
faultTest("a temporary place that can't be opened is not left", "withTempMount", "openat", [1], ["EPERM"]);
faultTest("a temporary place without its mountpoint is not left", "withTempMount", "mkdir", [2], ["ENOMEM"]);
faultTest(
  "a temporary mount that stays says why, and is left to a clean-up",
  "withTempMount",
  "umount2",
  [1],
  [
    "EPERM",
  ],
);
faultTest("a FUSE mount that can't be looked at is taken off again", "FUSE", "statx", [2, 3], [
  "EINTR",
  "EPERM",
]);

const above = "unmountRecursive above the mounts";
faultTest("unmountRecursive() says so where it leaves something", above, "statx", [1, 2], ["EINTR", "EPERM"]);
faultTest("a mountpoint that can't be looked at is not taken for none", "unmount, tmpfs", "statx", [1], [
  "ENOSYS",
]);

const three = "unmountMounts of three";
faultTest("unmountMounts() says so where it leaves something", three, "statx", [4, 5], ["EPERM"]);

const asked = "hasFeature, for the first time";
const passing: Fault[] = ["EINTR", "EBUSY"];
faultTest(
  "no passing failure is taken for a feature that is missing",
  asked,
  "fsconfig",
  [1, 2, 3],
  passing,
  [
    "overlayLayers", // with fewer, there are fewer calls
  ],
);

kernelTest(
  "a sample of all calls, harmed in every way: it works, or fails with a typed error and leaves nothing",
  {
    ...needs,
    notEmulated: "it starts some thousand programs, which take a second each there",
  },
  async (t) => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    const rows = await runFaults({ base: t.dir, sample: 2, seed, jobs: 2 });
    const broken = rows.flatMap(({ operation, violations }) =>
      violations.map((text) => `${operation}: ${text}`)
    );
    assertEquals(broken, [], `again with: deno task test:faults --sample=2 --seed=${seed}`);
  },
);
