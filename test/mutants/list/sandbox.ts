/**
 * The mutants of linux/sandbox: what a command of a box could reach.
 *
 * @module
 */

import type { Mutant, MutantRoom } from "../mutant.ts";

const at = (name: string) => `linux/sandbox/${name}.ts`;
const test = (...names: string[]) => names.map((name) => `test/sandbox/${name}_test.ts`);

function mutant(
  name: string,
  file: string,
  find: string,
  replace: string,
  rule: string,
  ...tests: string[]
): Mutant {
  return { name, file: at(file), find, replace, rule, tests: test(...tests) };
}

const NOTHING = "A command has no right and nothing of its parent that was not asked for.";
const WRITES = "Nothing is written through a path that no option names.";
const PLACES = "A protected path stays where it is.";
const HOST = "A command reaches no process, name or service of the host.";

/** linux/sandbox. */
export const sandbox: MutantRoom = {
  room: "linux/sandbox",
  mutants: [
    mutant("commands may gain rights", "stage", "  setNoNewPrivs();\n", "", NOTHING, "box"),
    mutant("commands keep capabilities", "stage", "  dropCapabilities();\n", "", NOTHING, "box"),
    mutant(
      "the first process can be traced",
      "stage",
      "  setUndumpable(); // last",
      "  // last",
      HOST,
      "escape",
    ),
    mutant("commands keep the session keyring", "stage", "    joinSessionKeyring();\n", "", HOST, "escape"),
    mutant(
      "read-only binds are writable",
      "build",
      "(step.readonly ? MOUNT_ATTR_RDONLY : 0)",
      "0",
      WRITES,
      "paths",
    ),
    mutant("devices of binds work", "build", "(step.devices ? 0 : MOUNT_ATTR_NODEV)", "0", HOST, "escape"),
    mutant(
      "mounts below a bind keep their attributes",
      "building",
      "AT_EMPTY_PATH | AT_RECURSIVE, { set: attributes",
      "AT_EMPTY_PATH, { set: attributes",
      WRITES,
      "escape",
    ),
    mutant(
      "hidden places can be written",
      "build",
      "SAFE_ATTRIBUTES | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY);\n  building.attach(tree, mountpoint);",
      "SAFE_ATTRIBUTES | MOUNT_ATTR_NOEXEC);\n  building.attach(tree, mountpoint);",
      PLACES,
      "paths",
    ),
    mutant(
      "a source that is swapped with a link is followed",
      "building",
      "if (!exact) return",
      "if (exact || !exact) return",
      PLACES,
      "paths",
    ),
    mutant(
      "a target that is swapped with a link is followed",
      "target",
      "(exact ? RESOLVE_NO_SYMLINKS : 0)",
      "(exact ? 0 : 0)",
      PLACES,
      "paths",
    ),
    mutant(
      "/proc can be written by root",
      "proc",
      "if (!/^\\d+$/.test(name)) makeReadonly(proc.fd, name, building);",
      "void [name, makeReadonly];",
      WRITES,
      "escape",
    ),
    mutant(
      "a proc of the host stays visible",
      "build",
      "return coverHostProcs(building);",
      "return void coverHostProcs;",
      HOST,
      "escape",
    ),
    mutant(
      "/dev can be written",
      "dev",
      'mountSetattr(dev.fd, "", AT_EMPTY_PATH, { set: MOUNT_ATTR_RDONLY });',
      "",
      WRITES,
      "escape",
    ),
    mutant(
      "mounts below an overlay are missing",
      "overlay",
      "exact ? step.lower : []",
      "exact ? [] : step.lower",
      "An overlay shows what is mounted below, read-only.",
      "paths",
    ),
    mutant(
      "mounts below an overlay can be written",
      "overlay",
      "SAFE_ATTRIBUTES | MOUNT_ATTR_RDONLY",
      "SAFE_ATTRIBUTES",
      WRITES,
      "paths",
    ),
    mutant(
      "the least specific path counts",
      "compile",
      "depth(one) - depth(other)",
      "depth(other) - depth(one)",
      "The most specific path counts.",
      "paths",
    ),
    mutant("nothing is pinned", "compile", "    this.#pin();\n", "", PLACES, "paths"),
    mutant(
      "what does not exist is not held",
      "compile",
      "    this.#holdAbsent();\n",
      "",
      "What does not exist yet can't be made where it is protected.",
      "paths",
    ),
    mutant(
      "directories of another box are not locked",
      "compile",
      'kind: "lock", target, exact: true',
      'kind: "directory", target',
      "A box keeps the directory that another one has made and it relies on.",
      "paths",
    ),
    mutant(
      "directories are removed without their lock",
      "holds",
      '"$flock" --exclusive --nonblock "$path" "$rmdir"',
      '"$rmdir"',
      "A box keeps the directory that another one has made and it relies on.",
      "paths",
    ),
    mutant(
      "a lock is asked for a directory that was never made",
      "holds",
      '[ -d "$path" ] && ',
      "",
      "A box leaves nothing.",
      "start",
    ),
    mutant("sockets are not hidden", "compile", "    await this.#hideSockets();\n", "", HOST, "box"),
    mutant(
      "/run is the host's",
      "compile",
      'this.#set("/run", "default", [{ kind: "tmpfs", target: "/run" }]);',
      "",
      HOST,
      "box",
    ),
    mutant(
      "the whole environment is passed",
      "sandbox",
      "clearEnv ? [] : PASSED",
      "clearEnv ? PASSED : Object.keys(Deno.env.toObject())",
      NOTHING,
      "box",
    ),
    mutant("the network is shared", "unshare", 'network ? [] : ["--net"]', "[]", HOST, "box"),
    mutant("IPC is shared", "unshare", 'shareIpc ? [] : ["--ipc"]', "[]", HOST, "escape"),
    mutant(
      "a killed process leaves its directories",
      "start",
      "removed = new Holds(holds, stage.child.pid);",
      "removed = new Holds(holds.slice(holds.length), stage.child.pid);",
      "A box leaves nothing.",
      "start",
    ),
    mutant(
      "the box outlives its process",
      "stage",
      "if (bytes.length === 0) return;\n      const order",
      "if (bytes.length === 0) await new Promise((resolve) => setTimeout(resolve, 60_000));\n      const order",
      "A box ends with its process.",
      "start",
    ),
  ],
};
