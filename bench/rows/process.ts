/**
 * The cost of the library besides mounting: start time and memory.
 *
 * @module
 */

import { mount, type MountHandle } from "../../mod.ts";
import { OURS } from "../measure.ts";
import { make, type Row } from "../row.ts";
import { makeLayers } from "./overlays.ts";

async function start(program: string): Promise<number> {
  const before = performance.now();
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-config", "--allow-ffi", program],
    stdout: "null",
  }).output();
  if (!success) throw new Error(`${program} failed`);
  return performance.now() - before;
}

const importing: Row = {
  name: "import of mod.ts, over an empty program",
  limits: [{ most: 30 }],
  // deno-lint-ignore require-await
  async prepare({ dir }) {
    const library = new URL("../../mod.ts", import.meta.url).href;
    Deno.writeTextFileSync(`${dir}/empty.ts`, "export {};\n");
    Deno.writeTextFileSync(`${dir}/import.ts`, `import "${library}";\n`);
    return [{
      name: OURS,
      run: async () => -(await start(`${dir}/empty.ts`)) + await start(`${dir}/import.ts`),
    }];
  },
};

/** Runs the garbage collection that --expose-gc provides. */
function collect(): void {
  const { gc } = globalThis as { gc?: () => void };
  if (gc === undefined) throw new Error("start it with --v8-flags=--expose-gc");
  gc();
}

const memory: Row = {
  name: "memory of 1,000 overlays, each",
  unit: "bytes",
  limits: [{ most: 1024 }], // a handle has two lists with one path each
  rounds: 3,
  // deno-lint-ignore require-await
  async prepare(bench) {
    const lowerdir = `lowerdir=${makeLayers(bench, 5).join(":")}`;
    const overlay = { type: "overlay", source: "overlay", options: [lowerdir] };
    const targets = Array.from({ length: 1000 }, (_, index) => make(bench, `target/${index}`));
    const run = async () => {
      collect();
      const before = Deno.memoryUsage().heapUsed + Deno.memoryUsage().external;
      const up: MountHandle[] = [];
      for (const target of targets) up.push(await mount(overlay, target));
      collect();
      const used = Deno.memoryUsage().heapUsed + Deno.memoryUsage().external - before;
      for (const stack of up) await stack.unmount();
      return used / targets.length;
    };
    return [{ name: OURS, run }];
  },
};

/** Every row of this file. */
export const rows: readonly Row[] = [importing, memory];
