import { assert, assertEquals, assertMatch } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { mountTable } from "../kernel.ts";
import { O_RDONLY, open } from "../../linux/mod.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";
import { command } from "./in_process.ts";
import { failed, line, mountpoints, mountsIn, mountTmpfs, ways } from "./unmount_ways.ts";

const needs = {
  tools: ["unshare", "nsenter", "mount", "umount"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
};

/** The flags of umount and down that don't say which mounts. */
const FLAGS = [[], ["--lazy"], ["--force"], ["--timeout", "0"]];

for (const [name, way] of ways) {
  kernelTest(
    `${name} fails on a busy mount after its --timeout, also with --force or --no-follow; --lazy detaches it`,
    needs,
    async (t) => {
      const target = t.make("target");
      await mountTmpfs(target);
      using file = Deno.createSync(`${target}/file`);
      for (const flags of [[], ["--force"], ...name === "down" ? [] : [["--no-follow"]]]) {
        const start = performance.now();
        const timer = setTimeout(() => file.close(), 5000); // a command that waits longer ends too
        const { code, out, err } = await command(line(way, t, target, "--timeout", "150", ...flags));
        clearTimeout(timer);
        const elapsed = performance.now() - start;
        assertEquals([code, out, mountpoints(t)], [failed(name), "", ["/target"]], err);
        assertMatch(err, new RegExp(`^denomount: ${target} is in use \\(umount2: EBUSY\\)\n  .*\n$`));
        assert(elapsed >= 140 && elapsed < 2000, `${elapsed} ms`);
      }
      assertEquals(await command(line(way, t, target, "--timeout", "0", "--lazy")), {
        code: 0,
        out: "",
        err: "",
      });
      assertEquals([mountpoints(t), file.statSync().isFile], [[], true]);
    },
  );

  kernelTest(`${name} unmounts a mount that becomes free within its --timeout`, needs, async (t) => {
    const target = t.make("target");
    await mountTmpfs(target);
    const file = Deno.createSync(`${target}/file`);
    const timer = setTimeout(() => file.close(), 100);
    assertEquals((await command(line(way, t, target, "--timeout", "5000"))).code, 0);
    clearTimeout(timer);
    assertEquals(mountpoints(t), []);
  });

  kernelTest(`${name} unmounts the mount that a symbolic link leads to`, needs, async (t) => {
    const target = t.make("target");
    const link = `${t.dir}/link`;
    Deno.symlinkSync(target, link);
    for (const flags of FLAGS) {
      await mountTmpfs(target);
      assertEquals((await command(line(way, t, link, ...flags))).code, 0);
      assertEquals(mountpoints(t), []);
    }
    await mountTmpfs(target);
    await using namespace = await MountNamespace.start();
    const inNamespace = ["--namespace", `${namespace.pid}`];
    assertEquals((await command(line(way, t, link, ...inNamespace))).code, 0);
    assertEquals([mountpoints(t), mountsIn(namespace, target)], [["/target"], []]);
    if (name !== "down") {
      for (const flags of FLAGS) {
        const { code, err } = await command(line(way, t, link, "--no-follow", ...flags));
        assertEquals([code, mountpoints(t)], [32, ["/target"]], err);
      }
    }
    await run("umount", target);
  });

  kernelTest(
    `${name} of a shared mount unmounts it in its peers and slaves too, and leaves what it was bound from`,
    { ...needs, privateDirectory: true },
    async (t) => {
      t.make("shared", "source/inner");
      const target = `${t.dir}/shared/target`;
      await run("mount", "--bind", `${t.dir}/shared`, `${t.dir}/shared`);
      await run("mount", "--make-shared", `${t.dir}/shared`);
      t.make("shared/target");
      await run("mount", "-t", "tmpfs", "-o", "size=64k", "inner", `${t.dir}/source/inner`);
      await run("mount", "--make-shared", `${t.dir}/source/inner`);
      try {
        await using peer = await MountNamespace.start("--propagation", "unchanged");
        await using slave = await MountNamespace.start("--propagation", "slave");
        const tables = () => [mountpoints(t), mountsIn(peer, t.dir).length, mountsIn(slave, t.dir).length];
        const before = tables();
        const noFollow = name === "down" ? [] : [["--no-follow"]];
        for (const flags of [...FLAGS, ...noFollow, ["--namespace", `${peer.pid}`]]) {
          await run("mount", "--bind", `${t.dir}/source/inner`, target);
          assertEquals([mountsIn(peer, target).length, mountsIn(slave, target).length], [1, 1]);
          assertEquals((await command(line(way, t, target, ...flags))).code, 0);
          assertEquals(tables(), before, flags.join());
        }
        await run("mount", "--bind", `${t.dir}/source/inner`, target);
        assertEquals((await command(line(way, t, target, "--namespace", `${slave.pid}`))).code, 0);
        assertEquals([mountsIn(peer, target).length, mountsIn(slave, target).length], [1, 0]);
        await run("umount", target);
        assertEquals(tables(), before);
      } finally {
        await run("umount", `${t.dir}/source/inner`, `${t.dir}/shared`);
      }
    },
  );

  kernelTest(
    `${name} --namespace unmounts in that namespace alone, without it in this one alone`,
    needs,
    async (t) => {
      const target = t.make("target");
      await mountTmpfs(target);
      await using namespace = await MountNamespace.start();
      const here = () => mountTable().filter(({ mountpoint }) => mountpoint === target).length;
      const there = () => mountsIn(namespace, target).length;
      const inNamespace = ["--namespace", `${namespace.pid}`];
      for (const flags of FLAGS) {
        assertEquals([here(), there()], [1, 1]);
        assertEquals((await command(line(way, t, target, ...inNamespace, ...flags))).code, 0);
        assertEquals([here(), there()], [1, 0], flags.join());
        await namespace.run("mount", "-t", "tmpfs", "-o", "size=64k", "top", target);
      }
      assertEquals((await command(line(way, t, target))).code, 0);
      assertEquals([here(), there()], [0, 1]);
    },
  );

  kernelTest(
    `${name} --namespace obeys --timeout, --force and --lazy on a mount that is busy there`,
    needs,
    async (t) => {
      const target = t.make("target");
      await using namespace = await MountNamespace.start();
      await namespace.run("mount", "-t", "tmpfs", "-o", "size=64k", "top", target);
      using _file = open(`/proc/${namespace.pid}/root${target}`, O_RDONLY);
      const inNamespace = ["--namespace", `${namespace.pid}`, "--timeout", "50"];
      for (const flags of [[], ["--force"]]) {
        const start = performance.now();
        const { code, err } = await command(line(way, t, target, ...inNamespace, ...flags));
        assertEquals([code, mountsIn(namespace, target).length], [failed(name), 1], err);
        assertMatch(err, new RegExp(`^denomount: ${target} is in use \\(umount2: EBUSY\\)\n`));
        assert(performance.now() - start < 2000);
      }
      assertEquals((await command(line(way, t, target, ...inNamespace, "--lazy"))).code, 0);
      assertEquals(mountsIn(namespace, target), []);
    },
  );
}
