import { mount, mountAll, unmountMounts, unmountRecursive } from "../../mod.ts";
import { mount as mountCall, MS_BIND } from "../../linux/mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { mountTable } from "../kernel.ts";
import { MountNamespace } from "../namespace/namespaces.ts";

const tmpfs = (path: string) => mountCall("t", path, "tmpfs", 0, "size=64k");

/** What is below the target before it is covered. */
const hidden = {
  "a mount in a directory": (target: string) => {
    Deno.mkdirSync(`${target}/a/b`, { recursive: true });
    tmpfs(`${target}/a/b`);
  },
  "a stack of mounts": (target: string) => {
    Deno.mkdirSync(`${target}/a`);
    for (let count = 0; count < 3; count++) tmpfs(`${target}/a`);
  },
  "a file": (target: string) => {
    for (const name of ["a", "b"]) Deno.writeTextFileSync(`${target}/${name}`, "");
    mountCall(`${target}/a`, `${target}/b`, null, MS_BIND, null);
  },
  nothing: () => {},
};

for (const missing of [[], ["statmount"]] satisfies Parameters<typeof pretendMissing>[]) {
  const way = missing.length === 0 ? "with statmount(2)" : "without statmount(2)";

  kernelTest(`unmountRecursive() unmounts what the mount of its target hides, ${way}`, {
    privateDirectory: true,
  }, async (t) => {
    using _ = pretendMissing(...missing);
    for (const [what, make] of Object.entries(hidden)) {
      const target = t.make(what);
      make(target);
      const below = t.mounts().length;
      for (let count = 0; count < 2; count++) tmpfs(target);
      Deno.mkdirSync(`${target}/inner`);
      tmpfs(`${target}/inner`);
      assertEquals(t.mounts().length, below + 3, what);
      await unmountRecursive(target);
      assertEquals(t.mounts(), [], what);
      await unmountRecursive(target);
    }
  });

  kernelTest(`unmountRecursive() leaves what a mount above its target hides, ${way}`, {
    privateDirectory: true,
  }, async (t) => {
    using _ = pretendMissing(...missing);
    const target = t.make("above/target");
    t.make("above/target/hidden");
    tmpfs(`${target}/hidden`);
    tmpfs(`${t.dir}/above`);
    Deno.mkdirSync(`${target}/seen`, { recursive: true });
    tmpfs(`${target}/seen`);
    await unmountRecursive(target);
    assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/above/target/hidden", "/above"]);
    await unmountRecursive(`${t.dir}/above`);
    assertEquals(t.mounts(), []);
  });

  kernelTest(`a recursive bind is unmounted with all levels below it, ${way}`, {
    privateDirectory: true,
  }, async (t) => {
    using _ = pretendMissing(...missing);
    t.make("source", "target");
    for (const path of ["source", "source/a", "source/a/b", "source/a/b/c"]) tmpfs(t.make(path));
    const list = [{ type: "bind", source: `${t.dir}/source`, options: ["rbind"] }];
    for (
      const unmount of [
        () => unmountMounts(list, `${t.dir}/target`),
        () => unmountRecursive(`${t.dir}/target`),
      ]
    ) {
      await mountAll(list, `${t.dir}/target`);
      assertEquals(t.mounts().length, 8);
      await unmount();
      assertEquals(
        t.mounts().map(({ mountpoint }) => mountpoint).filter((path) => path.startsWith("/target")),
        [],
      );
    }
    await unmountRecursive(`${t.dir}/source`);
    assertEquals(t.mounts(), []);
  });

  kernelTest(`unmountRecursive() unmounts a target that is a file, ${way}`, {}, async (t) => {
    using _ = pretendMissing(...missing);
    for (const name of ["source", "target"]) Deno.writeTextFileSync(`${t.dir}/${name}`, "");
    await mount({ type: "bind", source: `${t.dir}/source` }, `${t.dir}/target`);
    await unmountRecursive(`${t.dir}/target`);
    assertEquals(t.mounts(), []);
  });

  kernelTest(`unmountRecursive() unmounts hidden mounts in another namespace, ${way}`, {
    root: true,
    tools: ["unshare", "nsenter"],
    permissions: { run: true },
  }, async (t) => {
    using _ = pretendMissing(...missing);
    t.make("target/a");
    await using other = await MountNamespace.start();
    const count = () => mountTable(other.pid).filter(({ mountpoint }) => mountpoint.startsWith(t.dir)).length;
    for (const place of ["target/a", "target", "target"]) {
      await other.run("mount", "-t", "tmpfs", "t", `${t.dir}/${place}`);
    }
    assertEquals(count(), 3);
    await unmountRecursive(`${t.dir}/target`, { namespace: other.pid });
    assertEquals(count(), 0);
  });
}
