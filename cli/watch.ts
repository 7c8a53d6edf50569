/**
 * `denomount watch`: mounts and unmounts as they happen.
 *
 * @module
 */

import { fsTypeFilter, type MountEvent, type MountFilter, prefixFilter, watchMounts } from "../mod.ts";
import { EFD_CLOEXEC, eventfd, POLLIN, pollOffThread, write } from "../linux/mod.ts";
import { placeIn } from "./list.ts";
import { bold, cyan, dim, green, red, yellow } from "./deps.ts";
import { ofProcess } from "./namespace.ts";
import { escapeControl, print } from "./print.ts";
import { DeferredSignals } from "./signals.ts";

/** What to watch, and how to print it. */
export interface WatchFlags {
  /** Only file systems of these types. */
  type?: string[];
  /** Changed options too. */
  changes?: true;
  /** The process whose mount namespace is watched. */
  namespace?: number;
  /** As JSON, a line each. */
  json?: true;
}

/**
 * Prints mounts and unmounts until Ctrl-C, until the watched process ends, or until nobody reads them any more.
 *
 * @param path only at and below it.
 * @param flags what to watch.
 * @returns the exit status.
 */
export async function watch(path: string | undefined, flags: WatchFlags): Promise<number> {
  const { namespace, changes = false, json } = flags;
  const filters = await filtersOf(path, flags);
  const abort = new AbortController();
  using signals = new DeferredSignals(() => abort.abort());
  try {
    const { signal } = abort;
    const pid = namespace === undefined ? {} : { pid: namespace };
    const events = await ofProcess(namespace, () => watchMounts({ signal, changes, ...pid }));
    await using _reader = whenNobodyReads(() => abort.abort());
    for await (const event of events) {
      if (isWanted(event, filters)) print(json ? jsonLine(event) : line(event));
    }
  } catch (error) {
    if (error !== abort.signal.reason) throw error;
  }
  return await signals.status() ?? 0;
}

async function filtersOf(path: string | undefined, { type, namespace }: WatchFlags): Promise<MountFilter[]> {
  const below = path === undefined ? [] : [prefixFilter(await placeIn(namespace, path))];
  return [...below, ...type ? [fsTypeFilter(...type)] : []];
}

/** What is known by its number alone passes no filter. */
function isWanted(event: MountEvent, filters: readonly MountFilter[]): boolean {
  if (event.kind === "transient") return filters.length === 0;
  const seen = "before" in event ? [event.mount, event.before] : [event.mount];
  return seen.some((mount) => filters.every((filter) => !filter(mount).skip));
}

function jsonLine(event: MountEvent): string {
  const plain = event.kind === "transient" ? { ...event, mountId: `${event.mountId}` } : event;
  return JSON.stringify({ time: new Date().toISOString(), ...plain });
}

const marks: Record<MountEvent["kind"], string> = {
  mounted: "+",
  unmounted: "-",
  moved: ">",
  changed: "~",
  transient: "±",
};

function line(event: MountEvent): string {
  const colour = { mounted: green, unmounted: red, moved: cyan, changed: yellow, transient: dim }[event.kind];
  const time = dim(new Date().toTimeString().slice(0, 8));
  return `${time} ${colour(marks[event.kind])} ${what(event)}`;
}

function what(event: MountEvent): string {
  if (event.kind === "transient") return dim(`mount ${event.mountId}, gone before it could be looked at`);
  const { mountpoint, fsType, source, options } = event.mount;
  const place = event.kind === "moved"
    ? `${escapeControl(event.before.mountpoint)} -> ${bold(escapeControl(mountpoint))}`
    : bold(escapeControl(mountpoint));
  const told = event.kind === "changed" ? changesOf(event) : options;
  return `${place}  ${escapeControl(fsType)}  ${escapeControl(source)}  ${dim(escapeControl(told))}`;
}

function changesOf({ mount, before }: Extract<MountEvent, { kind: "changed" }>): string {
  const fields = ["options", "vfsOptions", "optional"] as const;
  return fields.filter((field) => mount[field] !== before[field])
    .map((field) => `${before[field] || "private"} -> ${mount[field] || "private"}`).join("; ");
}

/** Without this, `denomount watch | head -1` would go on until there is a second line to be written. */
function whenNobodyReads(end: () => void): AsyncDisposable {
  const wake = eventfd(EFD_CLOEXEC);
  const STDOUT = 1;
  const waiting = pollOffThread([{ fd: STDOUT, events: 0 }, { fd: wake.fd, events: POLLIN }]).then(
    ([out]) => {
      if (out) end();
    },
  );
  return {
    async [Symbol.asyncDispose]() {
      write(wake.fd, new Uint8Array(BigUint64Array.of(1n).buffer));
      await waiting;
      wake.close();
    },
  };
}
