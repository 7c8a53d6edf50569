/**
 * User namespaces and id-mapped mounts.
 *
 * @module
 */

import { createUserNamespace, type Mount, mountAll } from "../../mod.ts";
import { type Contender, each, OURS } from "../measure.ts";
import { run as runCommand } from "../peers.ts";
import { type Bench, make, type Row } from "../row.ts";
import { AS_FAST_AS_GO, onAndOff } from "./mounts.ts";
import { makeLayers } from "./overlays.ts";

const MAP = "0:100000:65536";
const maps = [`uidmap=${MAP}`, `gidmap=${MAP}`];

const userns: Row = {
  name: "user namespace",
  limits: [{ most: 0.3 }, { peer: "C floor", most: 2 }, AS_FAST_AS_GO],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const run = () => each(100, async () => (await createUserNamespace(MAP, MAP)).close()); // 3,000 in 30 rounds
    return [{ name: OURS, count: 100, run }, ...bench.peers.map((peer) => peer.contender("userns", 100))];
  },
};

const bind: Row = {
  name: "id-mapped bind",
  limits: [AS_FAST_AS_GO],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const [source, target] = [make(bench, "source"), make(bench, "target")];
    return [
      onAndOff({ type: "bind", source, options: ["bind", ...maps] }, target, 100),
      ...bench.peers.map((peer) => peer.contender("bind-idmap", 100, source, target)),
    ];
  },
};

const shared: Row = {
  name: "binds that share a user namespace",
  limits: [{ peer: "unmapped binds", most: 1.3 }],
  async prepare(bench) {
    const [source, target] = [make(bench, "source"), make(bench, "target")];
    const userNamespace = bench.undo.use(await createUserNamespace(MAP, MAP));
    const bind = { type: "bind", source, options: ["bind"] };
    return [
      onAndOff(bind, target, 1000, { userNamespace }),
      { ...onAndOff(bind, target, 1000), name: "unmapped binds" },
    ];
  },
};

const overlays: Row[] = [5, 100].map((count) => ({
  name: `id-mapped overlay of ${count} layers`,
  limits: [{ peer: "plain overlay", most: 1.8 }, AS_FAST_AS_GO],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const target = make(bench, "target");
    const layers = makeLayers(bench, count);
    const common = make(bench, "layers");
    const overlay = (...more: string[]): Mount => ({
      type: "overlay",
      source: "overlay",
      options: [`lowerdir=${layers.join(":")}`, ...more],
    });
    const inside = layers.map((layer) => layer.slice(common.length + 1));
    return [
      onAndOff(overlay(...maps), target, 1500 / count),
      { ...onAndOff(overlay(), target, 1500 / count), name: "plain overlay" },
      ...bench.peers.map((peer) => peer.contender("overlay-idmap", 1500 / count, target, common, ...inside)),
    ];
  },
}));

/** A tree of files, a thousand in each directory. */
async function makeTree(bench: Bench, files: number): Promise<string> {
  for (let index = 0; index < files; index++) {
    if (index % 1000 === 0) make(bench, `tree/${index / 1000}`);
    await Deno.writeTextFile(`${bench.dir}/tree/${Math.floor(index / 1000)}/${index}`, "");
  }
  return `${bench.dir}/tree`;
}

/** Recursive chown and its reversal, the alternative to an id-mapped mount. */
function chown(tree: string): Contender {
  let owner = 0;
  return {
    name: "chown -R",
    async run() {
      owner = owner === 0 ? 100000 : 0;
      const start = performance.now();
      const error = await runCommand("chown", ["-R", `${owner}:${owner}`, tree]);
      if (error !== undefined) throw new Error(`chown: ${error}`);
      return performance.now() - start;
    },
  };
}

const trees: Row[] = [1_000, 10_000, 100_000].map((files) => ({
  name: `id-mapped mount of ${files.toLocaleString("en")} files`,
  limits: [
    { most: 5 },
    ...files === 1_000 ? [] : [{ row: "id-mapped mount of 1,000 files", most: 1.3 }],
  ],
  async prepare(bench) {
    const tree = await makeTree(bench, files);
    const target = make(bench, "target");
    return [onAndOff({ type: "bind", source: tree, options: ["bind", ...maps] }, target, 100), chown(tree)];
  },
}));

const reuse: Row = {
  name: "ten binds in a list with one id map",
  limits: [{ peer: "ten maps", most: 1 }],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const source = make(bench, "source");
    const list = (host: (index: number) => number): Mount[] =>
      Array.from({ length: 10 }, (_, index) => {
        make(bench, `target/${index}`);
        const map = `0:${host(index)}:65536`;
        return {
          type: "bind",
          source,
          target: `${index}`,
          options: ["bind", `uidmap=${map}`, `gidmap=${map}`],
        };
      });
    const contender = (name: string, mounts: Mount[]): Contender => ({
      name,
      run: () => each(10, async () => await (await mountAll(mounts, `${bench.dir}/target`)).unmount()),
    });
    return [
      contender(OURS, list(() => 100000)),
      contender("ten maps", list((index) => 100000 + index)),
    ];
  },
};

/** Every row of this file. */
export const rows: readonly Row[] = [userns, bind, shared, ...overlays, ...trees, reuse];
