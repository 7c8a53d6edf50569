/**
 * The operations of the mount manager.
 *
 * @module
 */

import { DatabaseSync } from "node:sqlite";
import { type LocalMountManager, NotFoundError } from "../../linux/manager/mod.ts";
import { MountError } from "../../mod.ts";
import { complete, everything, open, patient, settled, tools } from "../manager/everything.ts";
import type { Operation } from "./operations.ts";
import type { MoreCalls } from "./points.ts";

const NAME = "everything";

/** SQLite's calls, those that make images and directories, and the start of mkfs. */
const calls: MoreCalls = {
  fcntl: /activations\.db(?!.*F_UNLCK)/, // one that strace makes fail is not executed: the lock would stay
  pread64: /activations\.db/,
  pwrite64: /activations\.db/,
  fsync: /activations\.db/,
  fdatasync: /activations\.db/,
  newfstatat: /activations\.db/,
  openat: /^(?!.*("\/dev\/null"|"\/etc\/))/,
  read: /^\d+<(\/proc\/|anon_inode:\[fs|.*\/allowed\/)/,
  lseek: /\/allowed\//,
  ftruncate: /./,
  link: /./,
  symlink: /./,
  unlink: /./,
  rmdir: /\/root\/a-/, // a directory of the caller's that is busy stays
  chmod: /./,
  fchownat: /./,
  getdents64: /./,
  chdir: /^$/, // mkfs's own
  clone: /CLONE_NEWUSER|SIGCHLD/,
};

/** The operations, in a directory with the sources of {@linkcode everything}. */
export function managerOperations(dir: string): Operation[] {
  let opened: LocalMountManager | undefined;
  const manager = async () => opened ??= await open(dir);
  const activate = async () => {
    await (await manager()).activate(NAME, everything(dir), patient);
  };
  const deactivate = async () => await (await manager()).deactivate(NAME);
  const common = { tools: [...tools], calls, writesFiles: true, reports: /sync\(\) has to undo it/ };
  return [
    {
      ...common,
      name: "manager, activate",
      async prepare() {
        await manager();
      },
      run: activate,
      async undo() {
        if (await deactivateIfActive(await manager())) await removeData(dir);
      },
      cleanUp: () => recover(dir, true),
    },
    {
      ...common,
      name: "manager, an activation that fails",
      async prepare() {
        await manager();
      },
      async run() {
        const [layer, image, filesystem, overlay] = everything(dir);
        if (!layer || !image || !filesystem || !overlay) throw new Error("the list has four entries");
        const wrong = { ...overlay, options: [...overlay.options ?? [], "lowerdir=/none"] };
        try {
          await (await manager()).activate(NAME, [layer, image, filesystem, wrong], patient);
        } catch (error) {
          if (!(error instanceof MountError && error.code === "ENOENT")) throw error;
        }
      },
      async undo() {
        if (await deactivateIfActive(await manager())) throw new Error("it was activated");
      },
      cleanUp: () => recover(dir, true),
    },
    {
      ...common,
      name: "manager, deactivate",
      takes: true,
      prepare: activate, // the image stays from the first time
      run: deactivate,
      async undo() {
        await deactivateIfActive(await manager());
      },
      cleanUp: () => recover(dir, false),
    },
    {
      ...common,
      name: "manager, sync after a crash",
      takes: true,
      async prepare() {
        await activate();
        using record = new DatabaseSync(`${dir}/root/activations.db`);
        record.exec("UPDATE activation SET state = 'activating'");
      },
      async run() {
        const { removed } = await (await manager()).sync();
        if (!removed.includes(NAME)) throw new Error("it was not removed");
      },
      cleanUp: () => recover(dir, true),
    },
  ];
}

async function deactivateIfActive(manager: LocalMountManager): Promise<boolean> {
  try {
    await manager.deactivate(NAME);
    return true;
  } catch (error) {
    if (error instanceof NotFoundError) return false;
    throw error;
  }
}

async function removeData(dir: string): Promise<void> {
  for (const name of ["data.img", "made"]) await Deno.remove(`${dir}/allowed/${name}`);
}

/**
 * Recovers in another process than the one that was killed; fails unless all of the activation is left, or nothing.
 *
 * @param dir the directory.
 * @param isNew whether the image and the directory are the activation's own, so that they are gone with it.
 */
async function recover(dir: string, isNew: boolean): Promise<void> {
  await using manager = await open(dir);
  await manager.sync();
  let isActive = false;
  for await (const { name } of manager.list()) isActive = name === NAME;
  const data = complete.filter((line) => line.startsWith("file "));
  const expected = isActive ? complete : isNew ? [] : data;
  const found = await settled(dir, expected);
  if (`${found}` !== `${expected}`) {
    if (isNew && !isActive) await Deno.remove(`${dir}/allowed`, { recursive: true }); // the next fault starts anew
    throw new Error(`after sync(), with ${isActive ? "the" : "no"} activation: ${found}`);
  }
  if (!isActive) return;
  await manager.deactivate(NAME);
  const left = await settled(dir, data);
  if (`${left}` !== `${data}`) throw new Error(`after deactivate(): ${left}`);
  if (isNew) await removeData(dir);
}
