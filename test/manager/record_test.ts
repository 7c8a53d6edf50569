import { createHash } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import { type LocalMountManager, RecordError } from "../../linux/manager/mod.ts";
import { type Mount, mount } from "../../mod.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "../assert.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { names, readBytes } from "../kernel.ts";
import { run } from "../namespace/namespaces.ts";
import { open, remains } from "./everything.ts";

const needs: Needs = { root: true };

/** Two mounts: the second names the first. */
const list: Mount[] = [
  { type: "tmpfs", source: "t" },
  {
    type: "format/mkdir/bind",
    source: "{{ mount 0 }}/made",
    options: ["X-containerd.mkdir.path={{ mount 0 }}/made", "bind"],
  },
];

const database = (t: KernelContext) => `${t.dir}/root/activations.db`;

/** Makes a record of some activations that were deactivated; its pages are all in the one file. */
async function makeRecord(t: KernelContext): Promise<Uint8Array> {
  await using manager = await open(t.dir);
  for (let index = 0; index < 12; index++) {
    await manager.activate(`${index}`, list, { labels: { long: "x".repeat(1000) } });
  }
  for (let index = 0; index < 12; index += 2) await manager.deactivate(`${index}`);
  for (let index = 1; index < 12; index += 2) await manager.deactivate(`${index}`);
  await manager[Symbol.asyncDispose]();
  return Deno.readFileSync(database(t));
}

/** The digest of a file; of an empty one if it does not exist. */
const digest = (path: string) => createHash("sha256").update(readBytes(path) ?? "").digest("hex");

/** Fails unless the manager can't be opened, and its record and the mount table are as before. */
async function assertRefused(t: KernelContext, message: RegExp): Promise<void> {
  const before = digest(database(t));
  const error = await assertRejects(() => open(t.dir), RecordError);
  assertMatch(error.message, message);
  assert(error.message.includes(database(t)), error.message);
  assertEquals(digest(database(t)), before);
  assertEquals(remains(t.dir), []);
}

const damages: [how: string, damage: (bytes: Uint8Array) => Uint8Array, message: RegExp][] = [
  ["is no database", () => new TextEncoder().encode("no database".repeat(1000)), /not a database.*damaged/],
  ["has lost its end", (bytes) => bytes.slice(0, bytes.length / 2), /malformed.*damaged/],
  ["has lost all but its header", (bytes) => bytes.slice(0, 100), /(malformed|not a database).*damaged/],
  ["has lost the end of its header", (bytes) => bytes.slice(0, 60), /(malformed|not a database).*damaged/],
  ["has another first page", (bytes) => flipped(bytes, 100, 4096), /malformed.*damaged/],
  [
    "has another second half",
    (bytes) => flipped(bytes, bytes.length / 2, bytes.length),
    /damaged/,
  ],
];

function flipped(bytes: Uint8Array, start: number, end: number): Uint8Array {
  return bytes.map((byte, index) => index < start || index >= end ? byte : byte ^ 0xff);
}

for (const [how, damage, message] of damages) {
  kernelTest(`a record that ${how} is refused and stays as it is`, needs, async (t) => {
    Deno.writeFileSync(database(t), damage(await makeRecord(t)));
    await assertRefused(t, message);
  });
}

kernelTest("a record with any page in the middle overwritten mounts nothing that stays", needs, async (t) => {
  const whole = await makeRecord(t);
  const pages = whole.length / 4096;
  let refused = 0;
  for (let page = 1; page < pages; page++) {
    for (const name of names(`${t.dir}/root`)) Deno.removeSync(`${t.dir}/root/${name}`, { recursive: true });
    Deno.writeFileSync(database(t), flipped(whole, page * 4096, (page + 1) * 4096));
    const before = digest(database(t));
    try {
      await using manager = await open(t.dir);
      await manager.activate("new", list, { temporary: true });
      await manager.deactivate("new"); // the page was free
    } catch (error) {
      assert(error instanceof RecordError, `page ${page}: ${error}`);
      assertEquals(digest(database(t)), before, `page ${page}`);
      refused++;
    }
    assertEquals(remains(t.dir), [], `page ${page}`);
  }
  assert(refused > 3, `${refused} of ${pages} pages`);
});

kernelTest(
  "a record with a text that is cut short is an error of the record, and nothing is mounted",
  needs,
  async (t) => {
    await makeRecord(t);
    await using manager = await open(t.dir);
    await manager.activate("one", [], { labels: { a: "b" } });
    using db = new DatabaseSync(database(t));
    db.exec(`UPDATE activation SET labels = '{"a":'`);
    for (const call of [() => manager.info("one"), () => manager.deactivate("one"), () => manager.sync()]) {
      const error = await call().then(() => undefined, (error) => error);
      assert(error instanceof RecordError, `${call}: ${error}`);
      assertMatch(error.message, /damaged/);
    }
    db.exec("UPDATE activation SET labels = '{}'");
    await manager.deactivate("one");
    assertEquals(remains(t.dir), []);
  },
);

for (const mode of ["DELETE", "WAL"]) {
  kernelTest(`the database of another program is refused and stays as it is: ${mode}`, needs, async (t) => {
    t.make("root");
    Deno.chmodSync(`${t.dir}/root`, 0o700);
    using db = new DatabaseSync(database(t));
    db.exec(
      `PRAGMA journal_mode = ${mode}; CREATE TABLE activation (name TEXT); INSERT INTO activation VALUES ('x')`,
    );
    const before = names(`${t.dir}/root`);
    await assertRefused(t, /another program/);
    assertEquals(names(`${t.dir}/root`), before);
    assertEquals(db.prepare("SELECT name FROM activation").get()?.["name"], "x");
  });
}

kernelTest("a record of a newer version is refused and stays as it is", needs, async (t) => {
  await makeRecord(t);
  {
    using db = new DatabaseSync(database(t));
    db.exec("PRAGMA user_version = 2; PRAGMA journal_mode = DELETE");
  }
  await assertRefused(t, /newer version.*format 2.*known is 1/);
});

kernelTest("a directory in the place of the record is refused", needs, async (t) => {
  t.make("root/activations.db");
  Deno.chmodSync(`${t.dir}/root`, 0o700);
  await assertRefused(t, /unable to open/);
});

for (
  const [what, mode] of [["its group", 0o770], ["everybody", 0o707], ["everybody, sticky", 0o1777]] as const
) {
  kernelTest(
    `a root directory that ${what} can write to is refused, and nothing is made in it`,
    needs,
    async (t) => {
      const root = t.make("root");
      Deno.chmodSync(root, mode);
      const error = await assertRejects(() => open(t.dir), TypeError);
      assertMatch(error.message, /other users can write/);
      assertEquals(names(root), []);
    },
  );
}

kernelTest("a root directory of another user is refused, and nothing is made in it", needs, async (t) => {
  const root = t.make("root");
  Deno.chmodSync(root, 0o700);
  Deno.chownSync(root, 1234, 1234);
  await assertRejects(() => open(t.dir), TypeError, "other users can write");
  assertEquals(names(root), []);
});

/** Mounts a tmpfs on the root directory. */
async function tmpfsRoot(t: KernelContext, options: string[] = []): Promise<AsyncDisposable> {
  return await mount({ type: "tmpfs", source: "t", options: ["mode=700", ...options] }, t.make("root"));
}

for (const [what, first] of [["a record", makeRecord], ["no record", () => Promise.resolve()]] as const) {
  kernelTest(`a read-only file system with ${what} is refused`, needs, async (t) => {
    await using _tmpfs = await tmpfsRoot(t);
    await first(t);
    await mount({ type: "", source: "", options: ["remount", "ro"] }, `${t.dir}/root`);
    const before = digest(database(t));
    const error = await assertRejects(() => open(t.dir), RecordError);
    assertMatch(error.message, /(readonly|unable to open).*writable/);
    assertEquals(digest(database(t)), before);
    assertEquals(t.mounts().length, 1);
  });
}

kernelTest("a read-only record in a writable directory is refused", needs, async (t) => {
  await makeRecord(t);
  const readonly = { type: "bind", source: database(t), options: ["bind", "ro"] };
  await using _bind = await mount(readonly, database(t));
  const before = digest(database(t));
  const error = await assertRejects(() => open(t.dir), RecordError);
  assertMatch(error.message, /(readonly|unable to open).*writable/);
  assertEquals(digest(database(t)), before);
  assertEquals(t.mounts().length, 1);
});

/** Fills a tmpfs but for some pages. */
async function fill(path: string, pages: number): Promise<void> {
  await run(
    "sh",
    "-c",
    `cat /dev/zero > "$0/fill" 2> /dev/null; truncate -s -$(($1 * 4096)) "$0/fill"`,
    path,
    `${pages}`,
  );
}

kernelTest("on a full disk no record is made, and open() says so", {
  ...needs,
  permissions: { run: true },
}, async (t) => {
  await using _tmpfs = await tmpfsRoot(t, ["size=256k"]);
  await fill(`${t.dir}/root`, 0);
  const error = await assertRejects(() => open(t.dir), RecordError);
  assertMatch(error.message, /disk is full|unable to open|disk I\/O error/);
  assertEquals(t.mounts().length, 1);
});

kernelTest("an activation on a disk that is full at any time fails and leaves no mount and no directory", {
  ...needs,
  permissions: { run: true },
}, async (t) => {
  let [failed, worked] = [0, 0];
  for (let pages = 0; pages < 48 && worked < 2; pages++) {
    await using _tmpfs = await tmpfsRoot(t, ["size=512k"]);
    await using manager = await open(t.dir);
    await manager.activate("before", [{ type: "tmpfs", source: "t" }]);
    await fill(`${t.dir}/root`, pages);
    const before = t.mounts();
    const rest = (name: string) => !name.startsWith("activations.db");
    const directories = names(`${t.dir}/root`).filter(rest);
    const outcome = await settle(manager.activate("new", list, { temporary: true }));
    if (outcome === undefined) worked++;
    else {
      failed++;
      assert(outcome instanceof RecordError || outcome instanceof SuppressedError, `${pages}: ${outcome}`);
      assertMatch(outcome.message, /disk is full|disk I\/O error/);
      assertEquals(t.mounts(), before, `${pages} pages: ${outcome}`);
    }
    await Deno.remove(`${t.dir}/root/fill`);
    if (outcome === undefined) await manager.deactivate("new");
    else await manager.sync();
    assertEquals(names(`${t.dir}/root`).filter(rest), directories.filter((name) => name !== "fill"));
    assertEquals(t.mounts(), before);
    assertEquals(await namesOf(manager), ["before"]);
    await manager.deactivate("before");
  }
  assert(failed > 5 && worked > 0, `failed ${failed}, worked ${worked}`);
});

/** The error of a promise; undefined if it has none. */
async function settle(promise: Promise<unknown>): Promise<Error | undefined> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

async function namesOf(manager: LocalMountManager): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of manager.list()) found.push(name);
  return found;
}
