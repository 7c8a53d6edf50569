import { featureVersions, kernelFeatures } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";

kernelTest("kernelFeatures() returns for every feature whether the kernel has it", {}, () => {
  assertEquals(Object.keys(kernelFeatures()).sort(), Object.keys(featureVersions).sort());
  using _older = pretendMissing("statmount");
  assertEquals(kernelFeatures().statmount, false);
});
