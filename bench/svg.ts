/**
 * Draws the results: each row's ratio to each peer, and the cost of a mount by the number of mounts and callers.
 *
 * @module
 */

import { OURS, type Spread } from "./measure.ts";
import type { Result } from "./row.ts";

const WIDTH = 1000;
const LEFT = 360; // the start of the scale
const ROW = 22;
const LOWEST = 1 / 10_000;
const HIGHEST = 10;

const colours: Record<string, string> = {
  "C floor": "#8a8a8a",
  containerd: "#0a7ea4",
  libmount: "#d4a017",
  commands: "#c2571a",
  "bare calls in Deno": "#7a5fb5",
  "plain overlay": "#3f8f3f",
  "chown -R": "#b0315f",
  "ten maps": "#a08a00",
  "unmapped binds": "#5f9ea0",
  bubblewrap: "#b5651d",
  unshare: "#556b2f",
  overlayfs: "#2f4f8f",
};

const escape = (text: string) => text.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);

function text(x: number, y: number, content: string, more = ""): string {
  return `<text x="${x}" y="${y}" ${more}>${escape(content)}</text>`;
}

/** The position of a ratio on the logarithmic scale. */
function place(ratio: number): number {
  const share = Math.log(Math.min(HIGHEST, Math.max(LOWEST, ratio)) / LOWEST) / Math.log(HIGHEST / LOWEST);
  return LEFT + share * (WIDTH - LEFT - 20);
}

function mark(y: number, peer: string, { low, median, high }: Spread): string {
  const colour = colours[peer] ?? "#444";
  const line = `<line x1="${place(low)}" x2="${
    place(high)
  }" y1="${y}" y2="${y}" stroke="${colour}" stroke-width="2"/>`;
  const title = `<title>${escape(`${median.toPrecision(3)} × ${peer}`)}</title>`;
  return `${line}<circle cx="${place(median)}" cy="${y}" r="4.5" fill="${colour}">${title}</circle>`;
}

function ratios(results: readonly Result[], top: number): string[] {
  return results.flatMap(({ name, ratios, times, unit }, index) => {
    const y = top + index * ROW;
    const takes = `${(times[OURS]?.median ?? NaN).toPrecision(3)} ${unit}`;
    return [
      text(10, y + 4, name),
      text(LEFT - 12, y + 4, takes, 'text-anchor="end" fill="#777"'),
      `<line x1="${LEFT}" x2="${WIDTH - 20}" y1="${y}" y2="${y}" stroke="#eee"/>`,
      ...Object.entries(ratios).map(([peer, ratio]) => mark(y, peer, ratio)),
    ];
  });
}

function scale(top: number, bottom: number): string[] {
  const steps = [0.0001, 0.001, 0.01, 0.1, 1, 10];
  return steps.flatMap((ratio) => [
    `<line x1="${place(ratio)}" x2="${place(ratio)}" y1="${top}" y2="${bottom}" stroke="${
      ratio === 1 ? "#333" : "#ddd"
    }"/>`,
    text(place(ratio), bottom + 16, `${ratio} ×`, 'text-anchor="middle" fill="#777"'),
  ]);
}

const IN_A_ROW = 6;
const legendX = (index: number) => 20 + index % IN_A_ROW * 160;
const legendY = (index: number, top: number) => top + Math.floor(index / IN_A_ROW) * ROW;

function legend(peers: readonly string[], y: number): string[] {
  return peers.flatMap((peer, index) => [
    `<circle cx="${legendX(index)}" cy="${legendY(index, y) - 4}" r="5" fill="${colours[peer] ?? "#444"}"/>`,
    text(legendX(index) + 10, legendY(index, y), peer),
  ]);
}

/** Bars for the rows of one series, with the time as width. */
function bars(title: string, rows: readonly Result[], top: number): string[] {
  const longest = Math.max(...rows.map(({ times }) => times[OURS]?.median ?? 0));
  return [
    text(10, top, title, 'font-weight="bold"'),
    ...rows.flatMap(({ name, times }, index) => {
      const y = top + 20 + index * ROW;
      const median = times[OURS]?.median ?? 0;
      const width = median / longest * (WIDTH - LEFT - 120);
      return [
        text(10, y + 4, name),
        `<rect x="${LEFT}" y="${y - 7}" width="${width}" height="14" fill="#0a7ea4"/>`,
        text(LEFT + width + 8, y + 4, `${median.toPrecision(3)} ms`, 'fill="#777"'),
      ];
    }),
  ];
}

/**
 * Draws the picture of a run.
 *
 * @param results the results of the rows.
 * @returns an SVG document.
 */
export function draw(results: readonly Result[]): string {
  const compared = results.filter(({ ratios }) => Object.keys(ratios).length > 0);
  const peers = [...new Set(compared.flatMap(({ ratios }) => Object.keys(ratios)))];
  const crowd = results.filter(({ name }) => name.startsWith("bind among"));
  const callers = results.filter(({ name }) => name.endsWith("at once"));
  const top = 84 + Math.floor((peers.length - 1) / IN_A_ROW) * ROW;
  const bottom = top + compared.length * ROW - 8;
  const plots = bottom + 52;
  const height = plots + (crowd.length + callers.length) * ROW + 90;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="system-ui, sans-serif" font-size="13">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    text(
      10,
      24,
      "denomount's time as a multiple of each peer's: left of the black line it is faster",
      'font-weight="bold"',
    ),
    ...legend(peers, 52),
    ...scale(top - 14, bottom),
    ...ratios(compared, top),
    ...bars("A mount among others (and off again)", crowd, plots),
    ...bars("Callers at once (each mount, and off again)", callers, plots + crowd.length * ROW + 50),
    "</svg>\n",
  ].join("\n");
}
