/**
 * The mutants of linux/sandbox/bwrap and of the terminal of a box.
 *
 * @module
 */

import type { Mutant, MutantRoom } from "../mutant.ts";

function mutant(
  name: string,
  file: string,
  find: string,
  replace: string,
  rule: string,
  ...tests: string[]
): Mutant {
  return { name, file, find, replace, rule, tests: tests.map((test) => `test/${test}_test.ts`) };
}

const bwrap = (file: string) => `linux/sandbox/bwrap/${file}.ts`;
const WORD = "A word of bubblewrap does what it says, or is refused by name.";
const ORDER = "bubblewrap's words are carried out in their order.";
const TERMINAL = "A command on a terminal has one of the box's own.";

/** linux/sandbox/bwrap. */
export const sandboxBwrap: MutantRoom = {
  room: "linux/sandbox/bwrap",
  mutants: [
    mutant(
      "what the box has made is a change",
      "linux/sandbox/box.ts",
      "if (!own.has(change.path)) yield",
      "yield",
      "Nothing that the box has made is a change.",
      "sandbox/box_changes",
    ),
    mutant(
      "--ro-bind is writable",
      bwrap("steps"),
      'name.startsWith("--ro-")',
      "false",
      WORD,
      "sandbox/bwrap",
    ),
    mutant("--bind-fd takes any file", bwrap("steps"), "file: fileId({ fd }), ", "", WORD, "sandbox/bwrap"),
    mutant(
      "layers are stacked the other way",
      bwrap("steps"),
      "layers.map(hostPath).reverse()",
      "layers.map(hostPath)",
      ORDER,
      "sandbox/bwrap",
    ),
    mutant(
      "--share-net counts wherever it stands",
      bwrap("from_args"),
      "read.findLast(({ name })",
      "read.find(({ name })",
      ORDER,
      "sandbox/bwrap_peers",
    ),
    mutant(
      "--unsetenv is dropped",
      bwrap("from_args"),
      'else if (name === "--unsetenv") delete changed[variable];',
      "",
      WORD,
      "sandbox/bwrap",
    ),
    mutant(
      "--clearenv keeps what was set before",
      bwrap("from_args"),
      'if (name === "--clearenv") changed = {};',
      'if (name === "--clearenv");',
      ORDER,
      "sandbox/bwrap",
    ),
    mutant(
      "--seccomp is dropped",
      bwrap("options"),
      '["--seccomp", "a box has no filter of system calls"],\n',
      "",
      WORD,
      "sandbox/bwrap",
    ),
    mutant(
      "--perms may be for nothing",
      bwrap("read"),
      "if (this.#mode !== undefined && !takesMode)",
      "if (false)",
      WORD,
      "sandbox/bwrap",
    ),
    mutant("--size may be too large", bwrap("read"), "size > MAX_SIZE", "false", WORD, "sandbox/bwrap"),
    mutant(
      "-- is an option like others",
      bwrap("read"),
      'if (word === "--") return argv.slice(at + 1);',
      'if (word === "--") { at++; continue; }',
      WORD,
      "sandbox/bwrap",
    ),
    mutant(
      "a directory that exists gets the mode",
      "linux/sandbox/build.ts",
      "return root.make(step.target, true, false, modesOf(step.mode)).close();",
      "{ using made = root.make(step.target, true, false, modesOf(step.mode)); return chmod(fdPath(made), step.mode ?? 0o755); }",
      WORD,
      "sandbox/bwrap",
    ),
    mutant(
      "the umask counts for what is made",
      "linux/sandbox/build.ts",
      "Deno.umask(0);",
      "Deno.umask();",
      WORD,
      "sandbox/bwrap",
    ),
    mutant(
      "the command has the umask of the steps",
      "linux/sandbox/build.ts",
      "  Deno.umask(umask);\n",
      "",
      WORD,
      "sandbox/bwrap",
    ),
    mutant(
      "the own descriptors of the runtime are taken",
      bwrap("passed_fd"),
      "return !isInherited || !isOwn;",
      "return true;",
      WORD,
      "cli/box",
    ),
    mutant(
      "--json-status-fd has no exit status",
      bwrap("plan"),
      "child.status.then(report)",
      "child.status",
      WORD,
      "cli/box",
    ),
    mutant("--block-fd does not wait", bwrap("plan"), "      await blockFd?.wait();\n", "", WORD, "cli/box"),
    mutant(
      "--die-with-parent is dropped",
      "cli/bwrap.ts",
      "if (plan.diesWithParent) setParentDeathSignal(SIGKILL);",
      "",
      WORD,
      "cli/box",
    ),
    mutant(
      "the terminal is no controlling one",
      "linux/syscalls/spawn.ts",
      "cString(stdio), O_RDWR, 0)",
      "cString(stdio), O_RDWR | 0o400, 0)",
      TERMINAL,
      "cli/box",
    ),
    mutant("output is processed twice", "cli/in_box.ts", "& ~OPOST", "", TERMINAL, "cli/box"),
    mutant(
      "try changes this machine",
      "cli/try.ts",
      "overlay });",
      "writable: overlay });",
      "Nothing is applied to this machine's files.",
      "cli/box",
    ),
    mutant(
      "what is kept may be overwritten",
      "cli/try.ts",
      "if (keep !== undefined && !isEmptyOrMissing(keep))",
      "if (false)",
      "Nothing is applied to this machine's files.",
      "cli/box",
    ),
  ],
};
