/**
 * Serving a snapshotter to containerd.
 *
 * @module
 */

import { Server, ServerCredentials } from "../deps.ts";
import type { Snapshotter } from "../snapshotter.ts";
import { dropGoaway } from "../goaway.ts";
import { CheckedSnapshotter } from "./checked_snapshotter.ts";
import { snapshotsService } from "./service.ts";
import { listenActivated, listenAt } from "./socket.ts";
import { notifySystemd } from "./systemd.ts";

/** Where to serve a snapshotter, and how long. */
export interface ServeOptions {
  /** The absolute path of the socket; the socket that systemd has passed if left out. */
  readonly socket?: string | undefined;
  /** Ends the server: calls that run are completed. */
  readonly signal?: AbortSignal | undefined;
}

/** A snapshotter that is served. */
export interface SnapshotServer extends AsyncDisposable {
  /** Resolves when the server has ended. */
  readonly finished: Promise<void>;
}

const LARGEST_MESSAGE = 16 << 20; // containerd's own limit, defaults.DefaultMaxRecvMsgSize

/**
 * Serves a snapshotter on a Unix socket, as a proxy plugin of containerd. The server holds containerd's rules: only
 * committed snapshots have children, names are used once, a snapshot with children stays, and calls on one name run one
 * after the other. So the snapshotter only keeps the snapshots and their records; it throws an error with the name
 * "NotFoundError" for one that it doesn't have.
 *
 * systemd is told when the server is ready and when it stops (`Type=notify`).
 *
 * Needs the permission `ffi`, `--allow-net=unix:SOCKET,unix:SOCKET.new/s`, `read` and `write` for the socket's directory,
 * `--allow-env=GRPC_*`, and `--allow-env=NOTIFY_SOCKET,LISTEN_PID,LISTEN_FDS` for systemd. The socket is made in the
 * directory SOCKET.new; it has mode 0600, and no other user may write to its directory.
 *
 * @param snapshotter the snapshotter.
 * @param options the socket, and the signal that ends the server.
 * @returns the server, which takes calls.
 * @throws {TypeError} if other users can write to the socket's directory, or another file has the path.
 * @throws {Error} if a process listens on the socket already. A socket without a process is replaced.
 *
 * @example
 * ```ts
 * import { Containerd, LocalSnapshotter, serveSnapshotter } from "@denomount/mount/containerd";
 *
 * const root = await Deno.makeTempDir();
 * {
 *   await using snapshotter = await LocalSnapshotter.open({ root: `${root}/snapshots` });
 *   await using _server = await serveSnapshotter(snapshotter, { socket: `${root}/sock` });
 *   await using client = new Containerd({ address: `${root}/sock` });
 *   console.log(await client.snapshots("any").prepare("key", ""));
 * }
 * await Deno.remove(root, { recursive: true });
 * ```
 */
export async function serveSnapshotter(
  snapshotter: Snapshotter,
  { socket, signal }: ServeOptions,
): Promise<SnapshotServer> {
  signal?.throwIfAborted();
  const { definition, implementation } = snapshotsService(new CheckedSnapshotter(snapshotter));
  const server = new Server({
    "grpc.max_receive_message_length": LARGEST_MESSAGE,
    "grpc.max_send_message_length": LARGEST_MESSAGE,
  });
  server.addService(definition, implementation);
  // The library's own way to listen makes the socket with the umask, and removes one that is in its way.
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const onConnection = (connection: Parameters<typeof injector.injectConnection>[0]) => {
    dropGoaway(connection, "client");
    injector.injectConnection(connection);
  };
  const listener = socket === undefined
    ? await listenActivated(onConnection)
    : await listenAt(socket, onConnection);
  const finished = Promise.withResolvers<void>();
  let isEnding = false;
  const end = () => {
    if (isEnding) return;
    isEnding = true;
    shutDown().then(finished.resolve, finished.reject);
  };
  const shutDown = async () => {
    signal?.removeEventListener("abort", end);
    try {
      notifySystemd("STOPPING=1");
    } finally {
      await listener.close();
      await completed(server);
    }
  };
  signal?.addEventListener("abort", end);
  try {
    if (signal?.aborted) end();
    else notifySystemd("READY=1");
  } catch (error) {
    await listener.close();
    server.forceShutdown();
    throw error;
  }
  return {
    finished: finished.promise,
    [Symbol.asyncDispose]: () => {
      end();
      return finished.promise;
    },
  };
}

/** Lets the calls that run complete, and closes the connections. */
function completed(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.tryShutdown((error) => error === undefined ? resolve() : reject(error));
  });
}
