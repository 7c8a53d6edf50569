/**
 * The cases of containerd's test suite for snapshotters (core/snapshots/testsuite), each by its name there, asked of this
 * library's snapshotter over gRPC.
 *
 * @module
 */

import {
  AlreadyExistsError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  type SnapshotInfo,
  type Snapshotter,
} from "../../containerd/mod.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "../assert.ts";
import type { KernelContext } from "../harness.ts";
import { describeTree } from "../manager/digest_tree.ts";
import { addLayer, serve, type Served, serverTest, within } from "./served.ts";

const modes = ["never", "always"] as const;

/** Registers a case for the plain lists, and for the roots that the snapshotter mounts itself. */
function suiteTest(
  name: string,
  fn: (snapshots: Snapshotter, t: KernelContext, served: Served) => Promise<void>,
) {
  for (const prepare of modes) {
    serverTest(`containerd's suite: ${name}, --prepare=${prepare}`, async (t) => {
      t.make("mnt", "flat");
      {
        await using served = await serve(t.dir, { prepare });
        await fn(served.snapshots, t, served);
        for (
          const { name } of (await Array.fromAsync(served.local.list())).filter(({ kind }) =>
            kind !== "committed"
          )
        ) {
          await served.local.remove(name);
        }
      }
      assertEquals(t.mounts(), []);
    });
  }
}

const mnt = (t: KernelContext) => `${t.dir}/mnt`;
const write = Deno.writeTextFileSync;
const remove = (path: string) => Deno.removeSync(path, { recursive: true });

/** A file's bytes, or undefined where there is none. */
function text(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

suiteTest("Basic", async (snapshots, t) => {
  await addLayer(snapshots, "committed", "", mnt(t), (dir) => {
    write(`${dir}/foo`, "foo\n");
    Deno.mkdirSync(`${dir}/a/b/c`, { recursive: true });
  });
  const first = await snapshots.stat("committed");
  assertEquals([first.parent, first.kind], ["", "committed"]);
  await assertRejects(() => snapshots.stat("committed-making"), NotFoundError);

  const mounts = await snapshots.prepare("next", "committed");
  await within(mounts, mnt(t), (dir) => {
    assertEquals([text(`${dir}/foo`), [...Deno.readDirSync(`${dir}/a/b`)].length], ["foo\n", 1]);
    write(`${dir}/bar`, "bar\n");
    write(`${dir}/foo`, "bar\n");
    remove(`${dir}/a/b`);
  });
  const active = await snapshots.stat("next");
  assertEquals([active.parent, active.kind], ["committed", "active"]);
  await snapshots.commit("committed-next", "next");
  const second = await snapshots.stat("committed-next");
  assertEquals([second.parent, second.kind], ["committed", "committed"]);
  await assertRejects(() => snapshots.stat("next"), NotFoundError);
  assertEquals(await Array.fromAsync(snapshots.list()), [first, second]);

  await within(await snapshots.view("view", "committed-next"), mnt(t), (dir) => {
    assertEquals([text(`${dir}/foo`), text(`${dir}/bar`)], ["bar\n", "bar\n"]);
    assertEquals([...Deno.readDirSync(`${dir}/a`)], []);
  });
  await snapshots.remove("view");
  await assertRejects(() => snapshots.remove("committed"), FailedPreconditionError, "remove");
  await snapshots.remove("committed-next");
  await snapshots.remove("committed");
  assertEquals(await Array.fromAsync(snapshots.list()), []);
});

suiteTest("StatActive", async (snapshots, t) => {
  await within(await snapshots.prepare("preparing", ""), mnt(t), async (dir) => {
    write(`${dir}/foo`, "foo\n");
    const { name, kind, parent } = await snapshots.stat("preparing");
    assertEquals([name, kind, parent], ["preparing", "active", ""]);
  });
});

suiteTest("StatComitted", async (snapshots, t) => {
  await within(await snapshots.prepare("preparing", ""), mnt(t), async (dir) => {
    write(`${dir}/foo`, "foo\n");
    await snapshots.commit("committed", "preparing"); // while it is mounted
  });
  const { name, kind, parent } = await snapshots.stat("committed");
  assertEquals([name, kind, parent], ["committed", "committed", ""]);
});

suiteTest("TransitivityTest", async (snapshots, t) => {
  await addLayer(snapshots, "a", "", mnt(t), (dir) => write(`${dir}/foo`, "foo\n"));
  await addLayer(snapshots, "b", "a", mnt(t), (dir) => write(`${dir}/foo`, "foo bar\n"));
  const b = await snapshots.stat("b");
  assertEquals([(await snapshots.stat("a")).parent, b.parent, (await snapshots.stat(b.parent)).parent], [
    "",
    "a",
    "",
  ]);
});

suiteTest("PreareViewFailingtest", async (snapshots, t) => {
  await addLayer(snapshots, "a", "", mnt(t), () => {});
  await snapshots.prepare("new", "a");
  await assertRejects(() => snapshots.view("new", "a"), AlreadyExistsError);
  await assertRejects(() => snapshots.prepare("new", "a"), AlreadyExistsError);
  await snapshots.view("view", "a");
  await assertRejects(() => snapshots.view("view", "a"), AlreadyExistsError);
  await assertRejects(() => snapshots.prepare("a", ""), AlreadyExistsError); // one space of names
  await assertRejects(() => snapshots.commit("view", "new"), AlreadyExistsError);
});

/** c2 on c1, committed; a1 active and v1 a view on c2; a2 active and v2 a view on nothing. */
async function base(snapshots: Snapshotter): Promise<void> {
  await snapshots.prepare("c1-a", "");
  await snapshots.commit("c1", "c1-a");
  await snapshots.prepare("c2-a", "c1");
  await snapshots.commit("c2", "c2-a");
  await snapshots.prepare("a1", "c2");
  await snapshots.prepare("a2", "");
  await snapshots.view("v1", "c2");
  await snapshots.view("v2", "");
}

suiteTest("Update", async (snapshots) => {
  const begin = Date.now();
  await base(snapshots);
  const end = Date.now();
  const cases = {
    c1: ["committed", ""],
    c2: ["committed", "c1"],
    a1: ["active", "c2"],
    a2: ["active", ""],
    v1: ["view", "c2"],
    v2: ["view", ""],
  };
  const fields = ({ kind, parent }: SnapshotInfo) => [kind, parent];
  for (const [name, expected] of Object.entries(cases)) {
    const before = await snapshots.stat(name);
    assert(before.createdAt.getTime() >= begin && before.createdAt.getTime() <= end, name);
    assertEquals([before.updatedAt, before.name, ...fields(before)], [before.createdAt, name, ...expected]);
    const start = Date.now();
    const all = { l1: "v1", l2: "v2", l3: "v3" };
    const updated = await snapshots.update(name, { labels: all, paths: [] });
    assertEquals([updated.labels, updated.createdAt, ...fields(updated)], [
      all,
      before.createdAt,
      ...expected,
    ]);
    assert(updated.updatedAt.getTime() >= start && updated.updatedAt.getTime() <= Date.now());
    const change = { labels: { l1: "updated", l4: "v4" }, paths: ["labels.l1", "labels.l2"] };
    assertEquals((await snapshots.update(name, change)).labels, { l1: "updated", l3: "v3" });
    const whole = { labels: { l4: "v4" }, paths: ["labels"] };
    assertEquals((await snapshots.update(name, whole)).labels, { l4: "v4" });
    assertEquals((await snapshots.stat(name)).labels, { l4: "v4" });
    await assertRejects(
      () => snapshots.update(name, { labels: {}, paths: ["parent"] }),
      InvalidArgumentError,
    );
  }
});

suiteTest("Remove", async (snapshots) => {
  await snapshots.prepare("committed-a", "");
  await snapshots.commit("committed-1", "committed-a");
  await snapshots.prepare("reuse-1", "committed-1");
  await snapshots.remove("reuse-1");
  await snapshots.view("reuse-1", "committed-1");
  await snapshots.remove("reuse-1");
  await snapshots.prepare("reuse-1", "");
  await snapshots.remove("committed-1");
  await snapshots.commit("committed-1", "reuse-1");
  assertEquals((await Array.fromAsync(snapshots.list())).map(({ name }) => name), ["committed-1"]);
});

suiteTest("Walk", async (snapshots) => {
  const root = { "containerd.io/gc.root": "check-walk" };
  const labelled = (l: string) => ({ labels: { ...root, l } });
  await snapshots.prepare("a-np", "", { labels: root });
  await snapshots.prepare("p-tmp", "", { labels: root });
  await snapshots.commit("p", "p-tmp", { labels: root });
  await snapshots.prepare("a", "p", { labels: root });
  await snapshots.view("v", "p", { labels: root });
  await snapshots.prepare("p-wl-tmp", "", { labels: root });
  await snapshots.commit("p-wl", "p-wl-tmp", labelled("1"));
  await snapshots.prepare("a-wl", "p-wl", labelled("2"));
  await snapshots.view("v-wl", "p-wl", labelled("3"));
  await snapshots.prepare("a-np-wl", "", labelled("2"));
  const walk = 'labels."containerd.io/gc.root"==check-walk';
  const cases: [filters: string[], names: string[]][] = [
    [[walk], ["a-np", "p", "a", "v", "p-wl", "a-wl", "v-wl", "a-np-wl"]],
    [[`kind==active,${walk}`], ["a-np", "a", "a-wl", "a-np-wl"]],
    [[`kind==view,${walk}`], ["v", "v-wl"]],
    [[`kind==committed,${walk}`], ["p", "p-wl"]],
    [[`parent==p,${walk}`], ["a", "v"]],
    [["parent==p"], ["a", "v"]],
    [[`parent==p-wl,${walk}`], ["a-wl", "v-wl"]],
    [[`kind==active,labels.l==2,${walk}`], ["a-wl", "a-np-wl"]],
    [["labels.l==1", "labels.l==3"], ["p-wl", "v-wl"]],
    [["labels.l"], ["p-wl", "a-wl", "v-wl", "a-np-wl"]],
    [["kind==active,parent==p", "parent==p-wl,kind==view"], ["a", "v-wl"]],
    [["name~=/-wl$/"], ["p-wl", "a-wl", "v-wl", "a-np-wl"]],
    [["labels.l!=2,labels.l"], ["p-wl", "v-wl"]],
  ];
  for (const [filters, names] of cases) {
    const found = await Array.fromAsync(snapshots.list({ filters }), ({ name }: SnapshotInfo) => name);
    assertEquals(found.sort(), names.sort(), filters.join(" or "));
  }
});

/** Applies changes layer by layer; after each, the snapshot's tree is that of a plain directory with the same changes. */
async function compareLayers(
  snapshots: Snapshotter,
  t: KernelContext,
  layers: readonly ((dir: string) => void)[],
): Promise<void> {
  const flat = `${t.dir}/flat`;
  let parent = "";
  for (const [index, change] of layers.entries()) {
    await addLayer(snapshots, `layer-${index}`, parent, mnt(t), change);
    parent = `layer-${index}`;
    change(flat);
    await within(await snapshots.view("looking", parent), mnt(t), async (dir) => {
      assertEquals(
        contentsOf(await describeTree(dir)),
        contentsOf(await describeTree(flat)),
        `layer ${index}`,
      );
    });
    await snapshots.remove("looking");
  }
}

/** Without the times, which differ. */
const contentsOf = (tree: string[]) => tree.map((line) => line.replace(/ \d+\.\d{9} /, " "));

suiteTest("LayerFileupdate", async (snapshots, t) => {
  await compareLayers(snapshots, t, [
    (dir) => {
      Deno.mkdirSync(`${dir}/etc`);
      Deno.mkdirSync(`${dir}/root`, { mode: 0o700 });
      for (const name of ["hosts", "profile", "updatefile"]) write(`${dir}/etc/${name}`, name);
      write(`${dir}/root/.bashrc`, "PATH");
    },
    (dir) => {
      for (const name of ["hosts", "updatefile"]) write(`${dir}/etc/${name}`, `${name} updated`);
    },
    (dir) => {
      Deno.chmodSync(`${dir}/etc/profile`, 0o600);
      Deno.truncateSync(`${dir}/etc/updatefile`, 3);
      Deno.mkdirSync(`${dir}/root/new`);
    },
  ]);
});

suiteTest("RemoveDirectoryInLowerLayer", async (snapshots, t) => {
  await compareLayers(snapshots, t, [
    (dir) => {
      for (const name of ["dir1", "dir2"]) Deno.mkdirSync(`${dir}/${name}`);
      write(`${dir}/dir1/f1`, "1");
    },
    (dir) => {
      remove(`${dir}/dir1`);
      Deno.mkdirSync(`${dir}/dir1`); // opaque: f1 stays hidden
      write(`${dir}/dir1/f2`, "2");
    },
    (dir) => remove(`${dir}/dir2`),
  ]);
});

suiteTest("Chown", async (snapshots, t) => {
  await compareLayers(snapshots, t, [
    (dir) => {
      for (const name of ["opt", "opt/a", "opt/a/b"]) Deno.mkdirSync(`${dir}/${name}`);
      write(`${dir}/opt/a/file`, "file");
      write(`${dir}/opt/a/b/other`, "other");
    },
    (dir) => {
      Deno.chownSync(`${dir}/opt`, 1, 1);
      Deno.chownSync(`${dir}/opt/a/file`, 1, 2);
      Deno.chownSync(`${dir}/opt/a/b`, 3, 4);
    },
  ]);
});

suiteTest("DirectoryPermissionOnCommit", async (snapshots, t) => {
  await compareLayers(snapshots, t, [
    (dir) => {
      for (let index = 1; index <= 6; index++) Deno.mkdirSync(`${dir}/dir${index}`);
      Deno.chownSync(`${dir}/dir1`, 1, 1);
      Deno.chmodSync(`${dir}/dir2`, 0o777);
      Deno.chmodSync(`${dir}/dir2`, 0o1777);
    },
    (dir) => {
      Deno.chownSync(`${dir}/dir3`, 1, 1);
      Deno.chmodSync(`${dir}/dir4`, 0o2755);
      remove(`${dir}/dir5`);
      Deno.mkdirSync(`${dir}/dir5`);
      Deno.chownSync(`${dir}/dir5`, 1, 1);
    },
    (dir) => write(`${dir}/dir1/file`, "keeps the owner of its directory"),
  ]);
});

suiteTest("RemoveIntermediateSnapshot", async (snapshots) => {
  await snapshots.prepare("base", "");
  await snapshots.commit("committed-base", "base");
  await snapshots.prepare("intermediate", "committed-base");
  await snapshots.commit("committed-inter", "intermediate");
  await snapshots.prepare("top", "committed-inter");
  await assertRejects(() => snapshots.remove("committed-inter"), FailedPreconditionError);
  for (const name of ["top", "committed-inter", "committed-base"]) await snapshots.remove(name);
});

suiteTest("DeletedFilesInChildSnapshot", async (snapshots, t) => {
  await compareLayers(snapshots, t, [
    (dir) => ["foo", "foobar"].forEach((name) => write(`${dir}/${name}`, name)),
    (dir) => remove(`${dir}/foobar`),
    () => {},
  ]);
});

suiteTest("MoveFileFromLowerLayer", async (snapshots, t) => {
  await compareLayers(snapshots, t, [
    (dir) => {
      for (const name of ["dir1", "dir2"]) Deno.mkdirSync(`${dir}/${name}`, { mode: 0o700 });
      write(`${dir}/dir1/f1`, "Hello");
      write(`${dir}/dir2/f2`, "...");
    },
    (dir) => {
      Deno.mkdirSync(`${dir}/dir3`, { mode: 0o700 });
      write(`${dir}/dir3/f1`, "Hello");
      remove(`${dir}/dir1`);
      Deno.linkSync(`${dir}/dir2/f2`, `${dir}/dir3/f2`);
      remove(`${dir}/dir2/f2`);
    },
  ]);
});

suiteTest("Rename", async (snapshots, t) => {
  await compareLayers(snapshots, t, [
    (dir) => {
      for (const name of ["dir1", "somefiles"]) Deno.mkdirSync(`${dir}/${name}`);
      for (const name of ["f1", "f2"]) write(`${dir}/somefiles/${name}`, name);
    },
    (dir) => {
      Deno.renameSync(`${dir}/somefiles/f1`, `${dir}/dir1/f1`);
      Deno.mkdirSync(`${dir}/own`);
      Deno.renameSync(`${dir}/own`, `${dir}/renamed`); // one of this layer alone
      write(`${dir}/renamed/file`, "file");
    },
    (dir) => Deno.renameSync(`${dir}/somefiles/f2`, `${dir}/dir1/f1`),
  ]);
});

suiteTest("ViewReadonly", async (snapshots, t) => {
  await snapshots.prepare("preparing", "");
  await snapshots.commit("committed", "preparing");
  await within(await snapshots.view("view", "committed"), mnt(t), (dir) => {
    const error = assertThrows(() => write(`${dir}/testfile`, "content"), Error);
    assert(/Read-only/.test(error.message), error.message);
  });
  await addLayer(snapshots, "second", "committed", mnt(t), () => {});
  await within(await snapshots.view("of-two", "second"), mnt(t), (dir) => {
    assertThrows(() => write(`${dir}/testfile`, "content"), Error, "Read-only");
  });
  for (const name of ["of-two", "second", "view", "committed"]) await snapshots.remove(name);
});

suiteTest("StatInWalk", async (snapshots) => {
  await base(snapshots);
  for await (const info of snapshots.list()) assertEquals(await snapshots.stat(info.name), info);
});

serverTest("containerd's suite: CloseTwice", async (t) => {
  await using served = await serve(t.dir);
  const { snapshots, local } = served;
  await snapshots.prepare("prepare", "");
  await snapshots.commit("name", "prepare");
  await snapshots.remove("name");
  await local[Symbol.asyncDispose]();
  await local[Symbol.asyncDispose]();
  await assertRejects(() => local.stat("name"), TypeError, "closed");
});

suiteTest("RootPermission", async (snapshots, t) => {
  await within(await snapshots.prepare("preparing", ""), mnt(t), (dir) => {
    assertEquals((Deno.statSync(dir).mode ?? 0) & 0o777, 0o755);
  });
});

for (const prepare of modes) {
  serverTest(`containerd's suite: 128LayersMount, --prepare=${prepare}`, async (t) => {
    t.make("mnt", "flat");
    const flat = `${t.dir}/flat`;
    await using served = await serve(t.dir, { prepare });
    const { snapshots } = served;
    const change = (index: number) => (dir: string) => {
      if (index === 0) {
        write(`${dir}/bottom`, "way at the bottom\n");
        Deno.mkdirSync(`${dir}/addhere`);
      } else {
        remove(`${dir}/onlyme`);
        write(`${dir}/addhere/file-${index}`, "same\n");
      }
      write(`${dir}/overwriteme`, `${index} WAS HERE!\n`);
      Deno.mkdirSync(`${dir}/onlyme`);
      write(`${dir}/onlyme/file-${index}`, "only me!\n");
    };
    let parent = "";
    for (let index = 0; index < 128; index++) {
      await addLayer(snapshots, `layer-${index}`, parent, mnt(t), change(index));
      parent = `layer-${index}`;
      change(index)(flat);
    }
    await within(await snapshots.view("full", parent), mnt(t), async (dir) => {
      assertEquals(contentsOf(await describeTree(dir)), contentsOf(await describeTree(flat)));
    });
    await snapshots.remove("full");
  });
}
