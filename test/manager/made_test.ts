import {
  FailedPreconditionError,
  type LocalMountManager,
  type MountHandler,
} from "../../linux/manager/mod.ts";
import type { Mount } from "../../mod.ts";
import { assert, assertEquals, assertMatch } from "../assert.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { run } from "../namespace/namespaces.ts";
import { open, patient, remains, wait } from "./everything.ts";

const needs: Needs = {
  root: true,
  tools: ["mkfs.ext4", "find", "mkfifo"],
  permissions: { run: true, env: true },
};

/** A list that makes a directory. */
const mkdir = (path: string): Mount[] => [
  { type: "mkdir/bind", source: "/usr", options: [`X-containerd.mkdir.path=${path}`, "bind"] },
];

/** A list that makes an image. */
const mkfs = (path: string): Mount[] => [
  { type: "mkfs/ext4", source: path, options: ["X-containerd.mkfs.size=1MiB", "loop"] },
];

/** Every file below the test's directory but the manager's own: type, mode, owner, size, time, link, and name. */
function tree(t: KernelContext): Promise<string> {
  const format = "%y %m %U %s %T@ %l %P\n";
  return run(
    "find",
    t.dir,
    "-name",
    "activations.db*",
    "-o",
    "-path",
    `${t.dir}/root`,
    "-o",
    "-printf",
    format,
  );
}

/** Fails unless the list is refused with the error, and makes and removes nothing. */
async function assertMakesNothing(
  t: KernelContext,
  manager: LocalMountManager,
  list: Mount[],
  [name, message]: [string, RegExp],
): Promise<void> {
  const before = await tree(t);
  const error = await manager.activate("refused", list, wait).then(() => undefined, (error) => error);
  const what = `${list[0]?.type} ${list[0]?.source} ${list[0]?.options}`;
  assert(error instanceof Error, `${what} was activated`);
  assertEquals(error.name, name, `${what}: ${error}`);
  assertMatch(error.message, message);
  assertEquals(await tree(t), before, what);
}

const outside: [string, RegExp] = ["TypeError", /it is in none of|without "\.\."/];
const leadsOut: [string, RegExp] = ["FailedPreconditionError", /leads out of its root/];
const occupied: [string, RegExp] = [
  "FailedPreconditionError",
  /what is there is no (directory|regular file)/,
];

for (const [what, list] of [["mkdir", mkdir], ["mkfs", mkfs]] as const) {
  kernelTest(`${what} makes nothing outside of the allowed roots`, needs, async (t) => {
    t.make("outside/inner", "allowed/inner", "allowed-not");
    await using manager = await open(t.dir);
    const [allowed, out] = [`${t.dir}/allowed`, `${t.dir}/outside`];
    const paths = [
      `${out}/new`,
      `${t.dir}/new`,
      allowed,
      `${allowed}/`,
      `${allowed}-not/new`,
      `${allowed}/../outside/new`,
      `${allowed}/inner/../new`,
      `${allowed}/..`,
      `/proc/self/cwd/new`,
      "allowed/new",
      "new",
    ];
    for (const path of paths) await assertMakesNothing(t, manager, list(path), outside);
  });

  kernelTest(`${what} follows no link that leads out of its root`, needs, async (t) => {
    t.make("outside/inner", "allowed/inner");
    const allowed = `${t.dir}/allowed`;
    const links: [string, string][] = [
      ["absolute", `${t.dir}/outside`],
      ["relative", "../outside"],
      ["deep", "inner/../../outside"],
      ["absolute-inside", `${allowed}/inner`], // openat2(RESOLVE_BENEATH) refuses it too
      ["chain", "relative"],
      ["magic", "/proc/self/cwd"],
    ];
    for (const [name, to] of links) Deno.symlinkSync(to, `${allowed}/${name}`);
    await using manager = await open(t.dir);
    for (const [name] of links) {
      for (const rest of ["new", "inner/new"]) {
        await assertMakesNothing(t, manager, list(`${allowed}/${name}/${rest}`), leadsOut);
      }
    }
  });

  kernelTest(`${what} takes no link as its own, whereever it leads`, needs, async (t) => {
    t.make("outside", "allowed/inner");
    const allowed = `${t.dir}/allowed`;
    Deno.writeTextFileSync(`${t.dir}/outside/file`, "old");
    const links: [string, string][] = [
      ["absolute", `${t.dir}/outside/new`],
      ["relative", "../outside/new"],
      ["inside", "inner"],
      ["dangling", "missing"],
      ["to-file", `${t.dir}/outside/file`],
      ["loop", "loop"],
    ];
    for (const [name, to] of links) Deno.symlinkSync(to, `${allowed}/${name}`);
    await using manager = await open(t.dir);
    for (const [name] of links) await assertMakesNothing(t, manager, list(`${allowed}/${name}`), occupied);
  });

  kernelTest(`${what} leaves what has the name as it is`, needs, async (t) => {
    const allowed = t.make("allowed");
    await run("mkfifo", `${allowed}/fifo`);
    if (what === "mkdir") Deno.writeTextFileSync(`${allowed}/other`, "old");
    else Deno.mkdirSync(`${allowed}/other`);
    await using manager = await open(t.dir);
    for (const name of ["fifo", "other"]) {
      await assertMakesNothing(t, manager, list(`${allowed}/${name}`), occupied);
    }
  });

  kernelTest(
    `${what} goes through links that stay inside its root, and a failure removes what it made`,
    needs,
    async (t) => {
      const allowed = t.make("allowed/inner", "allowed").replace(/\/inner$/, "");
      Deno.symlinkSync("inner", `${allowed}/link`);
      Deno.symlinkSync("../inner/../link", `${allowed}/inner/chain`);
      await using manager = await open(t.dir);
      for (const path of [`${allowed}/link/new`, `${allowed}//inner/chain/./new`]) {
        const before = await tree(t);
        await manager.activate("one", list(path), wait);
        const { isFile, isDirectory } = Deno.lstatSync(`${allowed}/inner/new`);
        assertEquals([isFile, isDirectory], [what === "mkfs", what === "mkdir"]);
        await manager.deactivate("one");
        await Deno.remove(`${allowed}/inner/new`);
        const failing = [...list(path), { type: "no-such-type", source: "x" }];
        await manager.activate("one", failing, patient).then(
          () => assert(false, "it was activated"),
          (error) => assertEquals(error.name, "MountError"),
        );
        assertEquals((await tree(t)).replace(/ \d+\.\d+ /g, " "), before.replace(/ \d+\.\d+ /g, " "));
      }
    },
  );

  for (const name of ["with spaces", "-q", "tab\tin it", "ünïcode", "new\nline"]) {
    kernelTest(`${what} makes a file with the name ${JSON.stringify(name)}`, needs, async (t) => {
      const allowed = t.make("allowed");
      await using manager = await open(t.dir);
      const before = await tree(t);
      await manager.activate("one", list(`${allowed}/${name}`), wait);
      assertEquals([...Deno.readDirSync(allowed)].map(({ name }) => name), [name]);
      assert(await tree(t) !== before);
      await manager.deactivate("one");
    });
  }
}

kernelTest("mkfs makes a file with a colon in its name; mkdir's option can't name one", needs, async (t) => {
  const allowed = t.make("allowed");
  await using manager = await open(t.dir);
  await manager.activate("one", mkfs(`${allowed}/a:b`), wait);
  assert(Deno.lstatSync(`${allowed}/a:b`).isFile);
  await manager.deactivate("one");
  await assertMakesNothing(t, manager, mkdir(`${allowed}/c:d`), ["TypeError", /DIR:MODE/]);
});

kernelTest("an image that exists is never written to", needs, async (t) => {
  const allowed = t.make("allowed");
  Deno.writeTextFileSync(`${allowed}/image`, "not an image");
  Deno.writeTextFileSync(`${allowed}/empty`, "");
  await using manager = await open(t.dir);
  const before = await tree(t);
  for (const name of ["image", "empty"]) {
    await manager.activate("one", mkfs(`${allowed}/${name}`), wait);
    await manager.deactivate("one");
    const failing = [...mkfs(`${allowed}/${name}`), { type: "tmpfs", source: "t" }];
    await manager.activate("one", failing, patient).then(
      () => assert(false, "it was activated"),
      (error) => assertEquals(error.name, "MountError"),
    );
  }
  assertEquals(await tree(t), before);
});

kernelTest(
  "mkdir takes a directory as it is, and refuses one with another mode or owner",
  needs,
  async (t) => {
    const allowed = t.make("allowed/made", "allowed").replace(/\/made$/, "");
    Deno.chmodSync(`${allowed}/made`, 0o750);
    await using manager = await open(t.dir);
    const before = await tree(t);
    for (const suffix of ["", ":750", ":0750:0:0"]) {
      await manager.activate("one", mkdir(`${allowed}/made${suffix}`), wait);
      await manager.deactivate("one");
    }
    assertEquals(await tree(t), before);
    for (const suffix of [":755", ":750:1:0", ":750:0:1"]) {
      const error: [string, RegExp] = ["FailedPreconditionError", /has mode 0750|belongs to 0:0/];
      await assertMakesNothing(t, manager, mkdir(`${allowed}/made${suffix}`), error);
    }
  },
);

/** A handler that waits until it is released, and fails then. */
function failingLater(): { handler: MountHandler; begun: Promise<void>; release: () => void } {
  const begun = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  const handler: MountHandler = {
    async mount() {
      begun.resolve();
      await released.promise;
      throw new Error("as the test wants");
    },
    unmount: () => Promise.resolve(),
  };
  return { handler, begun: begun.promise, release: () => released.resolve() };
}

for (
  const [how, isUsed] of [["that another activation uses stays", true], [
    "that none uses goes",
    false,
  ]] as const
) {
  kernelTest(`when an activation fails, an image of its own ${how}`, needs, async (t) => {
    const { handler, begun, release } = failingLater();
    await using manager = await open(t.dir, { handlers: { later: handler } });
    await using other = await open(t.dir);
    const image = mkfs(`${t.dir}/allowed/image`);
    const failed = manager.activate("fails", [...image, { type: "later", source: "x" }], wait);
    await Promise.race([begun, failed]);
    if (isUsed) await other.activate("uses", image, patient);
    release();
    assertEquals((await failed.catch((error) => error)).message, "as the test wants");
    const expected = [
      "mount /root/a-/0 ext4",
      "loop device loopN /allowed/image",
      "directory a-",
      "file image",
    ];
    assertEquals(remains(t.dir), isUsed ? expected : []);
    if (isUsed) await other.deactivate("uses");
  });
}

kernelTest(
  "of two activations that make one image at once, one may fail: the other has the image",
  needs,
  async (t) => {
    await using manager = await open(t.dir);
    await using other = await open(t.dir);
    const image = mkfs(`${t.dir}/allowed/image`);
    for (let round = 0; round < 20; round++) {
      const [failed, made] = await Promise.allSettled([
        manager.activate("fails", [...image, { type: "no-such-type", source: "x" }], patient),
        other.activate("makes", [{
          type: "mkfs/loop",
          source: image[0]?.source ?? "",
          options: ["X-containerd.mkfs.size=1MiB"],
        }], wait),
      ]);
      assert(failed.status === "rejected" && made.status === "fulfilled", JSON.stringify([failed, made]));
      const found = remains(t.dir);
      assertEquals(found, ["loop device loopN /allowed/image", "directory a-", "file image"]);
      await run("fsck.ext4", "-n", `${t.dir}/allowed/image`);
      await other.deactivate("makes");
      await Deno.remove(`${t.dir}/allowed/image`);
    }
  },
);

kernelTest("a file that takes the place of an image is not removed with it", needs, async (t) => {
  const { handler, begun, release } = failingLater();
  await using manager = await open(t.dir, { handlers: { later: handler } });
  const path = `${t.dir}/allowed/image`;
  const failed = manager.activate("fails", [...mkfs(path), { type: "later", source: "x" }], wait);
  await Promise.race([begun, failed]);
  Deno.writeTextFileSync(`${t.dir}/allowed/mine`, "mine");
  Deno.renameSync(`${t.dir}/allowed/mine`, path);
  release();
  assertEquals((await failed.catch((error) => error)).message, "as the test wants");
  assertEquals(Deno.readTextFileSync(path), "mine");
});

kernelTest("a directory that has got files is not removed with its activation", needs, async (t) => {
  const { handler, begun, release } = failingLater();
  await using manager = await open(t.dir, { handlers: { later: handler } });
  const path = `${t.dir}/allowed/made`;
  const failed = manager.activate("fails", [...mkdir(path), { type: "later", source: "x" }], wait);
  await Promise.race([begun, failed]);
  Deno.writeTextFileSync(`${path}/mine`, "mine");
  release();
  assertEquals((await failed.catch((error) => error)).message, "as the test wants");
  assertEquals(Deno.readTextFileSync(`${path}/mine`), "mine");
});

kernelTest(
  "an activation fails with its own error if a link has taken the place of a directory that it made",
  needs,
  async (t) => {
    const { handler, begun, release } = failingLater();
    await using manager = await open(t.dir, { handlers: { later: handler } });
    t.make("allowed/parent", "outside/made");
    const list = [...mkdir(`${t.dir}/allowed/parent/made`), { type: "later", source: "x" }];
    const failed = manager.activate("fails", list, wait);
    await Promise.race([begun, failed]);
    Deno.renameSync(`${t.dir}/allowed/parent`, `${t.dir}/allowed/moved`);
    Deno.symlinkSync("../outside", `${t.dir}/allowed/parent`);
    release();
    assertEquals((await failed.catch((error) => error)).message, "as the test wants");
    assert(Deno.lstatSync(`${t.dir}/outside/made`).isDirectory);
    assertEquals(await manager.sync(), { removed: [], lost: [] });
    assertEquals(remains(t.dir), ["file moved", "file parent"]);
  },
);

kernelTest("an error of mkfs names its own message, and nothing is left", needs, async (t) => {
  await using manager = await open(t.dir);
  const small = [{
    type: "mkfs/ext4",
    source: `${t.dir}/allowed/image`,
    options: ["X-containerd.mkfs.size=1KiB"],
  }];
  const error = await manager.activate("one", small, wait).catch((error) => error);
  assert(!(error instanceof FailedPreconditionError), `${error}`);
  assertMatch(error.message, /^mkfs\.ext4 can't make the image/);
  assertEquals(remains(t.dir), []);
});
