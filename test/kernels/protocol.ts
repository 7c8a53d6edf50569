/**
 * What host and guest say to each other: a file in the archive, and marked lines on the serial port.
 *
 * @module
 */

/** What the guest is to do. */
export interface Job {
  /** What goes to `deno test`. */
  tests: readonly string[];
}

/** What the guest says first. */
export interface Machine {
  /** The kernel's release. */
  kernel: string;
  /** As in `Deno.build.arch`. */
  architecture: string;
  /** What `denomount doctor` found missing, with what is done instead. */
  missing: { name: string; note?: string | undefined }[];
}

/** What the guest says at last. */
export interface Ending {
  /** The exit status of the tests. */
  code: number;
  /** How long they took. */
  seconds: number;
}

const MARK = "@denomount ";

/** Says something to the host. */
export function tell(message: Machine | Ending): void {
  console.log(`\n${MARK}${JSON.stringify(message)}`); // on a line of its own, whatever a test left there
}

/** What came of a run. */
export interface Result {
  /** The guest. */
  machine: Machine;
  /** Tests passed. */
  passed: number;
  /** Tests failed. */
  failed: number;
  /** Whether nothing failed and nothing was left behind. */
  good: boolean;
  /** How long the tests took. */
  seconds: number;
}

/**
 * Reads what a guest printed.
 *
 * @param lines the lines.
 * @returns what came of it; undefined where the guest did not come to its end.
 */
export function readResult(lines: readonly string[]): Result | undefined {
  const told = lines.filter((line) => line.startsWith(MARK)).map((line) =>
    JSON.parse(line.slice(MARK.length))
  );
  const [machine, ending]: [Machine?, Ending?] = [told[0], told[1]];
  const totals = lines.map((line) => /^(\d+) passed, (\d+) failed/.exec(line)).findLast((match) =>
    match !== null
  );
  if (machine === undefined || ending === undefined || totals === undefined) return undefined;
  const [passed, failed] = [Number(totals?.[1]), Number(totals?.[2])];
  return {
    machine,
    passed,
    failed,
    good: ending.code === 0 && failed === 0 && passed > 0,
    seconds: ending.seconds,
  };
}
