/**
 * Draws the README's pictures of the command as SVG, from real runs on a terminal.
 *
 *     deno task pictures
 *
 * @module
 */

// deno-lint-ignore no-import-prefix
import xterm, { type IBufferCell } from "npm:@xterm/headless@6.0.0";
import { mount, mountAll } from "../mod.ts";

const COLUMNS = 97;
const ROWS = 40;
const project = new URL("..", import.meta.url);

/** Runs a command on a terminal of script(1), and returns its output. */
async function onTerminal(command: string): Promise<Uint8Array<ArrayBuffer>> {
  const cli = new URL("cli.ts", project).pathname;
  const shell =
    `stty cols ${COLUMNS} rows ${ROWS}; denomount() { ${Deno.execPath()} run -A '${cli}' "$@"; }; ${command}`;
  const env = { TERM: "xterm-256color", SHELL: "/bin/sh", NO_COLOR: "" };
  const args = ["--quiet", "--return", "--command", shell, "/dev/null"];
  const { success, stdout } = await new Deno.Command("script", { args, env, stdin: "null" }).output();
  if (!success) throw new Error(`${command} failed: ${new TextDecoder().decode(stdout)}`);
  return stdout;
}

/** A piece of a line in one style. */
interface Run {
  column: number;
  text: string;
  style: string;
}

const colours: Record<number, string> = { 1: "red", 2: "green", 3: "yellow", 6: "cyan" };

function styleOf(cell: IBufferCell): string {
  const colour = cell.isFgPalette() ? colours[cell.getFgColor()] : undefined;
  return [cell.isBold() ? "bold" : "", cell.isDim() ? "dim" : "", colour ?? ""].filter((name) => name !== "")
    .join(" ");
}

/** The lines of a terminal's screen after this output. */
async function screen(bytes: Uint8Array): Promise<Run[][]> {
  const terminal = new xterm.Terminal({ cols: COLUMNS, rows: ROWS, allowProposedApi: true });
  await new Promise<void>((resolve) => terminal.write(bytes, resolve));
  const lines = Array.from({ length: ROWS }, (_, row) => {
    const runs: Run[] = [];
    for (let column = 0; column < COLUMNS; column++) {
      const cell = terminal.buffer.active.getLine(row)?.getCell(column);
      if (cell === undefined) continue;
      const [text, style] = [cell.getChars() || " ", styleOf(cell)];
      const last = runs.at(-1);
      if (last?.style === style) last.text += text;
      else runs.push({ column, text, style });
    }
    return runs.filter(({ text }) => text.trim() !== "");
  });
  while (lines.at(-1)?.length === 0) lines.pop();
  terminal.dispose();
  return lines;
}

const [WIDTH, HEIGHT, MARGIN] = [8.4, 17, 16]; // pixels: of a character in a 14-pixel font, and around the text

// Light or dark, by the reader's preference; viewers without media queries draw the light one.
const css = `
  rect { fill: #fff; stroke: #d0d7de } text { fill: #1f2328; font: 14px ui-monospace, "DejaVu Sans Mono", monospace }
  .bold { font-weight: bold } .dim { fill: #6e7781 } .red { fill: #cf222e } .green { fill: #1a7f37 }
  .yellow { fill: #8a6100 } .cyan { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    rect { fill: #0d1117; stroke: #30363d } text { fill: #e6edf3 } .dim { fill: #8b949e } .red { fill: #ff7b72 }
    .green { fill: #56d364 } .yellow { fill: #e3b341 } .cyan { fill: #79c0ff }
  }`;

const escape = (text: string) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

/** Draws a run with an explicit position and width, so that columns align in any font. */
function drawRun({ column, text, style }: Run, y: number): string {
  const start = column + text.length - text.trimStart().length;
  const shown = text.trim();
  const place = `x="${(MARGIN + start * WIDTH).toFixed(1)}" y="${y}" textLength="${
    (shown.length * WIDTH).toFixed(1)
  }"`;
  const look = style === "" ? "" : ` class="${style}"`;
  return `<text ${place} lengthAdjust="spacingAndGlyphs" xml:space="preserve"${look}>${escape(shown)}</text>`;
}

function draw(title: string, lines: readonly Run[][]): string {
  const width = Math.ceil(2 * MARGIN + COLUMNS * WIDTH);
  const height = 2 * MARGIN + lines.length * HEIGHT;
  const texts = lines.flatMap((runs, row) => runs.map((run) => drawRun(run, MARGIN + row * HEIGHT + 13)));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">`,
    `<title>${escape(title)}</title>`,
    `<style>${css}\n</style>`,
    `<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8"/>`,
    ...texts,
    "</svg>\n",
  ].join("\n");
}

async function picture(name: string, command: string): Promise<void> {
  const prompt = new TextEncoder().encode(`\x1b[2m$\x1b[0m \x1b[1m${command}\x1b[0m\r\n`);
  const lines = await screen(new Uint8Array([...prompt, ...await onTerminal(command)]));
  const { pathname } = new URL(`docs/${name}.svg`, project);
  await Deno.writeTextFile(pathname, draw(command, lines));
  await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", pathname] }).output();
  console.log(pathname);
}

/** Mounts the tree for `ls --tree`: a disk image, and a root file system with mounts in it. */
async function build(): Promise<void> {
  await mount({ type: "tmpfs", source: "srv" }, "/srv");
  await mount({ type: "tmpfs", source: "run", options: ["mode=755"] }, "/run");
  for (const name of ["/run/build/disk", "/run/build/root", "/srv/layers/app/tmp", "/srv/layers/base/usr"]) {
    await Deno.mkdir(name, { recursive: true });
  }
  for (const name of ["/srv/upper", "/srv/work"]) await Deno.mkdir(name);
  await Deno.writeFile("/srv/disk.img", new Uint8Array());
  await Deno.truncate("/srv/disk.img", 64 << 20);
  await new Deno.Command("mkfs.ext4", { args: ["-q", "/srv/disk.img"] }).output();
  const maps = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];
  const layers = ["lowerdir=/srv/layers/app:/srv/layers/base", "upperdir=/srv/upper", "workdir=/srv/work"];
  await mountAll([
    { type: "ext4", source: "/srv/disk.img", target: "/disk", options: ["loop", "ro"] },
    { type: "overlay", source: "rootfs", target: "/root", options: [...layers, ...maps] },
    { type: "tmpfs", source: "tmp", target: "/root/tmp", options: ["size=16m", "nosuid", "nodev"] },
    { type: "bind", source: "/usr", target: "/root/usr", options: ["bind", "ro", ...maps] },
  ], "/run/build");
}

await picture(
  "try",
  "denomount try -- sh -c 'echo hi > /etc/motd; rm /etc/hostname; cp -r /etc/skel ~/new'",
);
await build(); // these mounts end with the private mount namespace
await picture("ls", "denomount ls --tree /run/build");
