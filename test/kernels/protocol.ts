/**
 * Messages between host and guest: a file in the archive, and marked lines on the serial port.
 *
 * @module
 */

/** The tests to run in the guest. */
export interface Job {
  /** Arguments of `deno test`. */
  tests: readonly string[];
}

/** The guest's first message. */
export interface Machine {
  /** The kernel's release. */
  kernel: string;
  /** As in `Deno.build.arch`. */
  architecture: string;
  /** Missing features that `denomount doctor` found, and their replacements. */
  missing: { name: string; note?: string | undefined }[];
}

/** The guest's last message. */
export interface Ending {
  /** The exit status of the tests. */
  code: number;
  /** The duration of the tests, in seconds. */
  seconds: number;
}

const MARK = "@denomount ";

/** Sends a message to the host. */
export function send(message: Machine | Ending): void {
  console.log(`\n${MARK}${JSON.stringify(message)}`); // a test may have left an unfinished line
}

/** The result of a run. */
export interface Result {
  /** The guest. */
  machine: Machine;
  /** Tests that passed. */
  passed: number;
  /** Tests that failed. */
  failed: number;
  /** Whether tests ran, none failed, and none left anything behind. */
  good: boolean;
  /** The duration of the tests, in seconds. */
  seconds: number;
}

/**
 * Reads a guest's output.
 *
 * @param lines the lines.
 * @returns the result; undefined if the guest ended before its tests.
 */
export function readResult(lines: readonly string[]): Result | undefined {
  const messages = lines.filter((line) => line.startsWith(MARK)).map((line) =>
    JSON.parse(line.slice(MARK.length))
  );
  const [machine, ending]: [Machine?, Ending?] = [messages[0], messages[1]];
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
