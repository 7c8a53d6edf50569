/**
 * Mounts the same lines by mount(8) and by the library, and looks at the kernel after each.
 *
 * @module
 */

import { mount, type MountHandle } from "../../../mod.ts";
import { parseTable, readText } from "../../kernel.ts";
import type { Line } from "./lines.ts";

/** What the kernel shows after a line. */
export interface Outcome {
  /** The message of a failure. */
  readonly error: string | undefined;
  /** The rows at and below the mountpoint. */
  readonly rows: readonly OutcomeRow[];
  /** Owner, group and mode of the root of the mount. */
  readonly root: string;
  /** Owner, group and mode of the mountpoint without the mount; "missing" if it does not exist. */
  readonly mountpoint: string;
}

/** A row of the mount table, without what differs between two mounts of the same line. */
export interface OutcomeRow {
  /** Relative to the line's directory. */
  readonly mountpoint: string;
  readonly root: string;
  readonly fsType: string;
  readonly source: string;
  readonly options: readonly string[];
  readonly superOptions: readonly string[];
  /** Without the numbers of the peer groups. */
  readonly propagation: string;
}

/** Directories below a directory that holds the lines of both sides. */
const directoryOf = (base: string, index: number) => `${base}/${index}`;

/** Makes what the lines of a side need. */
export async function prepare(base: string, lines: readonly Line[]): Promise<void> {
  Deno.mkdirSync(base);
  await sh(`
    mount -n -t tmpfs base ${base}
    for name in plain restricted; do mkdir ${base}/$name; mount -n -t tmpfs $name ${base}/$name; chmod 755 ${base}/$name; done
    mkdir -p ${base}/plain/sub ${base}/restricted/sub/deep
    mount -n -t tmpfs -o nodev,noatime,mode=755 below ${base}/plain/sub
    mkdir ${base}/plain/sub/deep
    mount -n -t tmpfs -o ro,mode=755 deep ${base}/plain/sub/deep
    mount -n -t tmpfs -o nosuid,mode=755 below ${base}/restricted/sub
    mkdir ${base}/writable
    mount -n --bind ${base}/restricted ${base}/writable
    mount -n -o remount,bind,ro,nosuid,nodev,noexec,nodiratime,noatime ${base}/restricted
    mount -n --make-rprivate ${base}
  `);
  if (lines.some(({ kind }) => kind === "ext4")) {
    await sh(`
      mkdir -p ${base}/files/sub/deep
      mkfs.ext4 -q -b 1024 -N 64 -d ${base}/files ${base}/image 4M 2>/dev/null
    `);
  }
  lines.forEach(({ kind, missing }, index) => {
    const directory = directoryOf(base, index);
    const names = missing ? [] : ["target"];
    if (kind === "overlay") names.push("lower1", "lower2/sub/deep", "upper", "work");
    Deno.mkdirSync(directory);
    for (const name of names) Deno.mkdirSync(`${directory}/${name}`, { recursive: true });
  });
}

/** Removes what {@linkcode prepare} made. */
export async function cleanUp(base: string): Promise<void> {
  await sh(`umount -n -R ${base}; rmdir ${base}`);
}

/** The version of mount(8), such as 2.38. */
export async function mount8Version(program: string): Promise<number> {
  const text = await sh(`${quoted(program)} --version`);
  const [, major, minor] = /util-linux (\d+)\.(\d+)/.exec(text) ?? [];
  if (major === undefined) throw new Error(`not util-linux' mount(8): ${text}`);
  return Number(major) + Number(minor) / 100;
}

/**
 * Mounts by mount(8), in one shell: a process for each line costs more than the line.
 *
 * @param program mount(8).
 * @param base the prepared directory.
 * @param lines the lines.
 */
export async function byMount8(program: string, base: string, lines: readonly Line[]): Promise<Outcome[]> {
  const script = lines.map((line, index) => {
    const directory = directoryOf(base, index);
    const target = `${directory}/target`;
    const { type, source, options } = fill(line, directory);
    return `
      ${line.kind === "ext4" ? `cp ${base}/image ${directory}/image` : ""}
      ${quoted(program)} -n -t ${type} -o ${quoted(options)} ${quoted(source)} ${target} 2>${base}/stderr
      rc=$?
      echo "LINE $rc"
      { read -r message && echo "$message"; echo TABLE; } <${base}/stderr
      grep -F ' ${target}' /proc/self/mountinfo && { echo ROOT; stat -c '%u:%g %a' ${target}; umount -n -R ${target}; }
      echo MOUNTPOINT; stat -c '%u:%g %a' ${target} 2>/dev/null || echo missing
      ${changesRoot(line) ? `chown 0:0 ${roots(base)}; chmod 755 ${roots(base)}` : ""}
      ${line.kind === "ext4" ? `rm ${directory}/image` : ""}
    `;
  }).join("\n");
  Deno.writeTextFileSync(`${base}/script`, script);
  const output = await sh(`sh ${base}/script 2>&1`);
  return output.split(/^LINE /m).slice(1).map((text, index) => {
    const parts = /^(\d+)\n([^]*)TABLE\n([^]*?)(?:ROOT\n(.*)\n)?MOUNTPOINT\n(.*)\n/.exec(text);
    if (parts === null) throw new Error(`line ${index}: ${text}`);
    const [, status, message = "", table = "", root = "", mountpoint = ""] = parts;
    const error = status === "0" ? undefined : message.trim();
    return { error, rows: rowsBelow(directoryOf(base, index), table), root, mountpoint };
  });
}

/**
 * Mounts by the library.
 *
 * @param base the prepared directory.
 * @param lines the lines.
 */
export async function byLibrary(base: string, lines: readonly Line[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const [index, line] of lines.entries()) {
    const directory = directoryOf(base, index);
    const target = `${directory}/target`;
    const { type, source, options } = fill(line, directory);
    if (line.kind === "ext4") Deno.copyFileSync(`${base}/image`, `${directory}/image`);
    let handle: MountHandle | undefined;
    let error: string | undefined;
    try {
      handle = await mount({ type, source, target: "target", options: [options] }, directory);
    } catch (thrown) {
      error = (thrown as Error).message;
    }
    const rows = rowsBelow(directory, readText("/proc/self/mountinfo") ?? "");
    const root = rows.length > 0 ? ownerAndMode(target) : "";
    await handle?.unmount();
    outcomes.push({ error, rows, root, mountpoint: ownerAndMode(target) });
    if (changesRoot(line)) {
      for (const root of roots(base).split(" ")) {
        Deno.chownSync(root, 0, 0);
        Deno.chmodSync(root, 0o755);
      }
    }
    if (line.kind === "ext4") Deno.removeSync(`${directory}/image`);
  }
  return outcomes;
}

const changesRoot = ({ words }: Line) => words.some((word) => word.startsWith("X-mount."));

/** What a bind's source shows at its root, writable. */
const roots = (base: string) => `${base}/plain ${base}/plain/sub ${base}/writable`;

function fill({ type, source, words }: Line, directory: string) {
  const put = (text: string) =>
    text.replaceAll("DIR/..", directory.replace(/\/[^/]*$/, "")).replaceAll("DIR", directory);
  return { type, source: put(source), options: put(words.join(",")) };
}

function rowsBelow(directory: string, table: string): OutcomeRow[] {
  if (table.trim() === "") return [];
  return parseTable(table).filter(({ mountpoint }) => mountpoint.startsWith(`${directory}/`)).map((row) => ({
    mountpoint: row.mountpoint.slice(directory.length),
    root: relative(row.root, directory),
    fsType: row.fsType,
    source: row.source.replace(/^\/dev\/loop\d+$/, "/dev/loopN"),
    options: row.options,
    superOptions: row.superOptions.split(",").flatMap((option) => layerByLayer(relative(option, directory))),
    propagation: row.optional.replace(/:\d+/g, ""),
  }));
}

/** The kernel shows `lowerdir=A:B` or `lowerdir+=A,lowerdir+=B`, as it was set. */
function layerByLayer(option: string): string[] {
  if (!option.startsWith("lowerdir=")) return [option];
  return option.slice("lowerdir=".length).split(":").map((layer) => `lowerdir+=${layer}`);
}

const relative = (text: string, directory: string) => text.replaceAll(directory, "DIR");

function ownerAndMode(path: string): string {
  try {
    const { uid, gid, mode } = Deno.lstatSync(path);
    return `${uid}:${gid} ${((mode ?? 0) & 0o7777).toString(8)}`;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "missing";
    throw error;
  }
}

const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

async function sh(script: string): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  const text = new TextDecoder().decode(stdout);
  if (!success) throw new Error(`${script}\n${text}${new TextDecoder().decode(stderr)}`);
  return text;
}
