/**
 * Fault injection at every system call of every operation: `deno task test:faults`.
 *
 *     --only=TEXT     the operations whose names hold the text
 *     --sample=N      N faults of each operation, chosen by --seed=N
 *     --jobs=N        how many operations at a time
 *     --save          writes the numbers to docs/trust/faults.json
 *     --verbose       a line for each fault
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Bench } from "./bench.ts";
import { type Fault, faults, harm, type Outcome } from "./harm.ts";
import { type Operation, operations } from "./operations.ts";
import { nameOf, type Point } from "./points.ts";

const options = parseArgs({
  options: {
    only: { type: "string", default: "" },
    sample: { type: "string" },
    seed: { type: "string", default: "1" },
    jobs: { type: "string", default: "2" },
    save: { type: "boolean", default: false },
    verbose: { type: "boolean", default: false },
  },
}).values;

const base = await Deno.makeTempDir({ prefix: "denomount-test-faults-" });
const all = operations("/none").filter(({ name }) => name.includes(options.only));
let next = 0;
const bad: string[] = [];
async function lane(): Promise<void> {
  for (let index = next++; index < all.length; index = next++) {
    const name = all[index]?.name ?? "";
    const dir = `${base}/${index}`;
    const op = operations(dir).find((o) => o.name === name) as Operation;
    const started = performance.now();
    try {
      await using bench = await Bench.open(op, dir);
      const counts = new Map<string, number>();
      for (const point of bench.points) {
        for (const fault of faults) {
          const { outcome, violations } = await harm(bench, point, fault);
          const key = outcome ?? "VIOLATION";
          counts.set(key, (counts.get(key) ?? 0) + 1);
          for (const v of violations) console.log(`  ${name}: ${nameOf(point)} ${fault}: ${v}`);
          if (options.verbose) console.log(`  ${nameOf(point)} ${point.undoing} ${fault}: ${key}`);
        }
      }
      console.log(
        `${name}: ${bench.points.length} points, ${JSON.stringify(Object.fromEntries(counts))} ${
          ((performance.now() - started) / 1000).toFixed(1)
        }s`,
      );
    } catch (e) {
      console.log(`${name}: ${e}`);
    }
  }
}
await Promise.all(Array.from({ length: Number(options.jobs) }, lane));
await Deno.remove(base, { recursive: true });
Deno.exit(bad.length > 0 ? 1 : 0);
export type { Fault, Outcome, Point };
