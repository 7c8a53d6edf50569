import { DatabaseSync } from "node:sqlite";
import { FailedPreconditionError, type LocalMountManager, NotFoundError } from "../../linux/manager/mod.ts";
import { type Mount, mountAll } from "../../mod.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { linkText, names } from "../kernel.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";
import {
  complete,
  devices,
  everything,
  makeSources,
  open,
  patient,
  remains,
  settled,
  tools,
} from "./everything.ts";

const needs: Needs = {
  root: true,
  tools: [...tools, "unshare", "nsenter", "umount"],
  permissions: { run: true, env: true },
};

/** Activates everything in this process, and writes a file into the overlay. */
async function activateHere(t: KernelContext, manager: LocalMountManager, name = "one"): Promise<void> {
  const { system } = await manager.activate(name, everything(t.dir), patient);
  await Deno.writeTextFile(`${system[0]?.source}/written`, "before the reboot");
}

/** Fails unless the image has the data of an earlier activation. */
async function assertHasData(t: KernelContext, manager: LocalMountManager, name = "one"): Promise<void> {
  const { system } = await manager.activate(name, everything(t.dir), patient);
  assertEquals(await Deno.readTextFile(`${system[0]?.source}/written`), "before the reboot");
  assertEquals(await Deno.readTextFile(`${system[0]?.source}/file`), "in the layer");
  assertEquals(remains(t.dir), [...complete]);
}

/** Changes the boot id of the record: from now on it is from before a reboot. */
function reboot(t: KernelContext): void {
  using db = new DatabaseSync(`${t.dir}/root/activations.db`);
  db.exec("UPDATE activation SET boot = 'an earlier one'");
}

const activator = new URL("activator.ts", import.meta.url).pathname;

/** Activates everything in another mount namespace. */
async function activateIn(namespace: MountNamespace, t: KernelContext, name: string): Promise<void> {
  await namespace.run(Deno.execPath(), "run", "-A", "--quiet", activator, t.dir, name);
}

const data = complete.filter((line) => line.startsWith("file "));

kernelTest(
  "after a reboot sync() names what is lost, and each is activated again with its data",
  needs,
  async (t) => {
    await makeSources(t.dir);
    await using manager = await open(t.dir);
    {
      await using namespace = await MountNamespace.start();
      await activateIn(namespace, t, "one");
      await manager.activate("nothing", [{ type: "tmpfs", source: "t" }]);
      assertEquals(remains(t.dir).filter((line) => line.startsWith("mount ")), []);
    }
    for (const device of devices(t.dir)) await run("losetup", "-d", `/dev/${device.split(" ")[0]}`);
    reboot(t);
    assertEquals(await manager.sync(), { removed: [], lost: ["nothing", "one"] });
    assertEquals(await settled(t.dir, data), data);
    assertEquals((await manager.info("one")).lost, true);
    assertEquals(await manager.sync(), { removed: [], lost: ["nothing", "one"] });
    await assertHasData(t, manager);
    assertEquals((await manager.info("one")).lost, undefined);
    assertEquals(await manager.sync(), { removed: [], lost: ["nothing"] });
    for (const name of ["nothing", "one"]) await manager.deactivate(name);
    assertEquals(await settled(t.dir, data), data);
    assertEquals(await manager.sync(), { removed: [], lost: [] });
  },
);

kernelTest("after a reboot an activation is deactivated without a sync()", needs, async (t) => {
  await makeSources(t.dir);
  await using manager = await open(t.dir);
  {
    await using namespace = await MountNamespace.start();
    await activateIn(namespace, t, "one");
  }
  for (const device of devices(t.dir)) await run("losetup", "-d", `/dev/${device.split(" ")[0]}`);
  reboot(t);
  await manager.deactivate("one");
  await assertRejects(() => manager.info("one"), NotFoundError);
  assertEquals(await settled(t.dir, data), data);
  await assertHasData(t, manager);
  await manager.deactivate("one");
});

kernelTest(
  "an activation that a reboot has ended before it was complete is removed with its files",
  needs,
  async (t) => {
    await makeSources(t.dir);
    await using manager = await open(t.dir);
    await activateHere(t, manager);
    await unmountByHand(t);
    {
      using db = new DatabaseSync(`${t.dir}/root/activations.db`);
      db.exec("UPDATE activation SET boot = 'an earlier one', state = 'activating'");
    }
    assertEquals(await manager.sync(), { removed: ["one"], lost: [] });
    assertEquals(await settled(t.dir, []), []);
  },
);

kernelTest(
  "an activation whose mount namespace has ended is lost, and its loop device is free",
  needs,
  async (t) => {
    await makeSources(t.dir);
    await using manager = await open(t.dir);
    {
      await using namespace = await MountNamespace.start();
      await activateIn(namespace, t, "one");
    }
    assertEquals(await manager.sync(), { removed: [], lost: ["one"] });
    assertEquals(await settled(t.dir, data), data);
    await assertHasData(t, manager);
    await manager.deactivate("one");
  },
);

/** Unmounts everything below the root directory with umount(8), and detaches the loop devices. */
async function unmountByHand(t: KernelContext): Promise<void> {
  for (const { mountpoint } of t.mounts().toReversed()) await run("umount", `${t.dir}${mountpoint}`);
  for (const device of devices(t.dir)) await run("losetup", "-d", `/dev/${device.split(" ")[0]}`);
}

for (const position of [0, 2, 3]) {
  kernelTest(
    `an activation without its mount ${position} is lost, and the others are unmounted`,
    needs,
    async (t) => {
      await makeSources(t.dir);
      await using manager = await open(t.dir);
      await activateHere(t, manager);
      const { active } = await manager.info("one");
      await run("umount", "-l", active[position]?.mountPoint ?? "");
      assertEquals(await manager.sync(), { removed: [], lost: ["one"] });
      assertEquals(await settled(t.dir, data), data);
      await assertHasData(t, manager);
      await manager.deactivate("one");
    },
  );
}

kernelTest("another mount in the place of one of an activation's own makes it lost", needs, async (t) => {
  await using manager = await open(t.dir);
  const { active } = await manager.activate("one", [{ type: "tmpfs", source: "t" }], { temporary: true });
  const place = active[0]?.mountPoint ?? "";
  await run("umount", place);
  await mountAll([{ type: "tmpfs", source: "another" }], place);
  assertEquals(await manager.sync(), { removed: [], lost: ["one"] });
  assertEquals(remains(t.dir), []);
});

kernelTest(
  "an activation whose loop device has another file is lost, and the device is left alone",
  needs,
  async (t) => {
    await using manager = await open(t.dir);
    const image: Mount = {
      type: "mkfs/loop",
      source: `${t.dir}/allowed/image`,
      options: ["X-containerd.mkfs.size=1MiB"],
    };
    const { active } = await manager.activate("one", [image]);
    const device = await Deno.readLink(active[0]?.mountPoint ?? "");
    await run("losetup", "-d", device);
    await Deno.writeFile(`${t.dir}/other`, new Uint8Array(1 << 20));
    await run("losetup", device, `${t.dir}/other`);
    try {
      assertEquals(await manager.sync(), { removed: [], lost: ["one"] });
      const left = `loop device loopN /other`;
      assertEquals(remains(t.dir), [left, "file image"]);
    } finally {
      await run("losetup", "-d", device);
    }
  },
);

kernelTest(
  "an activation of another mount namespace is left alone while a process is in it",
  needs,
  async (t) => {
    await makeSources(t.dir);
    await using manager = await open(t.dir);
    await using namespace = await MountNamespace.start();
    await activateIn(namespace, t, "there");
    const table = () => namespace.run("cat", "/proc/self/mountinfo");
    const before = [await table(), devices(t.dir), names(`${t.dir}/root`)];
    assertEquals(await manager.sync(), { removed: [], lost: [] });
    const error = await assertRejects(() => manager.deactivate("there"), FailedPreconditionError);
    const id = linkText(`/proc/${namespace.pid}/ns/mnt`) ?? "";
    for (const text of ['"there"', id]) assertStringIncludes(error.message, text);
    assertEquals([await table(), devices(t.dir), names(`${t.dir}/root`)], before);
    const exists = await manager.activate("there", everything(t.dir), patient).catch((error) => error);
    assertEquals(exists.name, "AlreadyExistsError");
    assertEquals([await table(), devices(t.dir), names(`${t.dir}/root`)], before);
    await namespace.run(Deno.execPath(), "run", "-A", "--quiet", activator, t.dir, "there", "deactivate");
    assert(!(await table()).includes(t.dir));
    assertEquals(await settled(t.dir, data), data);
  },
);

kernelTest(
  "a half-made activation of another mount namespace is left alone while a process is in it",
  needs,
  async (t) => {
    await makeSources(t.dir);
    await using manager = await open(t.dir);
    {
      await using namespace = await MountNamespace.start();
      await activateIn(namespace, t, "there");
      {
        using db = new DatabaseSync(`${t.dir}/root/activations.db`);
        db.exec("UPDATE activation SET state = 'activating'");
      }
      const table = () => namespace.run("cat", "/proc/self/mountinfo");
      const before = [await table(), devices(t.dir), names(`${t.dir}/root`)];
      assertEquals(await manager.sync(), { removed: [], lost: [] });
      assertEquals([await table(), devices(t.dir), names(`${t.dir}/root`)], before);
    }
    assertEquals(await manager.sync(), { removed: ["there"], lost: [] });
    assertEquals(await settled(t.dir, []), []);
  },
);

kernelTest(
  "a deactivation that a crash has cut short is completed by sync(), and keeps its files",
  needs,
  async (t) => {
    await makeSources(t.dir);
    await using manager = await open(t.dir);
    await activateHere(t, manager);
    {
      using db = new DatabaseSync(`${t.dir}/root/activations.db`);
      db.exec("UPDATE activation SET state = 'deactivating'");
    }
    assertEquals(await manager.sync(), { removed: ["one"], lost: [] });
    assertEquals(await settled(t.dir, data), data);
    await assertHasData(t, manager);
    await manager.deactivate("one", patient);
    assertEquals(await settled(t.dir, data), data);
  },
);

kernelTest(
  "a directory that a crash has left before its activation was recorded is removed by sync()",
  needs,
  async (t) => {
    await using manager = await open(t.dir);
    t.make("root/a-crashd/0", "root/other");
    await mountAll([{ type: "tmpfs", source: "t" }], `${t.dir}/root/a-crashd/0`);
    assertEquals(await manager.sync(), { removed: [], lost: [] });
    assertEquals(t.mounts(), []);
    assertEquals(names(`${t.dir}/root`).filter((name) => !name.startsWith("activations.db")), ["other"]);
  },
);
