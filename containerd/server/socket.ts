/**
 * The server's socket: made where only this user can write, with mode 0600 before it has its name.
 *
 * @module
 */

import { createServer, type Server, type Socket } from "node:net";
import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { quote } from "../../ffi/text.ts";
import { ensureAnswers } from "../../linux/path/cached_lookup.ts";
import { delay } from "../../linux/path/delay.ts";
import { dirname, join } from "../../linux/path/path.ts";
import {
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  S_IFDIR,
  S_IFMT,
  S_IFSOCK,
  STATX_BASIC_STATS,
} from "../../linux/syscalls/constants.ts";
import {
  chmod,
  geteuid,
  mkdir,
  realpath,
  rmdir,
  type Statx,
  statx,
  unlink,
} from "../../linux/syscalls/mod.ts";
import { tryLock } from "../../linux/temp/locked_directory.ts";

/** A socket that takes connections. */
export interface Listener {
  /** Its path; undefined if systemd has made it. */
  readonly path: string | undefined;
  /** Takes no more connections, and removes the socket if it is the listener's own. */
  close(): Promise<void>;
}

const SIZE_OF_SUN_PATH = 108; // struct sockaddr_un, linux/un.h
const PRIVATE = ".new"; // the directory in which the socket is made, beside its path
const LOCK_TIMEOUT = 10_000; // ms; another server holds the lock while it makes its socket

/**
 * Makes a socket and listens on it. A socket that no process listens on is replaced.
 *
 * @param path its absolute path.
 * @param onConnection receives each connection.
 * @returns the listener.
 * @throws {TypeError} for a directory that others can write to, and a path that is another file.
 * @throws {Error} if a process listens on the socket already.
 */
export async function listenAt(path: string, onConnection: (socket: Socket) => void): Promise<Listener> {
  if (path.startsWith("/")) await ensureAnswers(dirname(path)); // a directory on a server that does not answer
  const directory = checkDirectory(path);
  const canonical = join(directory, path.slice(path.lastIndexOf("/") + 1));
  const place = `${canonical}${PRIVATE}`;
  if (new TextEncoder().encode(`${place}/s`).length >= SIZE_OF_SUN_PATH) {
    throw new TypeError(`the path of the socket ${quote(path)} is too long: a shorter directory is needed`);
  }
  using _lock = await lock(directory);
  removeUnfinished(place);
  await refuseTaken(canonical);
  const server = createServer(onConnection);
  mkdir(place, 0o700); // no other user connects before the chmod()
  try {
    await listening(server, () => server.listen(`${place}/s`));
    chmod(`${place}/s`, 0o600);
    const { inode } = statSocket(`${place}/s`);
    Deno.renameSync(`${place}/s`, canonical);
    rmdir(place);
    return { path: canonical, close: () => close(server, () => removeOwn(directory, canonical, inode)) };
  } catch (error) {
    await close(server);
    removeUnfinished(place);
    throw error;
  }
}

/**
 * Listens on the socket that systemd has passed (sd_listen_fds(3)).
 *
 * @param onConnection receives each connection.
 * @returns the listener.
 * @throws {TypeError} if systemd has passed no socket, or several.
 */
export async function listenActivated(onConnection: (socket: Socket) => void): Promise<Listener> {
  const [pid, count] = ["LISTEN_PID", "LISTEN_FDS"].map((name) => Deno.env.get(name));
  if (pid !== String(Deno.pid) || count === undefined) {
    throw new TypeError("no path of a socket is given, and systemd has passed none (LISTEN_FDS)");
  }
  if (count !== "1") throw new TypeError(`systemd has passed ${count} sockets: one is needed`);
  const server = createServer(onConnection);
  await listening(server, () => server.listen({ fd: SD_LISTEN_FDS_START }));
  return { path: undefined, close: () => close(server) };
}

const SD_LISTEN_FDS_START = 3; // systemd/sd-daemon.h

function checkDirectory(path: string): string {
  if (!path.startsWith("/") || path.includes("\0") || /\/(\.{0,2})$/.test(path)) {
    throw new TypeError(`a socket is given by its absolute path, not ${quote(path)}`);
  }
  const directory = realpath(dirname(path));
  const { mode, uid } = statx(AT_FDCWD, directory, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS);
  if ((mode & S_IFMT) !== S_IFDIR) throw new TypeError(`${quote(directory)} is no directory`);
  if ((uid !== 0 && uid !== geteuid()) || (mode & 0o022) !== 0) {
    throw new TypeError(`other users can write to ${quote(directory)}: they could replace the socket`);
  }
  return directory;
}

/** Two servers that start at once see each other's socket. */
async function lock(directory: string): Promise<OwnedFd> {
  for (const start = performance.now();;) {
    const lock = tryLock(directory);
    if (lock !== undefined) return lock;
    if (performance.now() - start > LOCK_TIMEOUT) {
      throw new Error(`another process holds a lock on the socket's directory ${quote(directory)}`);
    }
    await delay(10);
  }
}

/** What a crash has left between the bind(2) and the rename. The caller holds the lock of the directory. */
function removeUnfinished(place: string): void {
  ignoring("ENOENT", () => unlink(`${place}/s`));
  ignoring("ENOENT", () => rmdir(place));
}

async function refuseTaken(path: string): Promise<void> {
  const found = ignoring("ENOENT", () => statSocket(path));
  if (found === undefined) return;
  if ((found.mode & S_IFMT) !== S_IFSOCK) {
    throw new TypeError(`${quote(path)} is no socket: it is not replaced`);
  }
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return; // stale: its process has ended
    if (!(error instanceof Deno.errors.WouldBlock)) throw error; // its queue is full
  }
  throw new Error(`a process listens on ${quote(path)} already: stop it, or choose another path`);
}

const statSocket = (path: string): Statx => statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS);

function removeOwn(directory: string, path: string, inode: bigint): void {
  using _lock = tryLock(directory); // a server that starts now waits for it
  const found = ignoring("ENOENT", () => statSocket(path));
  if (found?.inode === inode) unlink(path);
}

function ignoring<T>(code: string, call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (!isErrno(error, code)) throw error;
    return undefined;
  }
}

function listening(server: Server, start: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => {
      server.off("error", reject);
      resolve();
    });
    start();
  });
}

/** Connections that are open stay. */
function close(server: Server, remove: () => void = () => {}): Promise<void> {
  server.close();
  remove();
  return Promise.resolve();
}
