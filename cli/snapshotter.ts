/**
 * `denomount snapshotter`: the snapshotter of this library, served to containerd.
 *
 * @module
 */

import { LocalSnapshotter, type PrepareMode, serveSnapshotter } from "../containerd/mod.ts";
import { errorMessage } from "./errors.ts";
import { escapeControl, printError } from "./print.ts";
import { DeferredSignals } from "./signals.ts";

/** The options of `snapshotter`. */
export interface SnapshotterFlags {
  /** The directory of the snapshots. */
  root: string;
  /** The path of the socket; systemd's if left out. */
  socket?: string;
  /** Which snapshots it mounts itself. */
  prepare: PrepareMode;
}

/**
 * Serves snapshots until SIGTERM or Ctrl-C. Calls that run are completed; what is mounted stays.
 *
 * @param flags where the snapshots and the socket are.
 * @returns the exit status: 0 after a signal, which is how a service is ended.
 */
export async function snapshotter({ root, socket, prepare }: SnapshotterFlags): Promise<number> {
  const abort = new AbortController();
  using _signals = new DeferredSignals(() => abort.abort());
  await using snapshots = await LocalSnapshotter.open({ root, prepare });
  for (const problem of snapshots.problems) {
    printError(`denomount: put right later: ${escapeControl(errorMessage(problem))}`);
  }
  if (abort.signal.aborted) return 0;
  const server = await serveSnapshotter(snapshots, { socket, signal: abort.signal });
  await server.finished;
  return 0;
}
