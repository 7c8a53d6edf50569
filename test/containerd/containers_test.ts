/**
 * Containers on the snapshotter, under three releases of containerd.
 *
 * @module
 */

import { assertEquals } from "../assert.ts";
import { containerdTest, Daemon } from "./daemon.ts";
import { buildImage } from "./image.ts";
import {
  container,
  endContainers,
  makePassable,
  removeEverything,
  retrying,
  runContainer,
  sixtyLayers,
  treeOfTop,
  USER_NAMESPACE,
} from "./node.ts";
import { RELEASES } from "./releases.ts";
import { SnapshotterProcess } from "./snapshotter_process.ts";

const tools = ["runc", "busybox"];

for (const release of RELEASES) {
  const userNamespace = release === "newest"; // what of it works in the others depends on their runc
  containerdTest(
    `a container of 60 layers runs on our snapshotter under containerd ${release}, with overlayfs' tree` +
      (userNamespace ? ", also with a user namespace" : ""),
    async (t) => {
      makePassable(t, "s", "d", "mnt");
      await using process = await SnapshotterProcess.start(`${t.dir}/s`);
      {
        await using daemon = await Daemon.start(`${t.dir}/d`, { ...process.plugin, release });
        const image = await buildImage(sixtyLayers());
        for (const snapshotter of ["overlayfs", "denomount"]) await daemon.importImage(image, snapshotter);
        using _containers = endContainers();
        await using containerd = daemon.client();
        const [theirs, ours] = [containerd.snapshots("overlayfs"), containerd.snapshots("denomount")];
        assertEquals(
          await treeOfTop(ours, image, `${t.dir}/mnt`),
          await treeOfTop(theirs, image, `${t.dir}/mnt`),
        );
        const script =
          "cat /changed; echo; ls / | grep -c file-; ls /opaque; stat -c %u:%g /file-59; echo new > /new; stat -c %u /new";
        const expected = ["59", "40", "56", "57", "58", "59", "7:8", "0"];
        for (const options of [[], ...userNamespace ? [USER_NAMESPACE] : []]) {
          const args = (name: string) => container("denomount", script, ["--rm", ...options], name);
          assertEquals(await runContainer(daemon, args), expected);
        }
        await removeEverything(daemon, process);
      }
      assertEquals(t.mounts(), []);
    },
    { tools: [...tools, ...release === "1.6" ? ["containerd"] : []], deadline: 300 }, // the first time it is downloaded
  );
}

containerdTest(
  "a container runs on while the snapshotter is killed, and is removed to nothing after both are killed",
  async (t) => {
    makePassable(t, "s", "d");
    await using process = await SnapshotterProcess.start(`${t.dir}/s`);
    {
      await using daemon = await Daemon.start(`${t.dir}/d`, process.plugin);
      await daemon.importImage(await buildImage(sixtyLayers()), "denomount");
      const script = "trap 'exit 0' TERM; while sleep 1; do :; done";
      using _containers = endContainers();
      let name = "";
      await runContainer(daemon, (given) => {
        name = given;
        return container("denomount", script, [...USER_NAMESPACE, "--detach"], name);
      });
      const inside = (...command: string[]) =>
        retrying(() => daemon.ctr("tasks", "exec", "--exec-id", "e", name, "/bin/busybox", ...command));
      const roots = () => t.mounts().filter(({ mountpoint }) => mountpoint.startsWith("/s/root/snapshots/"));
      const before = roots();
      assertEquals(before.length, 1);
      await process.stop("SIGKILL");
      assertEquals(await inside("cat", "/changed"), ["59"]);
      await process.start();
      assertEquals(roots(), before);
      await Promise.all([process.stop("SIGKILL"), daemon.stop("SIGKILL")]);
      await process.start();
      await daemon.start();
      assertEquals(await inside("stat", "-c", "%u:%g", "/file-59"), ["7:8"]);
      await daemon.ctr("tasks", "kill", "--signal", "SIGTERM", name);
      await retrying(() => daemon.ctr("tasks", "delete", name)); // it has to end first
      await removeEverything(daemon, process);
    }
    assertEquals(t.mounts(), []);
  },
  { tools },
);
