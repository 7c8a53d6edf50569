/**
 * The options of bubblewrap: how many operands each has, and those that a box does not have.
 *
 * @module
 */

/** How an option is read. */
export interface OptionForm {
  /** The names of its operands, in capital letters. */
  readonly operands: readonly string[];
  /** What a `--perms` before it is for. */
  readonly takesMode?: true;
  /** What a `--size` before it is for. */
  readonly takesSize?: true;
  /** The number of `--overlay-src` that have to stand before it. */
  readonly layers?: number;
}

const SOURCE = { operands: ["SRC", "DEST"] };
const DEST = { operands: ["DEST"] };
const NONE = { operands: [] };
const FD = { operands: ["FD"] };
const FD_DEST = { operands: ["FD", "DEST"] };

const forms = {
  "--help": NONE,
  "--version": NONE,
  "--args": FD,
  "--argv0": { operands: ["VALUE"] },
  "--level-prefix": NONE,
  "--unshare-all": NONE,
  "--share-net": NONE,
  "--unshare-user": NONE,
  "--unshare-user-try": NONE,
  "--unshare-ipc": NONE,
  "--unshare-pid": NONE,
  "--unshare-net": NONE,
  "--unshare-uts": NONE,
  "--unshare-cgroup": NONE,
  "--unshare-cgroup-try": NONE,
  "--disable-userns": NONE,
  "--assert-userns-disabled": NONE,
  "--uid": { operands: ["UID"] },
  "--gid": { operands: ["GID"] },
  "--hostname": { operands: ["NAME"] },
  "--chdir": { operands: ["DIR"] },
  "--clearenv": NONE,
  "--setenv": { operands: ["VAR", "VALUE"] },
  "--unsetenv": { operands: ["VAR"] },
  "--lock-file": DEST,
  "--sync-fd": FD,
  "--bind": SOURCE,
  "--bind-try": SOURCE,
  "--dev-bind": SOURCE,
  "--dev-bind-try": SOURCE,
  "--ro-bind": SOURCE,
  "--ro-bind-try": SOURCE,
  "--bind-fd": FD_DEST,
  "--ro-bind-fd": FD_DEST,
  "--remount-ro": DEST,
  "--overlay-src": { operands: ["SRC"] },
  "--overlay": { operands: ["RWSRC", "WORKDIR", "DEST"], layers: 1 },
  "--tmp-overlay": { ...DEST, layers: 1 },
  "--ro-overlay": { ...DEST, layers: 2 },
  "--proc": DEST,
  "--dev": DEST,
  "--tmpfs": { ...DEST, takesMode: true, takesSize: true },
  "--mqueue": DEST,
  "--dir": { ...DEST, takesMode: true },
  "--file": { ...FD_DEST, takesMode: true },
  "--bind-data": { ...FD_DEST, takesMode: true },
  "--ro-bind-data": { ...FD_DEST, takesMode: true },
  "--symlink": SOURCE,
  "--chmod": { operands: ["OCTAL", "PATH"] },
  "--perms": { operands: ["OCTAL"] },
  "--size": { operands: ["BYTES"] },
  "--block-fd": FD,
  "--info-fd": FD,
  "--json-status-fd": FD,
  "--new-session": NONE,
  "--die-with-parent": NONE,
  "--cap-drop": { operands: ["CAP"] },
} satisfies Record<string, OptionForm>;

/** The name of an option that a box has. */
export type OptionName = keyof typeof forms;

/** The options that a box does not have, and why. */
export const REFUSED: ReadonlyMap<string, string> = new Map([
  ["--seccomp", "a box has no filter of system calls"],
  ["--add-seccomp-fd", "a box has no filter of system calls"],
  ["--exec-label", "a box sets no SELinux label"],
  ["--file-label", "a box sets no SELinux label"],
  ["--cap-add", "a command in a box has no capability, and can gain none"],
  [
    "--as-pid-1",
    "the first process of a box is the box's own, which ends with the process that has started it",
  ],
  ["--userns", "a box makes its own user namespace"],
  ["--userns2", "a box makes its own user namespace"],
  ["--userns-block-fd", "a box makes its own user namespace, with its id map"],
  ["--pidns", "a box makes its own PID namespace"],
]);

/**
 * Looks up an option.
 *
 * @param word the argument.
 * @returns its form; undefined for another word.
 */
export function formOf(word: string): OptionForm | undefined {
  return isOption(word) ? forms[word] : undefined;
}

/**
 * Whether an argument is an option that a box has.
 *
 * @param word the argument.
 * @returns true for the name of an option.
 */
export function isOption(word: string): word is OptionName {
  return Object.hasOwn(forms, word);
}
