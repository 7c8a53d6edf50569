import { mount, MountError } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { readText } from "../kernel.ts";

const byMount = () => pretendMissing("mountApi", "mountSetattr", "overlayLayers", "openat2");

/** A group whose name is no user's name. */
function aGroup(): [name: string, id: number] {
  const users = (readText("/etc/passwd") ?? "").split("\n").map((line) => line.split(":")[0]);
  const groups = (readText("/etc/group") ?? "").trim().split("\n").map((line) => line.split(":"));
  const [name = "", , id] = groups.find(([name = ""]) => name !== "" && !users.includes(name)) ?? [];
  return [name, Number(id)];
}

for (const api of ["fsopen(2)", "mount(2)"]) {
  const select = () => api === "mount(2)" ? byMount() : undefined;

  kernelTest(`the root of a mount gets its owner, group and mode, with ${api}`, { root: true }, async (t) => {
    using _ = select();
    t.make("target");
    const [group, gid] = aGroup();
    const changes: [options: string[], uid: number, gid: number, mode: number][] = [
      [["owner=7"], 7, 0, 0o1777],
      [["group=8"], 0, 8, 0o1777],
      [["mode=0750"], 0, 0, 0o750],
      [["owner=7", "group=8", "mode=6755"], 7, 8, 0o6755], // chown(2) clears set-user-id bits
      [["owner=root", `group=${group}`], 0, gid, 0o1777],
      [["owner=4294967294"], 4294967294, 0, 0o1777],
    ];
    for (const [words, ...expected] of changes) {
      const options = words.map((word) => `X-mount.${word}`);
      await using _mounted = await mount({ type: "tmpfs", source: "t", options }, `${t.dir}/target`);
      const { uid, gid, mode } = Deno.statSync(`${t.dir}/target`);
      assertEquals([uid, gid, (mode ?? 0) & 0o7777], expected, words.join());
    }
  });

  kernelTest(`an owner that can't be set is named, and nothing is mounted, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("target");
    const refused: [options: string[], says: RegExp][] = [
      [["X-mount.owner=4294967295"], /"4294967295" is no user id/],
      [["X-mount.group=4294967295"], /"4294967295" is no group id/],
      [["X-mount.owner=no such user"], /there is no user "no such user" in \/etc\/passwd/],
      [["X-mount.group=no such group"], /there is no group "no such group" in \/etc\/group/],
      [["ro", "X-mount.owner=0"], /"X-mount\.owner=" and .* can't be carried out: the mount is read-only/],
      [["ro", "X-mount.mode=755"], /"X-mount\.mode=" can't be carried out: the mount is read-only/],
    ];
    for (const [options, says] of refused) {
      const error = await assertRejects(
        () => mount({ type: "tmpfs", source: "t", options }, `${t.dir}/target`),
        MountError,
      );
      assert(says.test(error.message), error.message);
      assertEquals(t.mounts(), []);
    }
  });

  kernelTest(`X-mount.subdir mounts a directory of a new file system, with ${api}`, {
    features: ["overlay"],
  }, async (t) => {
    using _ = select();
    t.make("lower/in/deep", "outside", "target");
    Deno.writeTextFileSync(`${t.dir}/lower/in/deep/file`, "inside");
    Deno.symlinkSync(`${t.dir}/outside`, `${t.dir}/lower/link`);
    const overlay = (subdir: string) =>
      mount(
        {
          type: "overlay",
          source: "o",
          options: [`lowerdir=${t.dir}/lower:${t.dir}/outside`, `X-mount.subdir=${subdir}`],
        },
        `${t.dir}/target`,
      );
    {
      await using _mounted = await overlay("in/deep");
      assertEquals(Deno.readTextFileSync(`${t.dir}/target/file`), "inside");
      assertEquals(t.mounts().map(({ mountpoint, root }) => [mountpoint, root]), [["/target", "/in/deep"]]);
    }
    for (const subdir of ["none", "link"]) {
      const error = await assertRejects(() => overlay(subdir), MountError);
      assertEquals(error.code, "ENOENT");
      assertEquals(t.mounts(), []);
    }
  });
}
