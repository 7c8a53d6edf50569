/**
 * The tests that run in a guest.
 *
 * @module
 */

/** Tests of code that depends on the kernel's version, and fast enough for an emulated machine. */
const core = [
  "syscalls/abi",
  "mount/mount",
  "mount/explain",
  "mount/words",
  "mount/options",
  "mount/containerd_cases",
  "mount/propagation",
  "mount/replace",
  "mount/replace_race",
  "unmount/own",
  "unmount/unmount",
  "unmount/holders",
  "path/mount_target",
  "path/path",
  "spec/mount",
  "spec/id_mapping",
  "filesystem/bind",
  "filesystem/overlay",
  "idmap/idmap",
  "idmap/mapped_layers",
  "idmap/user_namespace",
  "loop/loop",
  "loop/sharing",
  "loop/backing_file",
  "manager/activate",
  "mountinfo/mountinfo",
  "temp/temp",
];

/**
 * Lists the files for `deno test`.
 *
 * @param set the set of tests.
 * @param project the project's directory.
 * @returns their paths in the project.
 */
export function testFiles(set: "core" | "all", project: string): string[] {
  if (set === "core") return core.map((name) => `test/${name}_test.ts`);
  const rooms = [...Deno.readDirSync(`${project}/test`)].filter(({ isDirectory }) => isDirectory);
  const files = rooms.flatMap(({ name: room }) =>
    [...Deno.readDirSync(`${project}/test/${room}`)].map(({ name }) => `test/${room}/${name}`)
  );
  return files.filter((path) => path.endsWith("_test.ts")).sort();
}
