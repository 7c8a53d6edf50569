/**
 * The mutants of linux/temp: whose directories a clean-up removes, and what it follows.
 *
 * @module
 */

import type { MutantRoom } from "../mutant.ts";

const file = "linux/temp/temp_directory.ts";
const locked = "linux/temp/locked_directory.ts";
const tests = ["test/temp/temp_test.ts"];

/** linux/temp. */
export const temp: MutantRoom = {
  room: "linux/temp",
  mutants: [
    {
      name: "a longer name counts as a temporary directory",
      file,
      find: "[A-Za-z0-9]{6}$/;",
      replace: "[A-Za-z0-9]{6,}$/;",
      rule: "A clean-up touches only directories with a name that mkdtemp(3) makes.",
      tests,
    },
    {
      name: "directories are not locked",
      file: locked,
      find: "flock(lock.fd, LOCK_EX | LOCK_NB);",
      replace: "",
      rule: "A clean-up never touches what a living process uses.",
      tests,
    },
    {
      name: "directories of other users are cleaned up",
      file,
      find: 'if (statx(lock.fd, "", AT_EMPTY_PATH, STATX_UID).uid !== geteuid()) return;',
      replace: "",
      rule: "Another user decides what a link in their directory leads to.",
      tests,
    },
    {
      name: "a link in place of a directory is followed",
      file: locked,
      find: "O_RDONLY | O_DIRECTORY | O_NOFOLLOW",
      replace: "O_RDONLY | O_DIRECTORY",
      rule: "A directory that is replaced by a link is not followed.",
      tests,
    },
    {
      name: "clean-up follows a link in place of the mountpoint",
      file,
      find: "{ noFollow: true, ...options }",
      replace: "options",
      rule: "A link in place of the mountpoint leads to a mount that is none of the library's.",
      tests,
    },
    {
      name: "a directory without its mountpoint is an error",
      file,
      find: 'if (!isErrno(error, "ENOENT")) throw error; // another',
      replace: "throw error; // another",
      rule: "A process may be killed before it has created the mountpoint.",
      tests,
    },
    {
      name: "the first error ends the clean-up",
      file,
      find: "errors.push(error instanceof Error ? error : new Error(String(error)));",
      replace: "errors.push(error instanceof Error ? error : new Error(String(error)));\n      break;",
      rule: "A directory that can't be removed keeps no other.",
      tests,
    },
    {
      name: "a directory that another clean-up has removed is an error",
      file: locked,
      find: 'isErrno(error, "EAGAIN", "ENOENT", "ENOTDIR", "ELOOP")',
      replace: 'isErrno(error, "EAGAIN", "ENOTDIR", "ELOOP")',
      rule: "Two clean-ups at the same time are no error.",
      tests,
    },
    {
      name: "the lock of a directory whose mountpoint can't be made leaks",
      file: locked,
      find: "using stack = new DisposableStack();\n      const lock = stack.use(tryLock(",
      replace: "const stack = new DisposableStack();\n      const lock = stack.use(tryLock(",
      rule: "A failed call leaves no descriptor.",
      tests: ["test/faults/faults_test.ts"],
    },
    {
      name: "a directory that can't be locked stays",
      file: locked,
      find: "      rmdir(directory);\n      throw error;",
      replace: "      throw error;",
      rule: "A failed call leaves no directory.",
      tests: ["test/faults/faults_test.ts"],
    },
    {
      name: "the lock of a failed open leaks",
      file: locked,
      find: "using stack = new DisposableStack();\n    const lock = stack.use(open(",
      replace: "const stack = new DisposableStack();\n    const lock = stack.use(open(",
      rule: "A clean-up leaves no descriptor of a directory that is in use.",
      tests,
    },
    {
      name: "an abandoned directory stays locked",
      file,
      find: "this.#abandoned = true;\n    this.#lock.close();",
      replace: "this.#abandoned = true;",
      rule: "The next clean-up unmounts an abandoned mount.",
      tests: [...tests, "test/idmap/mapped_layers_test.ts"],
    },
    {
      name: "an abandoned directory is removed",
      file,
      find: "if (this.#abandoned) return;",
      replace: "",
      rule: "An abandoned directory has a mount on it: it is left to the clean-up.",
      tests,
    },
    {
      name: "a mountpoint with files is an error",
      file,
      find: 'isErrno(error, "EBUSY", "ENOTEMPTY")',
      replace: 'isErrno(error, "EBUSY")',
      rule: "A mountpoint with something in it is no error: the caller decides.",
      tests,
    },
    {
      name: "a relative location follows the working directory",
      file,
      find: "location = await canonicalizePath(directory, wait);",
      replace: "location = directory;",
      rule: "The temporary location is where it was when it was set.",
      tests,
    },
    {
      name: "a new location is open to everyone",
      file,
      find: "{ recursive: true, mode: 0o700 }",
      replace: "{ recursive: true }",
      rule: "Other users see no temporary mounts in a location that the library makes.",
      tests,
    },
    {
      name: "a location that is no text is taken",
      file,
      find: "if (!directory.isWellFormed()) throw",
      replace: "if (false) throw",
      rule: "A name that is not valid UTF-8 would become another name.",
      tests,
    },
    {
      name: "a relative TMPDIR is used",
      file,
      find: 'return directory?.startsWith("/") ? directory : "/tmp";',
      replace: 'return directory ?? "/tmp";',
      rule: "A relative TMPDIR depends on the working directory: /tmp is used.",
      tests,
    },
    {
      name: "TMPDIR is ignored",
      file,
      find: 'return directory?.startsWith("/") ? directory : "/tmp";',
      replace: 'return "/tmp";',
      rule: "Temporary mounts are made in TMPDIR.",
      tests,
    },
    {
      name: "a location on a dead server is made at once",
      file,
      find: "await ensureAnswers(directory, wait); // Deno",
      replace: "// Deno",
      rule: "A dead server blocks no call for longer than its timeout.",
      tests: ["test/path/stopped_server_test.ts"],
    },
    {
      name: "a clean-up of a location on a dead server waits",
      file,
      find: "await ensureTempLocation(options);",
      replace: "",
      rule: "A dead server blocks no call for longer than its timeout.",
      tests: ["test/path/stopped_server_test.ts"],
    },
  ],
};
