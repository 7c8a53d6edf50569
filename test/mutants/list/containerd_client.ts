/**
 * The mutants of containerd's client, and of the command with `--containerd`.
 *
 * @module
 */

import type { Mutant, MutantRoom } from "../mutant.ts";

const errors = "containerd/errors.ts";
const mountSnapshot = "containerd/mount_snapshot.ts";
const client = "containerd/containerd.ts";
const command = "cli/containerd.ts";
const options = "cli/containerd_options.ts";

const ANSWERS = ["test/containerd/answers_test.ts"];
const SNAPSHOT = ["test/containerd/mount_snapshot_test.ts"];
const COMMAND = ["test/cli/containerd_test.ts"];

const answers: Mutant[] = [
  {
    name: "an error of a call is of its class only",
    file: errors,
    find: 'return typeof value === "object" && value !== null && failures.has(value);',
    replace: "return Function.prototype[Symbol.hasInstance].call(this, value);",
    rule: "Every error of a call is a ContainerdError, also one that inherits from an error of a manager.",
    tests: ANSWERS,
  },
  {
    name: "each error is of each class",
    file: errors,
    find: "if (this !== ContainerdError) return",
    replace: "if (this === undefined) return",
    rule: "An error is an instance of its own class alone.",
    tests: ANSWERS,
  },
  {
    name: "containerd is blamed for its plugin",
    file: errors,
    find: "code === status.UNAVAILABLE && !isAnswer(error) || isBroken(error)",
    replace: "code === status.UNAVAILABLE || isBroken(error)",
    rule: "A plugin that is not available is no advice to start containerd.",
    tests: ANSWERS,
  },
  {
    name: "every late answer is containerd's silence",
    file: errors,
    find: "const isLate = code === status.DEADLINE_EXCEEDED && !isAnswer(error);",
    replace: "const isLate = code === status.DEADLINE_EXCEEDED;",
    rule: "An answer keeps containerd's words.",
    tests: ANSWERS,
  },
  {
    name: "an unavailable plugin has no class",
    file: errors,
    find: "  [status.UNAVAILABLE, UnavailableError],\n",
    replace: "",
    rule: "Each status is an error of its class.",
    tests: ANSWERS,
  },
  {
    name: "a list goes on after its signal",
    file: "containerd/snapshots.ts",
    find: "        options.signal?.throwIfAborted();\n",
    replace: "",
    rule: "A signal ends a list at once, also in the middle of an answer.",
    tests: ANSWERS,
  },
  {
    name: "snapshotters that can't be used are listed",
    file: client,
    find: "plugins.filter(({ initErr }) => initErr === undefined)",
    replace: "plugins.filter(({ initErr }) => initErr !== undefined)",
    rule: "snapshotters() names those that can be used.",
    tests: ANSWERS,
  },
  {
    name: "other plugins are snapshotters",
    file: client,
    find: '["type==io.containerd.snapshotter.v1"]',
    replace: "[]",
    rule: "snapshotters() names no other plugins.",
    tests: ANSWERS,
  },
  {
    name: "the time for a busy mount is the time of the call",
    file: mountSnapshot,
    find: "manager instanceof MountsClient ? { signal } : options",
    replace: "manager instanceof MountsClient ? { signal, timeout: options.timeout } : options",
    rule: "unmount({ timeout: 0 }) deactivates a snapshot that is not busy.",
    tests: SNAPSHOT,
  },
  {
    name: "a snapshot's activation has a name of its own",
    file: mountSnapshot,
    find: "await manager.activate(name ?? given, mounts",
    replace: "await manager.activate(given, mounts",
    rule: "mountSnapshot() activates under the name that it is given.",
    tests: COMMAND,
  },
];

const listing: Mutant[] = [
  {
    name: "an empty variable is a value",
    file: command,
    find: "return variable(`CONTAINERD_${name}`) || undefined;",
    replace: "return variable(`CONTAINERD_${name}`);",
    rule: "An empty CONTAINERD_NAMESPACE is none.",
    tests: COMMAND,
  },
  {
    name: "a wrong namespace is empty",
    file: command,
    find: "if (namespaces.includes(wanted)) return [wanted];",
    replace: 'if (wanted !== "") return [wanted];',
    rule: "ls names the namespaces if there is none of that name.",
    tests: COMMAND,
  },
  {
    name: "the variable of the namespace is ignored",
    file: command,
    find: '{ namespace: wanted = fromEnvironment("NAMESPACE") }: ContainerdFlags,',
    replace: "{ namespace: wanted }: ContainerdFlags,",
    rule: "CONTAINERD_NAMESPACE stands for --namespace.",
    tests: COMMAND,
  },
  {
    name: "a snapshotter that fails is no error",
    file: command,
    find: "return failures.length === 0 ? 0 : 1;",
    replace: "return 0;",
    rule: "ls exits with 1 if it can't read everything.",
    tests: COMMAND,
  },
  {
    name: "one failure ends ls",
    file: command,
    find: "    failures.push(error);\n",
    replace: "    throw error;\n",
    rule: "ls prints what it can read.",
    tests: COMMAND,
  },
  {
    name: "a containerd without a mount manager can't be read",
    file: command,
    find:
      "    if (error instanceof UnimplementedError) return undefined;\n    throw error;\n  }\n}\n\nconst usageCells",
    replace: "    throw error;\n  }\n}\n\nconst usageCells",
    rule: "ls reads a containerd before 2.2.",
    tests: ["test/examples/containerd_test.ts"],
  },
  {
    name: "a snapshot is below one of another snapshotter",
    file: command,
    find: "[namespace, snapshotter, name].join",
    replace: "[namespace, name].join",
    rule: "The tree keeps snapshotters apart.",
    tests: COMMAND,
  },
  {
    name: "names are printed raw",
    file: command,
    find: "bold(escapeControl(`${snapshotter}/${name}`))",
    replace: "bold(`${snapshotter}/${name}`)",
    rule: "What containerd says is printed without control characters.",
    tests: COMMAND,
  },
];

const mounting: Mutant[] = [
  {
    name: "up locks nothing",
    file: command,
    find: "    stack.use(await lock(name, target, root));\n",
    replace: "",
    rule: "While up waits for containerd, no other up mounts on its target.",
    tests: COMMAND,
  },
  {
    name: "down locks nothing",
    file: command,
    find: "    using _lock = await lock(name, target, root);\n",
    replace: "",
    rule: "While up waits for containerd, no down takes away what it has activated.",
    tests: COMMAND,
  },
  {
    name: "up does not look for an activation",
    file: command,
    find: "    await removeUnmounted(containerd.mounts, name, target);\n",
    replace: "",
    rule: "up replaces the activation that a crash has left.",
    tests: COMMAND,
  },
  {
    name: "down takes off another snapshot",
    file: command,
    find: "if (mounted !== key) {",
    replace: "if (mounted === undefined) {",
    rule: "down unmounts the snapshot that it is given, and no other.",
    tests: COMMAND,
  },
  {
    name: "down keeps the activation",
    file: command,
    find: "    await deactivateFound(manager, name);\n",
    replace: "",
    rule: "down deactivates what up has activated.",
    tests: COMMAND,
  },
  {
    name: "an activation that went meanwhile is an error",
    file: "cli/managed_list.ts",
    find: "    if (!(error instanceof NotFoundError)) throw error;\n",
    replace: "    throw error;\n",
    rule: "The garbage collector may remove an activation between its lookup and its deactivation.",
    tests: COMMAND,
  },
  {
    name: "down of a snapshot that is gone looks no further",
    file: command,
    find: "    if (error instanceof NotFoundError) return error;\n    throw error;",
    replace: "    throw error;",
    rule: "down removes the activation of a snapshot that is gone.",
    tests: COMMAND,
  },
  {
    name: "down leaves a foreign mount without a word",
    file: command,
    find: "if (await hasMounts(mounts, target)) {",
    replace: 'if (target === "") {',
    rule: "down says that a target is mounted in another way.",
    tests: COMMAND,
  },
  {
    name: "--address is ignored without --containerd",
    file: options,
    find: "if (address !== undefined) command.error(",
    replace: 'if (address === "") command.error(',
    rule: "--address is for --containerd.",
    tests: COMMAND,
  },
  {
    name: "--containerd ignores options of mounts",
    file: options,
    find: ".conflicts(conflicts)",
    replace: "",
    rule: "An option that --containerd does not use is refused.",
    tests: COMMAND,
  },
  {
    name: "every ls loads gRPC",
    file: "cli/program.ts",
    find: "import { addContainerdOptions,",
    replace: 'import "./containerd.ts";\nimport { addContainerdOptions,',
    rule: "Only --containerd loads gRPC.",
    tests: COMMAND,
  },
  {
    name: "a key ends at its slash",
    file: "cli/arguments.ts",
    find: "/^([^/]+)\\/(.+)$/s.exec(text)",
    replace: "/^([^/]+)\\/([^/]+)/s.exec(text)",
    rule: "A key may have slashes.",
    tests: COMMAND,
  },
];

/** The room. */
export const containerdClient: MutantRoom = {
  room: "containerd's client",
  mutants: [...answers, ...listing, ...mounting],
};
