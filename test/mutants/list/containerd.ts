/**
 * The mutants of containerd: the rules that the server holds, its socket, and what the snapshotter removes.
 *
 * @module
 */

import type { MutantRoom } from "../mutant.ts";

const server = ["test/containerd/server_test.ts"];
const local = ["test/containerd/local_snapshotter_test.ts"];
const crash = ["test/containerd/crash_test.ts"];
const snapshotter = "containerd/local/local_snapshotter.ts";
const socket = "containerd/server/socket.ts";
const tree = "containerd/local/tree.ts";

/** containerd. */
export const containerd: MutantRoom = {
  room: "containerd",
  mutants: [
    {
      name: "a snapshot is made on one that is not committed",
      file: "containerd/rules.ts",
      find: 'if (kind !== "committed") throw invalid(action, `the parent',
      replace: "if (false) throw invalid(action, `the parent",
      rule: "Parents are committed.",
      tests: server,
    },
    {
      name: "calls on one name run at once",
      file: "containerd/locks.ts",
      find: "await Promise.all(earlier);",
      replace: "",
      rule: "Calls on one name run one after the other.",
      tests: server,
    },
    {
      name: "a parent is removed while a child is made on it",
      file: "containerd/server/checked_snapshotter.ts",
      find: 'this.#run([key, ...parent === "" ? [] : [parent]], options, async',
      replace: "this.#run([key], options, async",
      rule: "A parent stays while a child is made on it.",
      tests: server,
    },
    {
      name: "list() does not wait for its reader",
      file: "containerd/server/service.ts",
      find: "if (isFull) await drained(call, signal);",
      replace: "",
      rule: "A slow reader does not fill the server's memory.",
      tests: server,
    },
    {
      name: "a client's GOAWAY frames reach node:http2",
      file: "containerd/server/serve.ts",
      find: 'dropGoaway(connection, "client");',
      replace: "",
      rule: "The server lives on when a client closes its connection.",
      tests: ["test/containerd/goaway_test.ts"],
    },
    {
      name: "the server's GOAWAY frames reach node:http2",
      file: "containerd/goaway.ts",
      find: 'dropGoaway(socket, "server");',
      replace: "",
      rule: "A client lives on when its server ends.",
      tests: ["test/containerd/goaway_test.ts"],
    },
    {
      name: "the server ends the calls that run",
      file: "containerd/server/serve.ts",
      find: "await completed(server);",
      replace: "server.forceShutdown();",
      rule: "Calls that run are completed when the signal aborts.",
      tests: server,
    },
    {
      name: "the socket has the mode of the umask",
      file: socket,
      find: "chmod(`${place}/s`, 0o600);",
      replace: "",
      rule: "The socket has mode 0600.",
      tests: server,
    },
    {
      name: "the socket of a later server is removed",
      file: socket,
      find: "if (found?.inode === inode) unlink(path);",
      replace: "if (found) unlink(path);",
      rule: "A server removes its own socket only.",
      tests: server,
    },
    {
      name: "removing enters a mount",
      file: tree,
      find: "RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;",
      replace: "RESOLVE_NO_SYMLINKS;",
      rule: "Removing deletes nothing of a mount.",
      tests: local,
    },
    {
      name: "removing follows links",
      file: tree,
      find: "child, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS",
      replace: "child, 0, STATX_BASIC_STATS",
      rule: "Removing follows no link.",
      tests: local,
    },
    {
      name: "usage counts each name of a file",
      file: tree,
      find: "if (seen.has(file)) return;",
      replace: "",
      rule: "A file with several names is counted once.",
      tests: local,
    },
    {
      name: "a snapshot that is mounted is removed",
      file: snapshotter,
      find: "if (used !== undefined) throw",
      replace: "if (false) throw",
      rule: "No file vanishes under a mount.",
      tests: local,
    },
    {
      name: "a layer stays mounted when it is committed",
      file: snapshotter,
      find: "await this.#unmountRoot(row, action); // a layer of others must not be written to",
      replace: "",
      rule: "A layer of others is not written to.",
      tests: local,
    },
    {
      name: "what a crash has left half made stays",
      file: snapshotter,
      find: "for (const id of await record.begun()) await attempt(() => this.#undo(id));",
      replace: "",
      rule: "open() puts right what a crash has left.",
      tests: crash,
    },
    {
      name: "what a crash has left half removed stays",
      file: snapshotter,
      find: "for (const id of await record.trash()) await attempt(() => this.#deleteTrash(id));",
      replace: "",
      rule: "open() puts right what a crash has left.",
      tests: crash,
    },
  ],
};
