import { AlreadyExistsError, type LocalMountManager } from "../../linux/manager/mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { mountTable, names } from "../kernel.ts";
import { run } from "../namespace/namespaces.ts";
import { open, remains } from "./everything.ts";
import type { Outcome } from "./worker.ts";

const PROCESSES = 4;
const CALLS = 115; // of each process; every eighth is a sync()
const NAMES = 50;

/** Runs the processes at the same time. */
async function work(dir: string): Promise<Outcome[]> {
  const program = new URL("worker.ts", import.meta.url).pathname;
  const outcomes = await Promise.all(Array.from({ length: PROCESSES }, async (_, index) => {
    const args = [dir, `${1 + Math.floor(Math.random() * 2 ** 30) + index}`, `${CALLS}`, `${NAMES}`];
    return JSON.parse(await run(Deno.execPath(), "run", "-A", "--quiet", program, ...args)) as Outcome[];
  }));
  return outcomes.flat();
}

/** Fails unless the mount table and the root directory have exactly the mounts of the activations. */
async function assertAgrees(dir: string, manager: LocalMountManager): Promise<Map<string, string>> {
  const recorded = new Map<string, string>();
  const expected: string[] = [];
  for await (const { name, labels, active, lost } of manager.list()) {
    assertEquals(lost, undefined);
    recorded.set(name, labels["label"] ?? "");
    expected.push(...active.map(({ mountPoint }) => `${mountPoint} ${labels["label"]}`));
  }
  const found = mountTable().filter(({ mountpoint }) => mountpoint.startsWith(`${dir}/`));
  assertEquals(found.map(({ mountpoint, source }) => `${mountpoint} ${source}`).sort(), expected.sort());
  assertEquals(names(`${dir}/root`).filter((name) => name.startsWith("a-")).length, recorded.size);
  return recorded;
}

kernelTest(
  "400 activations and deactivations of 50 names from four processes at once leave what is recorded",
  { root: true, permissions: { run: true, env: true } },
  async (t) => {
    await using manager = await open(t.dir);
    const outcomes = await work(t.dir);
    assertEquals(outcomes.length, PROCESSES * CALLS);
    const results = new Set(outcomes.map(({ call, result }) => `${call}: ${result}`));
    for (const known of ["activate: done", "deactivate: done", "sync: done"]) {
      assert(results.delete(known), known);
    }
    for (const known of ["activate: AlreadyExistsError", "deactivate: NotFoundError"]) results.delete(known);
    results.delete("deactivate: FailedPreconditionError");
    assertEquals([...results], [], "no other result");

    const recorded = await assertAgrees(t.dir, manager);
    const done = outcomes.filter(({ result }) => result === "done");
    for (const [name, label] of recorded) {
      assert(done.some((outcome) => outcome.call === "activate" && outcome.label === label), name);
    }
    for (let index = 0; index < NAMES; index++) {
      const name = `name ${index}`;
      const count = (call: string) =>
        done.filter((outcome) => outcome.name === name && outcome.call === call).length;
      const ended = count("activate") - (recorded.has(name) ? 1 : 0);
      // Two that deactivate the same activation at once both succeed.
      assert(ended === 0 ? count("deactivate") === 0 : count("deactivate") >= ended, `${name} is lost`);
    }
    assertEquals(await manager.sync(), { removed: [], lost: [] });
    assertEquals(await assertAgrees(t.dir, manager), recorded);
    for (const name of recorded.keys()) await manager.deactivate(name);
    assertEquals(remains(t.dir), []);
  },
);

for (const [how, count] of [["one manager", 1], ["two managers", 2]] as const) {
  kernelTest(
    `of two activations of one name at once one wins, and the other gets its information: ${how}`,
    { root: true },
    async (t) => {
      await using first = await open(t.dir);
      await using second = count === 1 ? undefined : await open(t.dir);
      for (let round = 0; round < 20; round++) {
        const list = [{ type: "tmpfs", source: "t" }];
        const settled = await Promise.allSettled(
          [first, second ?? first].map((manager, index) =>
            manager.activate("one", list, { temporary: true, labels: { number: `${index}` } })
          ),
        );
        const winner = settled.findIndex(({ status }) => status === "fulfilled");
        const other = settled[1 - winner];
        assert(other?.status === "rejected" && other.reason instanceof AlreadyExistsError, `${other}`);
        const { name, labels } = other.reason.activation ?? {};
        assertEquals({ name, labels }, { name: "one", labels: { number: `${winner}` } });
        assertEquals(remains(t.dir), ["mount /root/a-/0 tmpfs", "directory a-"]);
        const late = await (second ?? first).activate("one", list).catch((error) => error);
        assert(late instanceof AlreadyExistsError);
        assertEquals(late.activation, await first.info("one"));
        assertEquals(late.activation?.active.length, 1);
        await first.deactivate("one");
        assertEquals(remains(t.dir), []);
      }
    },
  );
}

// Opens a new record as soon as the other thread does, again and again.
const opener = `
  import { RecordDatabase } from "${new URL("../../linux/manager/database.ts", import.meta.url)}";
  self.onmessage = async ({ data: { dir, rounds, shared, threads } }) => {
    const format = { application: 7, version: 1, schema: "CREATE TABLE t (name TEXT PRIMARY KEY); CREATE TABLE s (id INTEGER PRIMARY KEY AUTOINCREMENT)" };
    const errors = [];
    for (let round = 0; round < rounds; round++) {
      Atomics.add(shared, 0, 1);
      while (Atomics.load(shared, 0) < threads * (round + 1));
      // Some of the times the one looks while the other makes the tables.
      for (const start = performance.now() + Math.random() * 3; performance.now() < start;);
      try {
        (await RecordDatabase.open(dir + "/" + round, format))[Symbol.dispose]();
      } catch (error) {
        errors.push(error.message);
      }
    }
    self.postMessage(errors);
  };`;

kernelTest(
  "a record that two threads open for the first time at once is opened by both",
  {},
  async (t) => {
    const shared = new Int32Array(new SharedArrayBuffer(4));
    const [rounds, threads] = [400, 2];
    const errors = await Promise.all(Array.from({ length: threads }, () => {
      const worker = new Worker(`data:text/javascript,${encodeURIComponent(opener)}`, { type: "module" });
      worker.postMessage({ dir: t.dir, rounds, shared, threads });
      return new Promise<string[]>((resolve) =>
        worker.onmessage = ({ data }) => {
          worker.terminate();
          resolve(data);
        }
      );
    }));
    assertEquals(errors, [[], []]);
  },
);
