/**
 * `denomount watch`: mounts and unmounts as they happen.
 *
 * @module
 */

import { fsTypeFilter, type MountEvent, type MountFilter, prefixFilter, watchMounts } from "../mod.ts";
import { EFD_CLOEXEC, eventfd, POLLIN, pollOffThread, write } from "../linux/mod.ts";
import { pathInNamespace } from "./list.ts";
import { bold, cyan, dim, green, red, yellow } from "./deps.ts";
import { withNamespaceErrors } from "./namespace.ts";
import { escapeControl, print } from "./print.ts";
import { DeferredSignals } from "./signals.ts";

/** The options of `watch`. */
export interface WatchFlags {
  /** Only file systems of these types. */
  type?: string[];
  /** Also prints changes of options. */
  changes?: true;
  /** The process whose mount namespace is watched. */
  namespace?: number;
  /** Prints JSON, one object per line. */
  json?: true;
}

/**
 * Prints mounts and unmounts until Ctrl-C, until the watched process exits, or until the reader of standard output closes.
 *
 * @param path the path at and below which to watch; undefined for everywhere.
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
    const events = await withNamespaceErrors(namespace, () => watchMounts({ signal, changes, ...pid }));
    await using _reader = onReaderClosed(() => abort.abort());
    for await (const event of events) {
      if (isWanted(event, filters)) print(json ? jsonLine(event) : line(event));
    }
  } catch (error) {
    if (error !== abort.signal.reason) throw error;
  }
  return await signals.status() ?? 0;
}

async function filtersOf(path: string | undefined, { type, namespace }: WatchFlags): Promise<MountFilter[]> {
  const below = path === undefined ? [] : [prefixFilter(await pathInNamespace(namespace, path))];
  return [...below, ...type ? [fsTypeFilter(...type)] : []];
}

/** A transient mount is known only by its id, so it matches no filter. */
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
  const color = { mounted: green, unmounted: red, moved: cyan, changed: yellow, transient: dim }[event.kind];
  const time = dim(new Date().toTimeString().slice(0, 8));
  return `${time} ${color(marks[event.kind])} ${describe(event)}`;
}

function describe(event: MountEvent): string {
  if (event.kind === "transient") return dim(`mount ${event.mountId}, unmounted before it could be read`);
  const { mountpoint, fsType, source, options } = event.mount;
  const location = event.kind === "moved"
    ? `${escapeControl(event.before.mountpoint)} -> ${bold(escapeControl(mountpoint))}`
    : bold(escapeControl(mountpoint));
  const details = event.kind === "changed" ? changesOf(event) : options;
  return `${location}  ${escapeControl(fsType)}  ${escapeControl(source)}  ${dim(escapeControl(details))}`;
}

function changesOf({ mount, before }: Extract<MountEvent, { kind: "changed" }>): string {
  const fields = ["options", "vfsOptions", "optional"] as const;
  return fields.filter((field) => mount[field] !== before[field])
    .map((field) => `${before[field] || "private"} -> ${mount[field] || "private"}`).join("; ");
}

/** Calls a function when the reader of standard output closes; `watch | head -1` would otherwise run until its next write. */
function onReaderClosed(end: () => void): AsyncDisposable {
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
