/**
 * Every public operation of the library that makes a system call, for runs with reduced rights.
 *
 * @module
 */

import * as library from "../../mod.ts";

/** An operation. */
export interface Operation {
  /** The programs that it requires. */
  tools?: string[];
  /** Prepares the operation, with all rights. */
  prepare?(dir: string): Promise<unknown>;
  /** Runs the operation. */
  run(dir: string): Promise<unknown>;
}

const uids = "0:100000:65536";
const maps = [`uidmap=${uids}`, `gidmap=${uids}`];
const tmpfs: library.Mount = { type: "tmpfs", source: "t" };
const bind = (dir: string, ...options: string[]): library.Mount => {
  return { type: "bind", source: `${dir}/source`, options: ["bind", ...options] };
};
const overlay = (dir: string, ...options: string[]): library.Mount => {
  return { type: "overlay", source: "o", options: [`lowerdir=${dir}/source:${dir}/other`, ...options] };
};
const image = (dir: string): library.Mount => {
  return { type: "ext4", source: `${dir}/image`, options: ["loop", "ro"] };
};
const fuse = (dir: string): library.Mount => ({ type: "fuse3.bindfs", source: `${dir}/source` });
const target = (dir: string) => `${dir}/target`;

const mounting = (make: (dir: string) => library.Mount, tools: string[] = []): Operation => {
  return { tools, run: (dir) => library.mount(make(dir), target(dir)) };
};
const unmounting = (run: (target: string) => Promise<unknown>, make = () => tmpfs): Operation => {
  return { prepare: (dir) => library.mount(make(), target(dir)), run: (dir) => run(target(dir)) };
};

/** The operations, by their names in the table. */
export const operations: Record<string, Operation> = {
  "`mount`: bind": mounting((dir) => bind(dir, "ro", "nosuid")),
  "`mount`: bind, id-mapped": mounting((dir) => bind(dir, ...maps)),
  "`mount`: tmpfs": mounting(() => tmpfs),
  "`mount`: overlay": mounting((dir) => overlay(dir)),
  "`mount`: overlay with an upper directory": mounting((dir) =>
    overlay(dir, `upperdir=${dir}/upper`, `workdir=${dir}/work`)
  ),
  "`mount`: overlay, id-mapped": mounting((dir) => overlay(dir, ...maps)),
  "`mount`: an image through a loop device": mounting(image, ["mkfs.ext4"]),
  "`mount`: FUSE": mounting(fuse, ["mount.fuse3", "bindfs"]),
  "`mount`: a remount": {
    prepare: (dir) => library.mount(tmpfs, target(dir)),
    run: (dir) => library.mount({ type: "", source: "", options: ["remount", "ro"] }, target(dir)),
  },
  "`mount` with `replace`": {
    prepare: (dir) => library.mount(tmpfs, target(dir)),
    run: (dir) => library.mount(bind(dir), target(dir), { replace: true }),
  },
  "`mountAll`": { run: (dir) => library.mountAll([tmpfs, bind(dir)], target(dir)) },
  "`idMapMount`": {
    async run(dir) {
      using userns = await library.createUserNamespace(uids, uids);
      await library.idMapMount(`${dir}/source`, target(dir), userns);
    },
  },
  "`unmount`": unmounting(library.unmount),
  "`unmount`: FUSE": {
    tools: ["mount.fuse3", "bindfs"],
    prepare: (dir) => library.mount(fuse(dir), target(dir)),
    run: (dir) => library.unmount(target(dir)),
  },
  "`unmountAll`": unmounting(library.unmountAll),
  "`unmountMounts`": unmounting((target) => library.unmountMounts([tmpfs], target)),
  "`unmountRecursive`": unmounting(library.unmountRecursive),
  "`withTempMount`": { run: (dir) => library.withTempMount([overlay(dir)], () => {}) },
  "`withReadonlyTempMount`": { run: (dir) => library.withReadonlyTempMount([overlay(dir)], () => {}) },
  "`setTempMountLocation`": { run: (dir) => library.setTempMountLocation(`${dir}/temporary`) },
  "`cleanupTempMounts`": {
    async prepare() {
      await Deno.mkdir("/tmp/denomount-broken/root", { recursive: true });
      await library.mount(tmpfs, "/tmp/denomount-broken/root");
    },
    async run() {
      const [error] = await library.cleanupTempMounts();
      if (error) throw error;
    },
  },
  "`listMounts`": { run: () => library.listMounts() },
  "`lookupMount`": { run: (dir) => library.lookupMount(dir) },
  "`isMountpoint`": { run: (dir) => library.isMountpoint(dir) },
  "`canonicalizePath`": { run: (dir) => library.canonicalizePath(dir) },
  "`rootPath`": { run: (dir) => library.rootPath(dir, "../x") },
  "`createUserNamespace`": { run: () => library.createUserNamespace(uids, uids) },
  "`userNamespaceOf` this process": { run: () => library.userNamespaceOf(Deno.pid) },
  "`setupLoop`": {
    async run(dir) {
      (await library.setupLoop(`${dir}/image`, { readonly: true, autoclear: true })).close();
    },
  },
  "`attachLoop` and `detachLoop`": {
    run: async (dir) => await library.detachLoop(await library.attachLoop(`${dir}/image`)),
  },
  "`explain`": {
    run: (dir) => Promise.resolve(library.explain([bind(dir), overlay(dir)], target(dir))),
  },
  "`parseMountInfo`, `parseIdMappings`, `readonlyMounts` and other functions of text": {
    run(dir) {
      library.parseMountInfo("1 1 0:1 / / rw - tmpfs t rw\n", library.prefixFilter("/"));
      library.parseIdMappings(uids);
      const [made] = library.readonlyMounts(
        library.removeIdMapOption(library.removeVolatileOption([overlay(dir)])),
      );
      return Promise.resolve(made && library.isReadonly(made));
    },
  },
};
