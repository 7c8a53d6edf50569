/**
 * Compares the results with the limits and formats them.
 *
 * @module
 */

import { columns } from "../cli/print.ts";
import { markdownTable } from "../scripts/markdown.ts";
import { OURS, type Spread } from "./measure.ts";
import type { Result, Verdict } from "./row.ts";
import { rows } from "./rows.ts";

/** Compares the results with the limits; skips limits with a peer or row that was not measured. */
export function judge(results: readonly Result[]): void {
  for (const result of results) {
    const limits = rows.find(({ name }) => name === result.name)?.limits ?? [];
    result.verdicts = limits.flatMap((limit): Verdict[] => {
      const ours = result.times[OURS]?.median ?? NaN;
      const other = results.find(({ name }) => name === limit.row)?.times[OURS]?.median;
      const value = limit.peer ? result.ratios[limit.peer]?.median : limit.row ? ours / (other ?? NaN) : ours;
      return value === undefined || Number.isNaN(value)
        ? []
        : [{ ...limit, value, reached: value <= limit.most }];
    });
  }
}

function text(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function limitText({ peer, row, most, value, reached }: Verdict, unit: string): string {
  const against = peer ? `× ${peer}` : row ? `× ${row}` : unit;
  return `${reached ? "yes" : "NO "} ${text(value)} ≤ ${text(most)} ${against}`;
}

function ratioText(name: string, { low, median, high }: Spread): string {
  return `${text(median)} × ${name} (${text(low)}–${text(high)})`;
}

/** System calls of one run; a rare one of the runtime is not shown. */
function callsText(count: number): string {
  return Math.abs(count - Math.round(count)) < 0.15 ? `${Math.round(count)}` : count.toFixed(1);
}

/** Formats the results for a terminal. */
export async function printTable(results: readonly Result[]): Promise<void> {
  const rows = results.flatMap(({ name, unit, times, shares, ratios, calls, verdicts }) => {
    const cells = [
      [name],
      [times[OURS] === undefined ? "" : `${text(times[OURS].median)} ${unit}`],
      Object.entries(calls ?? {}).map(([peer, count]) => `${callsText(count)} ${peer}`),
      Object.entries(shares).map(([where, share]) => `${Math.round(share * 100)}% ${where}`),
      Object.entries(ratios).map(([peer, ratio]) => ratioText(peer, ratio)),
      verdicts.map((verdict) => limitText(verdict, unit)),
    ];
    const height = Math.max(...cells.map(({ length }) => length));
    return Array.from({ length: height }, (_, line) => cells.map((lines) => lines[line] ?? ""));
  });
  console.log(
    await columns(["work", "time", "system calls", "shares", "ratios (quartiles)", "limits"], rows),
  );
}

/** Formats the results for bench/README.md: times, ratios, shares and limits. */
export function tables(results: readonly Result[]): string {
  const ratio = ({ ratios }: Result, peer: string) => {
    const found = ratios[peer];
    return found === undefined ? "" : `${text(found.median)} (${text(found.low)}–${text(found.high)})`;
  };
  const percent = (share: number) => `${Math.round(share * 100)} %`;
  const ratioPeers = ["C floor", "containerd", "libmount", "commands"];
  const head = ["work", "time", ...ratioPeers.map((peer) => `× ${peer}`), "kernel", "program", "waiting"];
  const lines = results.map((result) => [
    result.name,
    `${text(result.times[OURS]?.median ?? NaN)} ${result.unit}`,
    ...ratioPeers.map((peer) => ratio(result, peer)),
    ...[result.shares.kernel, result.shares.program, result.shares.waiting].map(percent),
  ]);
  const asked = results.flatMap(({ name, unit, verdicts }) =>
    verdicts.map((verdict) => [name, limitText(verdict, unit)])
  );
  const callers = [OURS, "containerd", "libmount", "C floor"];
  const counted = results.flatMap(({ name, calls = {} }) =>
    Object.keys(calls).length === 0
      ? []
      : [[name, ...callers.map((caller) => calls[caller] === undefined ? "" : callsText(calls[caller]))]]
  );
  return [
    `Deno ${Deno.version.deno}, ${Deno.osRelease()}, ${navigator.hardwareConcurrency} processors, ${
      new Date().toISOString().slice(0, 10)
    }. Ratios are medians of rounds, with quartiles.`,
    markdownTable(head, lines),
    "System calls of one run:",
    markdownTable(["work", ...callers], counted),
    "The limits of each row:",
    markdownTable(["work", "reached"], asked),
  ].join("\n\n");
}
