/**
 * From the options of bubblewrap to the steps that make the root directory of a box, in the order of the options.
 *
 * @module
 */

import { join } from "../../path/path.ts";
import { readlink, realpath } from "../../syscalls/mod.ts";
import type { Step } from "../steps.ts";
import { fileId } from "../target.ts";
import type { PassedFd } from "./passed_fd.ts";
import { parseFd, parseMode, type ReadOption } from "./read.ts";

/** Checks and reads the descriptors that options name. */
export interface Descriptors {
  /** A descriptor that was passed. */
  open(option: string, fd: number): PassedFd;
}

/**
 * The step of an option.
 *
 * @param option the option.
 * @param descriptors the descriptors.
 * @returns the step; undefined for an option that is not about the root directory.
 * @throws {TypeError} for an operand that is malformed.
 */
export async function stepOf(option: ReadOption, descriptors: Descriptors): Promise<Step | undefined> {
  const { name, operands: [first = ""] } = option;
  const passed = () => descriptors.open(name, parseFd(name, first));
  return bindStep(option, passed) ?? mountStep(option) ?? await fileStep(option, passed);
}

function bindStep(
  { name, operands: [first = "", target = ""] }: ReadOption,
  passed: () => PassedFd,
): Step | undefined {
  const readonly = name.startsWith("--ro-");
  switch (name) {
    case "--bind":
    case "--bind-try":
    case "--dev-bind":
    case "--dev-bind-try":
    case "--ro-bind":
    case "--ro-bind-try": {
      const [devices, optional] = [name.startsWith("--dev-"), name.endsWith("-try")];
      return { kind: "bind", source: hostPath(first), target: boxPath(target), readonly, devices, optional };
    }
    case "--bind-fd":
    case "--ro-bind-fd": {
      const { fd } = passed();
      const source = readlink(`/proc/self/fd/${fd}`);
      return { kind: "bind", source, file: fileId({ fd }), target: boxPath(target), readonly };
    }
    default:
      return undefined;
  }
}

function mountStep(
  { name, operands: [first = "", second = "", third = ""], layers, ...set }: ReadOption,
): Step | undefined {
  switch (name) {
    case "--tmpfs":
      return {
        kind: "tmpfs",
        target: boxPath(first),
        ...modeOf(set),
        ...set.size === undefined ? {} : { size: set.size },
      };
    case "--overlay":
      return { ...overlay(layers, third), upper: { upper: hostPath(first), work: hostPath(second) } };
    case "--tmp-overlay":
      return { ...overlay(layers, first), upper: "memory" };
    case "--ro-overlay":
      return overlay(layers, first);
    case "--proc":
    case "--mqueue":
      return { kind: name === "--proc" ? "proc" : "mqueue", target: boxPath(first) };
    case "--dev":
      return { kind: "dev", target: boxPath(first), writable: true };
    case "--remount-ro":
      return { kind: "remount-readonly", target: boxPath(first) };
    default:
      return undefined;
  }
}

async function fileStep(
  { name, operands: [first = "", second = ""], mode }: ReadOption,
  passed: () => PassedFd,
): Promise<Step | undefined> {
  switch (name) {
    case "--dir":
      return { kind: "directory", target: boxPath(first), ...modeOf({ mode }) };
    case "--file":
    case "--bind-data":
    case "--ro-bind-data": {
      const how = name === "--file" ? "create" : name === "--bind-data" ? "bind" : "bind-readonly";
      const content = (await passed().read()).toBase64();
      return {
        kind: "file",
        target: boxPath(second),
        content,
        how,
        ...modeOf({ mode: mode ?? DATA_MODES[how] }),
      };
    }
    case "--symlink":
      return { kind: "symlink", target: boxPath(second), to: first };
    case "--chmod":
      return { kind: "chmod", target: boxPath(second), mode: parseMode(name, first) };
    case "--lock-file":
      return { kind: "lock-file", target: boxPath(first) };
    default:
      return undefined;
  }
}

const DATA_MODES = { create: 0o666, bind: 0o600, "bind-readonly": 0o600 };

function modeOf({ mode }: { mode?: number | undefined }): { mode?: number } {
  return mode === undefined ? {} : { mode };
}

/** bubblewrap's layers stand in the order in which they are stacked, and its marks are those of an ordinary user. */
function overlay(layers: readonly string[], target: string) {
  return {
    kind: "overlay",
    lower: layers.map(hostPath).reverse(),
    target: boxPath(target),
    userxattr: true,
  } as const;
}

/** A path of the host. Its last step may be a symbolic link, which the stage follows. */
function hostPath(path: string): string {
  return path.startsWith("/") ? path : join(realpath("."), path);
}

/** A path in the box. */
function boxPath(path: string): string {
  return `/${path.replace(/^\/+/, "")}`;
}

/**
 * The step that shows the terminal of standard output as /dev/console, as bubblewrap does.
 *
 * @param dev where a minimal /dev is, in the box.
 * @returns the step; undefined if standard output is no terminal.
 */
export function consoleStep(dev: string): Step | undefined {
  if (!Deno.stdout.isTerminal()) return undefined;
  const terminal = readlink("/proc/self/fd/1");
  if (!terminal.startsWith("/dev/")) return undefined;
  return { kind: "bind", source: terminal, target: `${dev}/console`, devices: true, optional: true };
}
