import { hasRoot, kernelTest } from "../harness.ts";
import { runModel } from "./model.ts";
import { mountFilesystem } from "./overlay.ts";

// `deno task test:changes` does 2,000 operations on each file system.
const operations = Number(Deno.env.get("DENOMOUNT_CHANGES") ?? "0");

for (const type of ["tmpfs", "ext4", "xfs", "btrfs"]) {
  for (const userxattr of [false, true]) {
    kernelTest(
      `changes, copy and layer are what an overlay ${userxattr ? "with userxattr " : ""}on ${type} shows`,
      {
        root: true,
        features: ["overlay"],
        tools: ["mount", "umount", "umoci", ...type === "tmpfs" ? [] : [`mkfs.${type}`]],
        permissions: { run: true },
        deadline: 3600,
      },
      async (t) => {
        await using _ = await mountFilesystem(type, `${t.dir}/fs`);
        const seed = (operations ? 1 : 0) + 17 * type.charCodeAt(0) + (userxattr ? 1 : 0);
        const model = { base: `${t.dir}/fs/model`, seed, userxattr, isRoot: true };
        await runModel({ ...model, operations: operations || 60, each: 30 });
      },
    );
  }
}

if (!hasRoot) {
  kernelTest("changes and copy are what an overlay in a user namespace shows", {
    features: ["overlay"],
    tools: ["mount", "umount"],
    permissions: { run: true },
  }, async (t) => {
    await using _ = await mountFilesystem("tmpfs", `${t.dir}/fs`);
    const model = { base: `${t.dir}/fs/model`, seed: 5, userxattr: true, isRoot: false };
    await runModel({ ...model, operations: operations || 100, each: 50 });
  });
}
