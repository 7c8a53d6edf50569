import { FailedPreconditionError } from "../../linux/manager/errors.ts";
import { type Made, type Making, removeMadeDirectory, removeMadeFile } from "../../linux/manager/made.ts";
import { makeDirectory } from "../../linux/manager/mkdir.ts";
import { makeImage } from "../../linux/manager/mkfs.ts";
import { isErrno } from "../../linux/mod.ts";
import { mount } from "../../mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { names } from "../kernel.ts";
import { swapping } from "../race/races.ts";

const TRIES = 3400; // of each of the three tests of mkdir: more than 10,000
const IMAGES = 100; // mkfs takes some ten milliseconds

const needs: Needs = { root: true, tools: ["mkfs.ext4"], permissions: { run: true, env: true } };

/** An allowed root, and a directory outside of it that has the same names. */
interface Swapped extends AsyncDisposable {
  readonly root: string;
  readonly outside: string;
  /** Ends the swapping. */
  end(): Promise<void>;
}

/** Lets another process swap a directory with a link that leads out of the allowed root, on a tmpfs. */
async function swapped(t: KernelContext, link: "absolute" | "relative"): Promise<Swapped> {
  const dir = t.make("tmpfs");
  const tmpfs = await mount({ type: "tmpfs", source: "t" }, dir);
  const [root, outside] = [`${dir}/allowed`, `${dir}/outside`];
  t.make("tmpfs/allowed/real", "tmpfs/outside/made");
  for (let number = 0; number < IMAGES; number++) Deno.writeTextFileSync(`${outside}/image${number}`, "mine");
  Deno.symlinkSync(link === "absolute" ? outside : "../outside", `${root}/link`);
  const swapper = await swapping(`${root}/real`, `${root}/link`);
  let ended: Promise<void> | undefined;
  const end = () => ended ??= Promise.resolve(swapper[Symbol.asyncDispose]());
  return {
    root,
    outside,
    end,
    async [Symbol.asyncDispose]() {
      await end();
      await tmpfs.unmount();
    },
  };
}

/** What the modifiers need, with a log in memory. */
function makingIn(root: string): { making: Making; log: Map<string, Made> } {
  const log = new Map<string, Made>();
  const making: Making = {
    roots: [root],
    wait: {},
    unique: "unique",
    log: {
      add: (made) => Promise.resolve(void log.set(made.path, made)),
      remove: (path) => Promise.resolve(void log.delete(path)),
    },
  };
  return { making, log };
}

/** The state of the directory outside: a file that is made or removed in it changes its times. */
function stateOf(directory: string): unknown[] {
  const { mtime, ctime, nlink } = Deno.statSync(directory);
  return [mtime, ctime, nlink, names(directory)];
}

const made = (root: string, rest: string) => `${root}/real/${rest}`;

/** Tries it; false if the swap was noticed. */
async function tried(what: () => Promise<void>): Promise<boolean> {
  try {
    await what();
    return true;
  } catch (error) {
    const isNoticed = error instanceof FailedPreconditionError ||
      isErrno(error, "ENOENT", "ENOTDIR", "ELOOP", "EXDEV");
    if (!isNoticed) throw error;
    return false;
  }
}

for (const link of ["absolute", "relative"] as const) {
  kernelTest(
    `mkdir makes, changes and removes nothing behind a link that takes the place of a directory, in ${TRIES} tries: ${link}`,
    needs,
    async (t) => {
      await using places = await swapped(t, link);
      const { root, outside } = places;
      const before = stateOf(outside);
      const { making, log } = makingIn(root);
      const counts = { made: 0, refused: 0 };
      for (let tries = 0; tries < TRIES; tries++) {
        const last = tries % 2 === 0;
        const path = last ? made(root, "made") : made(root, `new${tries}`);
        const request = { path, mode: 0o700, uid: 0, gid: 0 };
        if (await tried(() => makeDirectory(request, making))) counts.made++;
        else counts.refused++;
        for (const { path } of log.values()) await removeMadeDirectory([root], path, {});
        log.clear();
      }
      await places.end();
      assertEquals(stateOf(outside), before);
      assert(counts.made > 10 && counts.refused > 10, JSON.stringify(counts));
    },
  );
}

kernelTest(
  `mkdir takes no link that takes the place of the directory itself, in ${TRIES} tries`,
  needs,
  async (t) => {
    await using places = await swapped(t, "absolute");
    const { root, outside } = places;
    Deno.chmodSync(outside, 0o755);
    const before = stateOf(outside);
    const { making } = makingIn(root);
    const counts = { made: 0, refused: 0 };
    for (let tries = 0; tries < TRIES; tries++) {
      const request = { path: `${root}/real`, mode: undefined, uid: undefined, gid: undefined };
      if (await tried(() => makeDirectory(request, making))) counts.made++;
      else counts.refused++;
    }
    await places.end();
    assertEquals(stateOf(outside), before);
    assert(counts.made > 100 && counts.refused > 100, JSON.stringify(counts));
  },
);

kernelTest(
  `mkfs makes and removes nothing behind a link that takes the place of a directory, in ${IMAGES} tries`,
  needs,
  async (t) => {
    await using places = await swapped(t, "absolute");
    const { root, outside } = places;
    const before = stateOf(outside);
    const { making, log } = makingIn(root);
    const counts = { made: 0, refused: 0 };
    for (let tries = 0; tries < IMAGES; tries++) {
      const request = { size: 1 << 20, fs: "ext4", uuid: undefined } as const;
      if (await tried(() => makeImage(made(root, `image${tries}`), request, making))) counts.made++;
      else counts.refused++;
      for (const file of log.values()) {
        if (file.isOwned) {
          await removeMadeFile([root], file, {}, (unlink) => Promise.resolve(unlink()));
        }
      }
      log.clear();
    }
    await places.end();
    assertEquals(stateOf(outside), before);
    for (const name of names(outside).filter((name) => name !== "made")) {
      assertEquals(Deno.readTextFileSync(`${outside}/${name}`), "mine");
    }
    assert(counts.made > 5 && counts.refused > 5, JSON.stringify(counts));
    // An image stays if the link is there when it is to be removed, but no temporary file does.
    const left = [...names(`${root}/real`), ...names(`${root}/link`)].filter((name) =>
      !/^(image\d+|made)$/.test(name)
    );
    assertEquals(left, []);
  },
);
