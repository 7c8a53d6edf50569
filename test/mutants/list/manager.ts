/**
 * The mutants of linux/manager: what it makes of a list, what it records, and what it takes down again.
 *
 * @module
 */

import type { Mutant, MutantRoom } from "../mutant.ts";

const template = "linux/manager/template.ts";
const plan = "linux/manager/plan.ts";
const mkfsOptions = "linux/manager/mkfs_options.ts";
const mkdirOptions = "linux/manager/mkdir_options.ts";
const roots = "linux/manager/allowed_roots.ts";
const mkdir = "linux/manager/mkdir.ts";
const mkfs = "linux/manager/mkfs.ts";
const made = "linux/manager/made.ts";
const loop = "linux/manager/loop_handler.ts";
const erofs = "linux/manager/erofs_handler.ts";
const record = "linux/manager/record.ts";
const database = "linux/manager/database.ts";
const root = "linux/manager/root_directory.ts";
const activate = "linux/manager/activate.ts";
const together = "linux/manager/together.ts";
const undo = "linux/manager/undo.ts";
const sync = "linux/manager/sync.ts";
const local = "linux/manager/local.ts";
const managed = "linux/mount/managed.ts";

const TEMPLATE = ["test/manager/template_test.ts"];
const PLAN = ["test/manager/plan_test.ts"];
const ACTIVATE = ["test/manager/activate_test.ts"];
const TEMPORARY = ["test/manager/temporary_test.ts"];
const PATHS = ["test/manager/made_test.ts", "test/manager/race_test.ts"];
const CRASH = ["test/manager/crash_test.ts"];
const CONCURRENT = ["test/manager/concurrency_test.ts", "test/manager/race_test.ts"];
const RECORD = ["test/manager/record_test.ts"];
const REBOOT = ["test/manager/reboot_test.ts"];

const pure: Mutant[] = [
  {
    name: "an overlay of templates goes one way only",
    file: template,
    find: "const step = first > last ? -1 : 1;",
    replace: "const step = 1;",
    rule: "{{ overlay 2 0 }} lists the mounts from the third to the first.",
    tests: TEMPLATE,
  },
  {
    name: "a template names a mount that is not there",
    file: template,
    find: "if (number >= active.length) {",
    replace: "if (number > active.length) {",
    rule: "A template out of range is refused.",
    tests: TEMPLATE,
  },
  {
    name: "a template in the target stays",
    file: template,
    find: "{ target: fill(target, active) }",
    replace: "{ target }",
    rule: "Templates are filled in source, target and options.",
    tests: TEMPLATE,
  },
  {
    name: "a template without an end is text",
    file: template,
    find: 'throw broken(text, "it has no end")',
    replace: "return filled",
    rule: "A broken template is refused.",
    tests: TEMPLATE,
  },
  {
    name: "source and mountpoint are mixed up",
    file: template,
    find: "source: ({ source }: ActiveMount) => source,",
    replace: "source: ({ mountPoint }: ActiveMount) => mountPoint,",
    rule: "{{ source 0 }} is the source of the first mount.",
    tests: TEMPLATE,
  },
  {
    name: "what a handler makes is left to the caller",
    file: plan,
    find: "Math.max(lastModified, lastHandled + 1, 0)",
    replace: "Math.max(lastModified, lastHandled, 0)",
    rule: "A type with a handler is mounted by the manager.",
    tests: PLAN,
  },
  {
    name: "the last entry with a modifier is mounted by the manager",
    file: plan,
    find: "Math.max(lastModified, lastHandled + 1, 0)",
    replace: "Math.max(lastModified + 1, lastHandled + 1, 0)",
    rule: "The caller mounts the last entry with a modifier.",
    tests: PLAN,
  },
  {
    name: "a type that the caller mounts itself is handled",
    file: plan,
    find: "if (allowed.includes(mount.type)) return left;",
    replace: "",
    rule: "allowMountTypes leaves a type to the caller.",
    tests: PLAN,
  },
  {
    name: "an unknown modifier is passed over",
    file: plan,
    find: "if (!isModifier(word)) {",
    replace: "if (word.length > 99) {",
    rule: "An unknown modifier is refused by name.",
    tests: PLAN,
  },
  {
    name: "modifiers are carried out from right to left",
    file: plan,
    find: "modifiers.push(word);",
    replace: "modifiers.unshift(word);",
    rule: "Modifiers count from left to right.",
    tests: [...PLAN, ...ACTIVATE],
  },
  {
    name: "the list of the caller is changed",
    file: plan,
    find: "{ options: [...options] }",
    replace: "{ options }",
    rule: "A list is not changed.",
    equivalent: "no later step writes to the options: each makes a new list",
    tests: PLAN,
  },
  {
    name: "a size is in powers of 1000",
    file: mkfsOptions,
    find: "1024 ** (",
    replace: "1000 ** (",
    rule: "A size has containerd's units.",
    tests: ACTIVATE,
  },
  {
    name: "an option of mkfs that is not known is passed over",
    file: mkfsOptions,
    find: 'if (!["size", "fs", "uuid"].includes(key)) throw',
    replace: 'if (key === "") throw',
    rule: "A word is carried out or refused by name.",
    tests: PLAN,
  },
  {
    name: "mkfs makes ext4 whatever the type is",
    file: mkfsOptions,
    find: 'isMkfsType(mount.type) ? mount.type : "ext4"',
    replace: '"ext4"',
    rule: "mkfs/xfs makes an xfs.",
    tests: ACTIVATE,
  },
  {
    name: "the mode of a directory is decimal",
    file: mkdirOptions,
    find: "parseInt(mode, 8)",
    replace: "parseInt(mode, 10)",
    rule: "A mode is octal.",
    tests: ACTIVATE,
  },
];

const making: Mutant[] = [
  {
    name: "a symbolic link leads out of the root",
    file: roots,
    find: "RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS",
    replace: "RESOLVE_NO_MAGICLINKS",
    rule: "mkfs and mkdir make nothing outside of the allowed roots.",
    tests: PATHS,
  },
  {
    name: "a path in no root is made",
    file: roots,
    find: "if (found !== undefined) return found;",
    replace: 'if (found !== undefined || path !== "") return found ?? "/";',
    rule: "mkfs and mkdir make nothing outside of the allowed roots.",
    tests: PATHS,
  },
  {
    name: "a sibling whose name begins like a root is in it",
    file: roots,
    find: 'root === "/" ? root : `${root}/`',
    replace: "root",
    rule: "mkfs and mkdir make nothing outside of the allowed roots.",
    tests: PATHS,
  },
  {
    name: "a link in place of the image is followed",
    file: roots,
    find: "AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC",
    replace: "AT_STATX_DONT_SYNC",
    rule: "A symbolic link in place of an image or directory is refused.",
    tests: PATHS,
  },
  {
    name: "a file in place of the directory counts",
    file: mkdir,
    find: "if ((found.mode & S_IFMT) !== S_IFDIR) {",
    replace: "if ((found.mode & S_IFMT) === 0) {",
    rule: "A file in place of a directory is refused.",
    tests: [...PATHS, ...ACTIVATE],
  },
  {
    name: "an existing directory may have any mode",
    file: mkdir,
    find: "if (mode !== undefined && has !== mode) {",
    replace: "if (mode !== undefined && has === 0) {",
    rule: "A directory with another mode than asked for is refused.",
    tests: [...PATHS, ...ACTIVATE],
  },
  {
    name: "the umask counts for a directory's mode",
    file: mkdir,
    find: "chmod(procFdPath(directory), mode); // the",
    replace: "// the",
    rule: "A directory has the mode that is asked for.",
    tests: ACTIVATE,
  },
  {
    name: "the owner of a directory is not set",
    file: mkdir,
    find: "if (uid !== undefined && gid !== undefined) fchownat",
    replace: "if (uid === -1 && gid === -1) fchownat",
    rule: "A directory has the owner that is asked for.",
    tests: ACTIVATE,
  },
  {
    name: "an existing image is made again",
    file: mkfs,
    find: "if (exists(place)) return;",
    replace: "exists(place);",
    rule: "mkfs is never made over an existing file.",
    equivalent: "link(2) does not replace it either: the new image is thrown away, and only time is lost",
    tests: ACTIVATE,
  },
  {
    name: "a failed mkfs is not noticed",
    file: mkfs,
    find: "if ((code ?? 0) === 0 && hasMagic(file, magic)) return;",
    replace: "if (code !== undefined || hasMagic(file, magic)) return;",
    rule: "An image is complete before it has its name.",
    tests: ACTIVATE,
  },
  {
    name: "the unfinished image stays",
    file: mkfs,
    find: "unlink(pathOf(temporary));",
    replace: "",
    rule: "After a failure no file is left.",
    tests: ACTIVATE,
  },
  {
    name: "an abort doesn't end mkfs",
    file: mkfs,
    find: "    timeout: Infinity,\n    signal,",
    replace: "    timeout: Infinity,",
    rule: "An activation is cancelled by its signal.",
    tests: [...ACTIVATE, ...PATHS],
  },
  {
    name: "an image that is another one by now is removed",
    file: made,
    find: "(made.file === undefined || made.file === fileId(stat))",
    replace: "true",
    rule: "Only its own files are removed.",
    tests: [...PATHS, ...ACTIVATE],
  },
  {
    name: "an image that another activation uses is removed",
    file: record,
    find: 'if (Number(others?.["n"]) === 0) unlink();',
    replace: "unlink();",
    rule: "An image that another activation uses stays.",
    tests: [...PATHS, ...ACTIVATE],
  },
];

const handlers: Mutant[] = [
  {
    name: "a loop device stays after deactivate()",
    file: loop,
    find: "device.setAutoclear(true);",
    replace: "{}",
    rule: "A loop device is detached with its activation.",
    tests: ACTIVATE,
  },
  {
    name: "a loop device goes with the process",
    file: loop,
    find: "device.setAutoclear(false);\n",
    replace: "\n",
    rule: "A loop device stays until it is deactivated.",
    tests: ACTIVATE,
  },
  {
    name: "a read-only loop device is writable",
    file: loop,
    find: '=== "ro" };',
    replace: '=== "never" };',
    rule: "ro makes the loop device read-only.",
    tests: ACTIVATE,
  },
  {
    name: "a device that has another file by now is detached",
    file: loop,
    find: "if (await rangeOn(opened, file)) device",
    replace: "device",
    rule: "A loop device of another file is left alone.",
    tests: [...ACTIVATE, ...REBOOT],
  },
  {
    name: "the devices of an erofs are not attached",
    file: erofs,
    find: "path === undefined ? option : `${DEVICE}${await attach(path)}`",
    replace: "option",
    rule: "All devices of an erofs go through loop devices where the kernel wants it.",
    tests: ACTIVATE,
  },
  {
    name: "any EINVAL leads to a loop device",
    file: erofs,
    find: "MOUNT_CALLS.includes(error.cause.syscall);",
    replace: "MOUNT_CALLS.length > 0;",
    rule: "Only where the kernel wants block devices, an erofs gets loop devices.",
    tests: CRASH,
  },
  {
    name: "no loop device where the kernel asks for block devices",
    file: erofs,
    find: "if (!asksForBlockDevice(error)) throw error;",
    replace: "throw error;",
    rule: "Where the kernel wants block devices, an erofs gets loop devices.",
    tests: ACTIVATE,
  },
];

const steps: Mutant[] = [
  {
    name: "a newer record is taken",
    file: database,
    find: "if (version > this.#format.version) {",
    replace: "if (version < 0) {",
    rule: "A record of a newer version is refused.",
    tests: RECORD,
  },
  {
    name: "another program's database is taken",
    file: database,
    find: "if (application !== this.#format.application && (tables > 0 || version !== 0)) {",
    replace: "if (application !== this.#format.application && version < 0) {",
    rule: "Another program's database is refused.",
    tests: RECORD,
  },
  {
    name: "a record is looked at in several transactions",
    file: database,
    find: "await record.read(() => record.#refuseForeign(), signal);",
    replace: "await record.#retrying(() => record.#refuseForeign(), signal);",
    rule: "A record that another process makes just now is no other program's.",
    tests: ["test/manager/concurrency_test.ts"],
  },
  {
    name: "a busy record is an error",
    file: database,
    find: "if (!isLocked(error) || performance.now()",
    replace: "if (isLocked(error) || performance.now()",
    rule: "Two processes on one record are fine.",
    tests: CONCURRENT,
  },
  {
    name: "of two activations of a name, the later one wins",
    file: record,
    find: 'if (existing !== undefined && existing.state !== "lost") return { existing };',
    replace: "",
    rule: "Of two activations of a name one wins, and the other gets AlreadyExistsError.",
    tests: [...ACTIVATE, ...CONCURRENT],
  },
  {
    name: "the labels are not kept",
    file: record,
    find: "JSON.stringify(labels),\n    ) ?? {};",
    replace: '"{}",\n    ) ?? {};',
    rule: "Labels are recorded.",
    tests: ACTIVATE,
  },
  {
    name: "a failed activation stays half made",
    file: activate,
    find: "if (row?.id === id) await undo(",
    replace: "if (row?.id === -1) await undo(",
    rule: "An activation is all or nothing.",
    tests: ACTIVATE,
  },
  {
    name: "a failed activation keeps its directory",
    file: activate,
    find: "  } catch (error) {\n    rmdir(directory);\n",
    replace: "  } catch (error) {\n",
    rule: "After a failure no directory is left.",
    tests: [...ACTIVATE, ...CONCURRENT],
  },
  {
    name: "the caller gets nothing if a handler has mounted everything",
    file: activate,
    find: "if (system.length === 0) system.push",
    replace: "if (system.length < 0) system.push",
    rule: "The caller always gets something to mount.",
    tests: ACTIVATE,
  },
  {
    name: "a file is bound on a directory",
    file: activate,
    find: "if (mount !== undefined && await isFileBind(mount, wait)) {",
    replace: "if (mount === undefined && false) {",
    rule: "The bind of a file has a file as its mountpoint.",
    tests: [...ACTIVATE],
  },
  {
    name: "what a living process is activating is undone",
    file: undo,
    find: 'if (!isLocked && lock === undefined) return "busy";',
    replace: "",
    rule: "What another process is working on is left alone.",
    tests: CONCURRENT,
  },
  {
    name: "the images of a failed activation stay",
    file: undo,
    find: 'if (now.state === "activating") await removeAllMade(manager, now);',
    replace: "",
    rule: "After a failure no file is left.",
    tests: [...ACTIVATE, ...CRASH],
  },
  {
    name: "deactivate() removes the images",
    file: undo,
    find: 'if (now.state === "activating") await removeAllMade(manager, now);',
    replace: "await removeAllMade(manager, now);",
    rule: "Deactivating keeps the data.",
    tests: REBOOT,
  },
  {
    name: "a directory inside a mount is removed",
    file: undo,
    find: "  if (isOwn) removePlace(mountPoint);",
    replace: "  removePlace(mountPoint);",
    rule: "What is inside a mount is the user's data.",
    tests: TEMPORARY,
  },
  {
    name: "a mount that another process has made on or below one stays",
    file: undo,
    find: "mountPoint, options) && tryRemovePlace(mountPoint)) return;",
    replace: "mountPoint, options)) return;",
    rule: "All that is mounted on a mountpoint is unmounted with the activation.",
    tests: ACTIVATE,
  },
  {
    name: "a deactivation is not written down",
    file: record,
    find: 'if (isReady(now)) this.#setState(id, "deactivating");',
    replace: "",
    rule: "A deactivation that a crash has cut short is completed.",
    tests: CRASH,
  },
  {
    name: "what a handler has written down is not recorded before the end",
    file: activate,
    find: "if (handler === undefined || mountsImage(this.manager, type)) this",
    replace: "if (handler !== undefined || mounted !== undefined) this",
    rule: "A handler gets what it has written down, also after a crash.",
    tests: ACTIVATE,
  },
  {
    name: "a failed activation does not wait for its other images",
    file: together,
    find: "await Promise.allSettled(next.map(work))",
    replace: 'await Promise.all(next.map(async (s) => (await work(s), { status: "fulfilled", reason: 0 })))',
    rule: "An activation is all or nothing.",
    tests: ACTIVATE,
  },
  {
    name: "what is unmounted beside a busy image is not forgotten",
    file: undo,
    find: "done.push(mount.position);",
    replace: "",
    rule: "After a failed deactivate() the record says what is still mounted.",
    tests: ACTIVATE,
  },
  {
    name: "an entry does not wait for those before it",
    file: activate,
    find: "return modifiers.length === 0 && mounts",
    replace: "return modifiers.length >= 0 || mounts",
    rule: "An entry is mounted after those before it.",
    tests: ACTIVATE,
  },
  {
    name: "the mounts are taken down from the first",
    file: undo,
    find: "await inOrder(row.mounts.toReversed(), isImage",
    replace: "await inOrder(row.mounts, isImage",
    rule: "The last mount is unmounted first.",
    tests: [...ACTIVATE, ...TEMPORARY],
  },
  {
    name: "a busy mount forgets the activation",
    file: undo,
    find: 'if (row.state === "active") await manager.record.setState(row.id, "active");\n    throw error;',
    replace: 'if (row.state === "active") await manager.record.setState(row.id, "active");',
    rule: "If a mount is busy, deactivate() throws and another call goes on.",
    tests: ACTIVATE,
  },
  {
    name: "an activation of another namespace is deactivated here",
    file: undo,
    find: "if (isElsewhere(manager, now)) {",
    replace: "if (manager === undefined) {",
    rule: "An activation of another mount namespace is refused by name.",
    tests: REBOOT,
  },
  {
    name: "an activation is lost although it is mounted",
    file: sync,
    find: "if (!isHere(manager, row)) return false;",
    replace: "return false;",
    rule: "sync() finds those whose mounts are gone, and no others.",
    tests: [...REBOOT, ...ACTIVATE],
  },
  {
    name: "a mount that another process has unmounted is not missed",
    file: sync,
    find: "if (!await isMounted(manager, mount)) return false;",
    replace: "if (mount === undefined) return false;",
    rule: "sync() finds the activations whose mounts are gone.",
    tests: REBOOT,
  },
  {
    name: "a directory that a crash has left stays",
    file: sync,
    find: "    removeDirectoryOf({ directory });",
    replace: "",
    rule: "Nothing is left by a crash.",
    tests: REBOOT,
  },
  {
    name: "a root that others can write to is taken",
    file: root,
    find: "if (uid !== geteuid() || (mode & 0o022) !== 0) {",
    replace: "if (uid !== geteuid()) {",
    rule: "Other users can't replace what is mounted in the root directory.",
    tests: RECORD,
  },
  {
    name: "an activation that is just being made is listed",
    file: local,
    find: 'if (row.state === "activating") continue;',
    replace: "",
    rule: "list() leaves out what is just being made.",
    tests: [...ACTIVATE, ...CONCURRENT],
  },
  {
    name: "a label is not looked at",
    file: local,
    find: "every(([key, value]) => row.labels[key] === value)",
    replace: "every(([key]) => row.labels[key] !== undefined)",
    rule: "list() filters by the labels' values.",
    tests: ACTIVATE,
  },
  {
    name: "the handle of a managed list doesn't deactivate",
    file: managed,
    find: "await this.manager.deactivate(this.name, options);",
    replace: "",
    rule: "The handle of mountAll() with a manager takes the activation down too.",
    tests: ACTIVATE,
  },
  {
    name: "a list whose mounting fails stays activated",
    file: managed,
    find: "    await manager.deactivate(name);\n    throw error;",
    replace: "    throw error;",
    rule: "mountAll() with a manager is all or nothing.",
    tests: ACTIVATE,
  },
];

/** linux/manager, and its use by linux/mount. */
export const manager: MutantRoom = {
  room: "linux/manager",
  mutants: [...pure, ...making, ...handlers, ...steps],
};
