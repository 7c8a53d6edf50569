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
  tools: ["strace", "mkfs.ext4", "mkfs.erofs", "mount.fuse3", "bindfs"],
  permissions: { run: true, env: true },
};

/** Registers a test that injects each fault into the given calls of an operation, and expects no broken rule. */
function faultTest(
  name: string,
  operation: string,
  call: string,
  ordinals: number[],
  faults: Fault[],
  features: TestFeature[] = [],
): void {
  kernelTest(name, { ...needs, features }, async (t) => {
    const found = operations(`${t.dir}/bench`).find(({ name }) => name === operation);
    if (found === undefined) throw new Error(`unknown operation "${operation}"`);
    await using bench = await Bench.open(found, `${t.dir}/bench`);
    const isSelected = (point: Point) => point.call === call && ordinals.includes(point.nth);
    const points = bench.points.filter((point) => isSelected(point) && point.threads === "main");
    assertEquals(points.length, ordinals.length);
    for (const point of points) {
      for (const fault of faults) assertEquals((await harm(bench, point, fault)).violations, []);
    }
  });
}

faultTest(
  "mount() unmounts again if the path of its target can't be read",
  "bind, through a symbolic link",
  "readlink",
  [1],
  [
    "EINTR",
  ],
);

const bind = "bind, read-only, with mount(2)";
faultTest("mount(2) of a bind is undone if it can't be made read-only", bind, "mount", [2], [
  "EPERM",
  "EBUSY",
]);
faultTest("mount(2) of a bind is undone if its flags can't be read", bind, "statfs", [1], ["ENOMEM"]);
faultTest("mount(2) of a bind is undone if it can't be opened", bind, "openat", [2], ["EINTR"]);

const namespace = "createUserNamespace";
faultTest("createUserNamespace() waits for a child that it can't kill", namespace, "pidfd_send_signal", [2], [
  "EPERM",
]);
faultTest(
  "mount() unmounts again if it can't wait for the child of its user namespace",
  "bind, id-mapped",
  "waitid",
  [1],
  [
    "EPERM",
  ],
);
faultTest("createUserNamespace() waits again after EINTR", namespace, "waitid", [1], ["EINTR", "ENOSYS"]);

const temporary = "overlay, id-mapped, in a temporary mount";
faultTest("a temporary directory that can't be locked is removed", temporary, "flock", [1], [
  "EINTR",
  "ENOMEM",
]);
faultTest("a temporary directory that can't be opened is removed", "withTempMount", "openat", [1], ["EPERM"]);
faultTest("a temporary directory is removed if its mountpoint can't be created", "withTempMount", "mkdir", [
  2,
], ["ENOMEM"]);
faultTest(
  "a temporary mount that can't be unmounted is reported, and left to cleanupTempMounts()",
  "withTempMount",
  "umount2",
  [1],
  [
    "EPERM",
  ],
);
faultTest("a FUSE mount that can't be looked up is unmounted again", "FUSE", "statx", [2, 3], [
  "EINTR",
  "EPERM",
]);

const above = "unmountRecursive above the mounts";
faultTest("unmountRecursive() fails if it can't unmount everything", above, "statx", [1, 2], [
  "EINTR",
  "EPERM",
]);
faultTest("unmount() fails if the mountpoint can't be looked up", "unmount, tmpfs", "statx", [1], [
  "ENOSYS",
]);

const three = "unmountMounts of three";
faultTest("unmountMounts() fails if it can't unmount everything", three, "statx", [4, 5], ["EPERM"]);

const activate = "manager, activate";
faultTest("an activation that can't be recorded as complete is undone", activate, "fsync", [1], ["EIO"]);
faultTest("an activation is undone if the disk is full when a step is recorded", activate, "pwrite64", [31], [
  "ENOSPC",
]);
faultTest("an activation whose directory can't be looked at closes its lock", activate, "openat", [2], [
  "EINTR",
]);
faultTest("deactivate() goes on after a failure", "manager, deactivate", "ioctl", [3], ["EPERM"]);

const probing = "hasFeature, first call";
const temporaryErrors: Fault[] = ["EINTR", "EBUSY"];
faultTest(
  "hasFeature() does not take a temporary error for a missing feature",
  probing,
  "fsconfig",
  [1, 2, 3],
  temporaryErrors,
  [
    "overlayLayers", // kernels with fewer features get fewer calls
  ],
);

const SEED = 14;

kernelTest(
  "with faults at a sample of all calls, operations succeed, or fail with a typed error and leave nothing behind",
  {
    ...needs,
    notEmulated: "it starts some thousand programs, which take a second each in the emulator",
    deadline: 600,
  },
  async (t) => {
    const rows = await runFaults({ base: t.dir, sample: 2, seed: SEED, jobs: 2 });
    const broken = rows.flatMap(({ operation, violations }) =>
      violations.map((text) => `${operation}: ${text}`)
    );
    assertEquals(broken, [], `repeat with: deno task test:faults --sample=2 --seed=${SEED}`);
  },
);
