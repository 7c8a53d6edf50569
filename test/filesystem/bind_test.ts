import { mount, MountError } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";

const byMount = () => pretendMissing("mountApi", "mountSetattr", "overlayLayers", "openat2");

const rowAt = (t: KernelContext, path: string) => t.mounts().find(({ mountpoint }) => mountpoint === path);

for (const api of ["open_tree(2)", "mount(2)"]) {
  const select = () => api === "mount(2)" ? byMount() : undefined;

  kernelTest(
    `a bind keeps the restrictions of its source, and diratime and relatime change its access times, with ${api}`,
    {},
    async (t) => {
      using _ = api === "mount(2)" ? pretendMissing("mountApi", "mountSetattr") : undefined;
      t.make("source", "target");
      const restricted = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"];
      await using _tmp = await mount({ type: "tmpfs", source: "t", options: restricted }, `${t.dir}/source`);
      for (
        const [options, expected] of [
          ["rw,suid,dev,exec", "ro,nosuid,nodev,noexec,noatime,nodiratime"],
          ["diratime", "ro,nosuid,nodev,noexec,noatime"],
          ["relatime", "ro,nosuid,nodev,noexec,nodiratime,relatime"],
        ] as const
      ) {
        for (const kind of ["bind", "rbind"]) {
          await using _bind = await mount(
            { type: "bind", source: `${t.dir}/source`, options: [kind, options] },
            `${t.dir}/target`,
          );
          const row = t.mounts().find(({ mountpoint }) => mountpoint === "/target");
          assertEquals(row?.options.join(), expected);
        }
      }
    },
  );

  kernelTest(
    `a bind is a slave of its shared source, and a peer of it with shared, with ${api}`,
    { privateDirectory: true },
    async (t) => {
      using _ = select();
      t.make("source", "target");
      const shared = { type: "tmpfs", source: "t", options: ["shared"] };
      await using _source = await mount(shared, `${t.dir}/source`);
      t.make("source/below");
      await using _below = await mount(shared, `${t.dir}/source/below`);
      const groups = (path: string) => rowAt(t, path)?.optional;
      const born = async (...options: string[]) => {
        const bound = await mount({ type: "bind", source: `${t.dir}/source`, options }, `${t.dir}/target`);
        const seen = [groups("/target"), groups("/target/below")];
        await bound.unmount({ detach: true });
        return seen;
      };
      const [peer, peerBelow] = [groups("/source"), groups("/source/below")];
      const master = (group = "") => group.replace("shared", "master");
      assertEquals(await born("bind"), [master(peer), undefined]);
      assertEquals(await born("rbind"), [master(peer), master(peerBelow)]);
      assertEquals(await born("bind", "shared"), [peer, undefined]);
      t.make("source/later");
      {
        await using _bound = await mount(
          { type: "bind", source: `${t.dir}/source`, options: ["bind"] },
          `${t.dir}/target`,
        );
        await using _later = await mount({ type: "tmpfs", source: "later" }, `${t.dir}/target/later`);
        assertEquals(rowAt(t, "/source/later"), undefined, "a mount in a bind shows in its source");
      }
    },
  );

  kernelTest(`no copy of a bind in another place is a peer of its source, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("source", "parent", "copy");
    const shared = { type: "tmpfs", source: "t", options: ["shared"] };
    await using _source = await mount(shared, `${t.dir}/source`);
    await using _parent = await mount(shared, `${t.dir}/parent`);
    t.make("parent/target");
    await using _copy = await mount(
      { type: "bind", source: `${t.dir}/parent`, options: ["bind", "shared"] },
      `${t.dir}/copy`,
    );
    await using _bound = await mount(
      { type: "bind", source: `${t.dir}/source`, options: ["bind", "nosuid"] },
      `${t.dir}/parent/target`,
    );
    const source = rowAt(t, "/source")?.optional ?? "";
    for (const path of ["/parent/target", "/copy/target"]) {
      const row = rowAt(t, path);
      assertMatch(row?.optional ?? "", RegExp(`master:${source.slice("shared:".length)}$`), path);
      assertEquals([row?.optional.split(" ").includes(source), row?.options.includes("nosuid")], [
        false,
        true,
      ]);
    }
  });

  kernelTest(`a bind of an unbindable mount fails with the reason, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("source", "target");
    await using _source = await mount(
      { type: "tmpfs", source: "t", options: ["unbindable"] },
      `${t.dir}/source`,
    );
    const bind = { type: "bind", source: `${t.dir}/source` };
    const error = await assertRejects(() => mount(bind, `${t.dir}/target`), MountError);
    assertEquals(error.code, "EINVAL");
    assertMatch(error.message, /its mount is unbindable/);
    assertEquals(t.mounts().length, 1);
  });

  kernelTest(`a directory is not bound on a file, nor a file on a directory, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("directory");
    Deno.writeTextFileSync(`${t.dir}/file`, "");
    for (const [from, to] of [["directory", "file"], ["file", "directory"]]) {
      const error = await assertRejects(
        () => mount({ type: "bind", source: `${t.dir}/${from}` }, `${t.dir}/${to}`),
        MountError,
        "a directory can't be mounted on a file, nor a file on a directory",
      );
      assertEquals(error.code, "ENOTDIR");
    }
    await using _file = await mount({ type: "bind", source: `${t.dir}/file` }, `${t.dir}/file`);
    assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/file"]);
  });

  kernelTest(
    `X-mount.subdir binds a directory of the source, and no link leads out, with ${api}`,
    {},
    async (t) => {
      using _ = select();
      t.make("source/a/b", "outside", "target");
      Deno.writeTextFileSync(`${t.dir}/source/a/b/file`, "inside");
      Deno.symlinkSync(`${t.dir}/outside`, `${t.dir}/source/link`);
      Deno.symlinkSync("/a", `${t.dir}/source/inner`);
      const bind = (subdir: string) =>
        mount(
          { type: "bind", source: `${t.dir}/source`, options: [`X-mount.subdir=${subdir}`] },
          `${t.dir}/target`,
        );
      for (const subdir of ["a/b", "inner/b"]) {
        await using _bound = await bind(subdir);
        assertEquals(Deno.readTextFileSync(`${t.dir}/target/file`), "inside", subdir);
      }
      const error = await assertRejects(() => bind("link"), MountError);
      assertEquals(error.code, "ENOENT");
      assertStringIncludes(error.message, "/source/link does not exist");
    },
  );
}

kernelTest(
  "before Linux 5.12 an rbind with rro is refused by name, and nothing is mounted",
  {},
  async (t) => {
    using _ = pretendMissing("mountSetattr");
    t.make("source", "target");
    const bind = { type: "bind", source: `${t.dir}/source`, options: ["rbind", "rro"] };
    await assertRejects(() => mount(bind, `${t.dir}/target`), MountError, '"rro" changes a tree');
    assertEquals(t.mounts(), []);
  },
);

kernelTest("rro,rw takes back ro from the top mount, but not what the source withholds", {
  features: ["mountSetattr"],
}, async (t) => {
  t.make("source", "target");
  await using _source = await mount({ type: "tmpfs", source: "t" }, `${t.dir}/source`);
  t.make("source/below");
  await using _below = await mount({ type: "tmpfs", source: "b" }, `${t.dir}/source/below`);
  for (const mode of ["rw", "ro"]) {
    await mount({ type: "", source: "", options: ["remount", "bind", mode] }, `${t.dir}/source`);
    await using _bound = await mount(
      { type: "bind", source: `${t.dir}/source`, options: ["rbind", "rro", "rw"] },
      `${t.dir}/target`,
    );
    assertEquals(["/target", "/target/below"].map((path) => rowAt(t, path)?.options[0]), [mode, "ro"]);
  }
});
