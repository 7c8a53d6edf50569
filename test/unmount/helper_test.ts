import { mount, unmount } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";

kernelTest("a helper that hangs is given up, and umount2(2) unmounts", {
  root: true,
  tools: ["sh", "mount.fuse3", "bindfs"],
  permissions: { run: true, env: true },
}, async (t) => {
  t.make("source", "target", "bin");
  await mount({ type: "fuse3.bindfs", source: `${t.dir}/source` }, `${t.dir}/target`);
  Deno.writeTextFileSync(`${t.dir}/bin/fusermount3`, "#!/bin/sh\nexec sleep 5\n", { mode: 0o755 });
  const path = Deno.env.get("PATH") ?? "";
  Deno.env.set("PATH", `${t.dir}/bin:${path}`);
  const start = performance.now();
  try {
    await unmount(`${t.dir}/target`, { timeout: 0 });
  } finally {
    Deno.env.set("PATH", path);
  }
  assert(performance.now() - start < 4000, "the helper was waited for");
  assertEquals(t.mounts(), []);
});

for (const missing of [[], ["statmount"]] satisfies Parameters<typeof pretendMissing>[]) {
  const way = missing.length === 0 ? "" : ", without statmount(2)";
  kernelTest(`a helper gets the mountpoint and -z, and umount2(2) unmounts what it leaves${way}`, {
    root: true,
    tools: ["sh", "mount.fuse3", "bindfs"],
    permissions: { run: true, env: true },
  }, async (t) => {
    t.make("source", "target", "bin");
    using _ = pretendMissing(...missing);
    const target = `${t.dir}/target`;
    const log = `#!/bin/sh\necho "$\{0##*/}" "$@" >> ${t.dir}/log\nexit 1\n`;
    const path = Deno.env.get("PATH") ?? "";
    const lines: string[] = [];
    for (const detach of [false, true]) {
      await mount({ type: "fuse3.bindfs", source: `${t.dir}/source` }, target);
      for (const name of ["fusermount3", "fusermount"]) {
        Deno.writeTextFileSync(`${t.dir}/bin/${name}`, log, { mode: 0o755 });
      }
      Deno.env.set("PATH", `${t.dir}/bin:${path}`);
      try {
        await unmount(target, { detach });
      } finally {
        Deno.env.set("PATH", path);
      }
      assertEquals(t.mounts(), []);
      lines.push(
        ...["fusermount3", "fusermount"].map((name) => `${name} -u${detach ? " -z" : ""} -- ${target}`),
      );
    }
    assertEquals(Deno.readTextFileSync(`${t.dir}/log`).trim().split("\n"), lines);
    assertEquals(names(`${t.dir}/target`), []);
  });
}
