import {
  createUserNamespace,
  idMapMount,
  listMounts,
  lookupMount,
  mount,
  MountError,
  type MountInfo,
  prefixFilter,
  unmount,
} from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { command } from "../cli/in_process.ts";
import { kernelTest } from "../harness.ts";
import { MountNamespace } from "../namespace/namespaces.ts";

const needs = { root: true, features: ["mountIdMaps", "openTreeAttr"] } as const;
const MAP = "0:100000:1000,1000:300000:1";
const GROUPS = "0:400000:65536";

const owner = (path: string) => {
  const { uid, gid } = Deno.statSync(path);
  return [uid, gid];
};

const maps = ({ uidmap, gidmap }: MountInfo) => [uidmap, gidmap];

kernelTest("a bind of an id-mapped mount gets another map, or with null none", needs, async (t) => {
  t.make("source/inner", "mapped", "changed", "words", "cleared");
  await using _inner = await mount({ type: "tmpfs", source: "t" }, `${t.dir}/source/inner`);
  const [mapped, changed, words, cleared] = ["mapped", "changed", "words", "cleared"].map((name) =>
    `${t.dir}/${name}`
  ) as [string, string, string, string];
  await using stack = new AsyncDisposableStack();
  const later = (path: string) => stack.defer(() => unmount(path, { detach: true }));
  using userns = await createUserNamespace(MAP, GROUPS);
  await idMapMount(`${t.dir}/source`, mapped, userns);
  later(mapped);
  assertEquals([owner(mapped), owner(`${mapped}/inner`)], [[100000, 400000], [100000, 400000]]);

  using other = await createUserNamespace("0:7:1", "0:8:1");
  await idMapMount(mapped, changed, other, { readonly: true });
  later(changed);
  assertEquals([owner(changed), owner(`${changed}/inner`)], [[7, 8], [7, 8]]);
  assert(
    t.mounts().filter(({ mountpoint }) => /changed/.test(mountpoint)).every((row) =>
      row.options.includes("ro")
    ),
  );

  stack.use(
    await mount(
      { type: "bind", source: mapped, options: ["bind", "uidmap=0:9:1", "gidmap=0:9:1"] },
      words,
    ),
  );
  assertEquals(owner(words), [9, 9]);

  await idMapMount(mapped, cleared, null, { nosuid: true });
  later(cleared);
  assertEquals([owner(cleared), owner(`${cleared}/inner`)], [[0, 0], [0, 0]]);
  const rows = t.mounts().filter(({ mountpoint }) => /cleared/.test(mountpoint));
  assertEquals(rows.length, 2);
  assert(rows.every(({ options }) => options.includes("nosuid") && !options.includes("idmapped")));
  assertEquals(owner(mapped), [100000, 400000], "the source keeps its map");
});

kernelTest(
  "a file system of the tree that can't be id-mapped is named when a map is cleared",
  needs,
  async (t) => {
    t.make("source/proc", "target");
    await using _proc = await mount({ type: "proc", source: "proc" }, `${t.dir}/source/proc`);
    await assertRejects(
      () => idMapMount(`${t.dir}/source`, `${t.dir}/target`, null),
      MountError,
      `proc, at ${t.dir}/source/proc, can't be id-mapped (open_tree_attr: EINVAL)`,
    );
    await idMapMount(`${t.dir}/source`, `${t.dir}/target`, null, { recursive: false });
    await unmount(`${t.dir}/target`);
    using _ = pretendMissing("openTreeAttr");
    await assertRejects(
      () => idMapMount(`${t.dir}/source`, `${t.dir}/target`, null),
      MountError,
      "clearing an id map needs open_tree_attr(2), which came with Linux 6.15",
    );
    assertEquals(t.mounts().filter(({ mountpoint }) => mountpoint === "/target"), []);
  },
);

kernelTest("listMounts(), lookupMount() and ls show the id map of a mount as its options", {
  ...needs,
  tools: ["unshare"],
  permissions: { run: true, env: true, sys: true },
}, async (t) => {
  t.make("source", "target", "plain");
  await using _plain = await mount({ type: "bind", source: `${t.dir}/source` }, `${t.dir}/plain`);
  await using _mapped = await mount(
    { type: "bind", source: `${t.dir}/source`, options: ["bind", `uidmap=${MAP}`, `gidmap=${GROUPS}`] },
    `${t.dir}/target`,
  );
  await using other = await MountNamespace.start();
  const filter = prefixFilter(t.dir);
  for (const pid of [undefined, other.pid]) {
    const found = await listMounts({ filter, ...pid === undefined ? {} : { pid } });
    assertEquals(found.map(maps), [[undefined, undefined], [MAP, GROUPS]], `of ${pid ?? "this process"}`);
  }
  assertEquals(maps(await lookupMount(`${t.dir}/target`)), [MAP, GROUPS]);
  const { out } = await command(["ls", t.dir]);
  assert(out.includes(`,uidmap=${MAP},gidmap=${GROUPS}`), out);
  assert((await command(["ls", "--tree", t.dir])).out.includes(`uidmap=${MAP}`));
  assert((await command(["lookup", `${t.dir}/target`])).out.includes(`,uidmap=${MAP},gidmap=${GROUPS}`));
  const [, row] = JSON.parse((await command(["ls", "--json", t.dir])).out);
  assertEquals(maps(row), [MAP, GROUPS]);
  for (const missing of ["mountIdMaps", "statmount"] as const) {
    using _ = pretendMissing(missing, "mountIdMaps");
    const [, bare] = await listMounts({ filter });
    assertEquals([bare && maps(bare), bare?.options.endsWith(",idmapped")], [[undefined, undefined], true]);
    assertEquals(maps(await lookupMount(`${t.dir}/target`)), [undefined, undefined]);
  }
});

kernelTest("idmap --clear binds without the id map of its source", {
  ...needs,
  permissions: { run: true, env: true, sys: true },
}, async (t) => {
  t.make("source", "mapped", "target");
  const [source, mapped, target] = [`${t.dir}/source`, `${t.dir}/mapped`, `${t.dir}/target`];
  assertEquals((await command(["idmap", "--uid", "0:5000:10", source, mapped])).code, 0);
  assertEquals(owner(mapped), [5000, 5000]);
  assertEquals((await command(["idmap", "--clear", mapped, target])).code, 0);
  assertEquals(owner(target), [0, 0]);
  for (const flags of [[], ["--clear", "--uid", "0:1:1"], ["--clear", "--gid", "0:1:1"]]) {
    const { code, err } = await command(["idmap", ...flags, mapped, `${t.dir}/source`]);
    assertEquals(code, 2, err);
  }
  for (const path of [target, mapped]) await unmount(path);
});
