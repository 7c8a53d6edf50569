import { featureVersions, kernelFeatures } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";

kernelTest("kernelFeatures() returns for every feature whether the kernel has it", {}, () => {
  assertEquals(Object.keys(kernelFeatures()).sort(), Object.keys(featureVersions).sort());
  using _older = pretendMissing("statmount");
  assertEquals(kernelFeatures().statmount, false);
});

kernelTest("pretendMissing() restores what was known, and probes again what was not", {
  permissions: { run: true },
}, async (t) => {
  const linux = new URL("../../linux/mod.ts", import.meta.url).href;
  Deno.writeTextFileSync(
    `${t.dir}/script.ts`,
    `import { hasFeature, kernelFeatures, pretendMissing } from "${linux}";
     {
       using _unprobed = pretendMissing("openat2", "statmount");
       if (hasFeature("openat2")) throw new Error("not missing");
     }
     const first = kernelFeatures();
     {
       using _probed = pretendMissing("openat2", "statmount");
       if (hasFeature("statmount")) throw new Error("not missing");
     }
     // A probe leaves no descriptor open.
     const open = () => [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => {
       try { return Deno.readLinkSync("/proc/self/fd/" + name); } catch { return ""; }
     }).filter((target) => /user:|fanotify|pidfd|fscontext|^\\/$/.test(target));
     console.log(JSON.stringify([first, kernelFeatures(), open()]));`,
  );
  const run = ["run", "-A", "--quiet", "--no-check", "--no-config", `${t.dir}/script.ts`];
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: run }).output();
  assert(success, new TextDecoder().decode(stderr));
  assertEquals(JSON.parse(new TextDecoder().decode(stdout)), [kernelFeatures(), kernelFeatures(), []]);
});

const module = new URL("../../mod.ts", import.meta.url).href;
const filter = new URL("with_filter.ts", import.meta.url).pathname;
const calls: [call: string, number: number, missing: (keyof typeof featureVersions)[]][] = [
  ["open_tree", 428, ["mountApi"]],
  ["move_mount", 429, ["mountApi", "mountBeneath", "detachedTargets"]],
  ["fsopen", 430, ["mountApi", "overlayLayers", "overlayDescriptors", "detachedLayers", "detachedTargets"]],
  ["fsconfig", 431, ["mountApi", "overlayLayers", "overlayDescriptors", "detachedLayers", "detachedTargets"]],
  ["fsmount", 432, ["mountApi", "detachedLayers", "detachedTargets"]],
  ["fspick", 433, ["mountApi"]],
  ["openat2", 437, ["openat2"]],
  ["mount_setattr", 442, ["mountSetattr", "nosymfollow"]],
  ["statmount", 457, ["statmount", "mountIdMaps"]],
  ["listmount", 458, ["statmount", "mountIdMaps"]],
  ["open_tree_attr", 467, ["openTreeAttr"]],
];
for (const [call, number, missing] of calls) {
  kernelTest(`kernelFeatures() counts as missing what a seccomp filter of ${call}(2) forbids`, {
    root: true,
    permissions: { run: true },
    notEmulated: "it takes long",
  }, async (t) => {
    const script = `${t.dir}/script.ts`;
    Deno.writeTextFileSync(
      script,
      `import { kernelFeatures } from "${module}"; console.log(JSON.stringify(kernelFeatures()));`,
    );
    const run = ["run", "-A", "--quiet", "--no-check", "--no-config"];
    for (const errno of ["EPERM", "ENOSYS"]) {
      const args = [...run, filter, `${number}`, errno, Deno.execPath(), ...run, script];
      const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
      assert(success, new TextDecoder().decode(stderr));
      const expected = { ...kernelFeatures(), ...Object.fromEntries(missing.map((name) => [name, false])) };
      assertEquals(JSON.parse(new TextDecoder().decode(stdout)), expected, errno);
    }
  });
}
