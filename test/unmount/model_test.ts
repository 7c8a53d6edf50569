import { hasRoot, kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";
import { Random } from "../soak/random.ts";
import { UnmountModel } from "./model.ts";

const STEPS = 10_000;
const SEED = 13;
const hasFuse = hasRoot && names("/usr/sbin").includes("mount.fuse3") && names("/usr/bin").includes("bindfs");

kernelTest(
  "after each of 10,000 random steps, exactly what a call may unmount is unmounted, and nothing foreign",
  { notEmulated: "it takes minutes", features: ["statmount"], permissions: { run: true } },
  async (t) => {
    const model = new UnmountModel(t.dir, new Random(SEED), hasFuse);
    await model.begin();
    let last = "";
    for (let step = 1; step <= STEPS; step++) {
      try {
        last = await model.step();
      } catch (error) {
        throw new Error(`step ${step} after "${last}": ${error}`, { cause: error });
      }
    }
    await model.end();
  },
);
