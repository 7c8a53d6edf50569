import { hasRoot, type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { names } from "../kernel.ts";
import { Random } from "../soak/random.ts";
import { UnmountModel } from "./model.ts";

const SEED = 13;
const hasFuse = hasRoot && names("/usr/sbin").includes("mount.fuse3") && names("/usr/bin").includes("bindfs");

const needs: Needs = {
  notEmulated: "it takes minutes",
  features: ["statmount"],
  permissions: { run: true },
  deadline: 600,
};

kernelTest(
  "after each of 10,000 random steps, exactly what a call may unmount is unmounted, and nothing foreign",
  { ...needs, root: true },
  (t) => takeSteps(t, 10_000),
);

if (!hasRoot) {
  kernelTest(
    "in a user namespace, after each of 1,000 random steps, exactly what a call may unmount is unmounted",
    needs,
    (t) => takeSteps(t, 1000),
  );
}

async function takeSteps(t: KernelContext, steps: number): Promise<void> {
  const model = new UnmountModel(t.dir, new Random(SEED), hasFuse);
  await model.begin();
  let last = "";
  for (let step = 1; step <= steps; step++) {
    try {
      last = await model.step();
    } catch (error) {
      throw new Error(`step ${step} after "${last}": ${error}`, { cause: error });
    }
  }
  await model.end();
}
