import { listMounts, type MountEvent, type MountInfo, unmountRecursive, watchMounts } from "../../mod.ts";
import { listmount, LSMT_ROOT, MNT_DETACH, mount, pretendMissing, umount2 } from "../../linux/mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { mountTable } from "../kernel.ts";
import { makeMounts } from "./long_table.ts";

const needs = { root: true, privateDirectory: true } as const;

/** Counts how often the event loop runs while a function works. */
async function turns(work: () => Promise<unknown>): Promise<number> {
  let count = 0;
  let isDone = false;
  const turn = () => {
    count++;
    if (!isDone) setImmediate(turn);
  };
  setImmediate(turn);
  await work();
  isDone = true;
  return count;
}

kernelTest("the event loop runs while a long table is listed, watched, and unmounted", needs, async (t) => {
  t.make("many");
  makeMounts(`${t.dir}/many`, 10_000);
  assert(await turns(() => listMounts()) > 5, "listMounts()");
  const watch = async () => {
    await using events = watchMounts();
    const next = events.next();
    const later = () => mount("later", `${t.dir}/many/1000`, "tmpfs", 0, "size=64k");
    setImmediate(later);
    const { value } = await next;
    assertEquals(value?.kind === "mounted" && value.mount.source, "later");
  };
  assert(await turns(watch) > 5, "watchMounts()");
  {
    using _ = pretendMissing("mountEvents");
    assert(await turns(watch) > 5, "watchMounts() by mountinfo");
  }
  assert(t.mounts().length > 9900);
  assert(await turns(() => unmountRecursive(`${t.dir}/many`)) > 20, "unmountRecursive()");
  assertEquals(t.mounts(), []);
});

kernelTest(
  "a mount that is unmounted before a watch has read it is reported by its id",
  { ...needs, features: ["statmount", "mountEvents"] },
  async (t) => {
    t.make("first", "many");
    mount("first", `${t.dir}/first`, "tmpfs", 0, "size=64k");
    const id = listmount(LSMT_ROOT).at(-1) ?? 0n;
    makeMounts(`${t.dir}/many`, 5000);
    await using events = watchMounts({ signal: AbortSignal.timeout(20_000) });
    mount("other", `${t.dir}/first`, "tmpfs", 0, "size=64k");
    for (let index = 0; index < 2; index++) umount2(`${t.dir}/first`, 0);
    umount2(`${t.dir}/many`, MNT_DETACH);
    const seen: MountEvent[] = [];
    while (!seen.some((event) => event.kind === "transient" && event.mountId === id)) {
      const { value } = await events.next();
      if (value) seen.push(value);
    }
    assertEquals(seen.length, 2, "the mount on top of it, and it");
  },
);

/** What slave_program.ts prints. */
interface Found {
  table: string;
  plain: MountInfo[];
  whole: MountInfo[];
  some: number[];
  bytes: number;
  wholeBytes: number;
  lookup: MountInfo;
  wholeLookup: MountInfo;
}

kernelTest(
  "in a slave namespace, the peers of a mount are looked through only if propagate_from is asked for",
  { ...needs, features: ["statmount"], tools: ["unshare"], permissions: { run: true } },
  async (t) => {
    t.make("many");
    makeMounts(`${t.dir}/many`, 4000, true);
    const program = new URL("slave_program.ts", import.meta.url).pathname;
    const deno = [Deno.execPath(), "run", "-A", "--quiet", program, `${t.dir}/many/0/2`];
    const child = await new Deno.Command("unshare", { args: ["-m", "--propagation", "slave", ...deno] })
      .output();
    umount2(`${t.dir}/many`, MNT_DETACH);
    assertEquals(new TextDecoder().decode(child.stderr), "");
    const found: Found = JSON.parse(new TextDecoder().decode(child.stdout));
    const optional = found.table.trimEnd().split("\n").map((line) => / - /.exec(line) && line.split(" - ")[0])
      .map((line) => line?.split(" ").slice(6).join(" "));
    assertEquals(found.whole.map((info) => info.optional), optional);
    assert(found.whole.filter((info) => info.optional.includes("master:")).length > 3900);
    assertEquals(
      found.plain,
      found.whole.map((info) => ({ ...info, optional: info.optional.replace(/ ?propagate_from:\d+/, "") })),
    );
    assertEquals(
      found.some,
      found.plain.slice(0, 1500).map(({ id }) => id),
      "the filter is asked once for each",
    );
    // The kernel looks through the peers for each line of the table.
    const { bytes, wholeBytes, table } = found;
    assert(wholeBytes > table.length / 2 && bytes < table.length / 4, `${bytes} of ${wholeBytes} bytes`);
    assertEquals(found.lookup, found.plain.find(({ id }) => id === found.lookup.id));
    assertEquals(found.wholeLookup, found.whole.find(({ id }) => id === found.lookup.id));
    assertEquals(mountTable().filter(({ source }) => source === "many"), []);
  },
);
