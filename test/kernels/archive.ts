/**
 * The guest's root directory as an archive: Debian's programs, the kernel's modules, Deno and the project.
 *
 * @module
 */

import { findModules } from "./modules.ts";
import { CpioWriter } from "./newc.ts";
import type { Job } from "./protocol.ts";

/** Programs that the tests call, by package. */
export const programs: readonly string[] = [
  "bash",
  "bindfs",
  "bsdutils",
  "btrfs-progs",
  "busybox-static",
  "coreutils",
  "dash",
  "e2fsprogs",
  "erofs-utils",
  "fuse-overlayfs",
  "fuse3",
  "libc6",
  "libgcc-s1",
  "mount",
  "runc",
  "squashfs-tools",
  "strace",
  "util-linux",
  "xfsprogs",
];

/** In Debian these are symbolic links into /usr, but some packages still install files below them. */
const merged = ["bin", "sbin", "lib", "lib64"];

const modules = ["loop", "overlay", "fuse", "ext4", "xfs", "btrfs", "squashfs", "erofs", "crc32c_generic"];

/** Files that no test uses; they are half of the size. */
const unwanted =
  /^(usr\/share|usr\/lib\/python|usr\/lib\/udev|lib\/udev)|\/(libicu|gconv|perl|systemd)|python3/;

/** Paths on this machine of what the archive contains. */
export interface Parts {
  /** The directory of the unpacked kernel packages. */
  kernel: string;
  /** The directory of the unpacked packages of programs. */
  programs: string;
  /** Deno's binary. */
  deno: string;
  /** The directory of the packages that the project imports. */
  packages: string;
  /** The project's directory. */
  project: string;
}

/**
 * Writes the archive.
 *
 * @param path the archive's path.
 * @param parts its contents.
 * @param job the tests to run.
 * @param seconds the timeout of the tests, in seconds.
 */
export async function writeArchive(path: string, parts: Parts, job: Job, seconds: number): Promise<void> {
  using archive = new CpioWriter(path);
  archive.file("init", Deno.readFileSync(`${parts.project}/test/kernels/guest/init.sh`), 0o755);
  archive.file("job.json", JSON.stringify(job));
  archive.file("seconds", `${seconds}\n`);
  addPrograms(archive, parts.programs);
  archive.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
  archive.file("etc/group", "root:x:0:\nnogroup:x:65534:\n");
  archive.link("etc/mtab", "/proc/self/mounts");
  const needed = await findModules(parts.kernel, modules);
  for (const { path, content } of needed) archive.file(`usr/${path}`, content);
  archive.file("modules", needed.map(({ path }) => `${path}\n`).join(""));
  archive.file("usr/local/bin/deno", Deno.readFileSync(parts.deno), 0o755);
  archive.tree(`${parts.packages}/npm`, "root/.cache/deno/npm");
  archive.tree(parts.project, "denomount", (path) => !/(^|\/)(\.|node_modules)/.test(path));
}

function addPrograms(archive: CpioWriter, directory: string): void {
  for (const { name } of Deno.readDirSync(directory)) {
    const path = merged.includes(name) ? `usr/${name}` : name;
    archive.tree(`${directory}/${name}`, path, (below) => !unwanted.test(`${path}/${below}`));
    if (path !== name) archive.link(name, path);
  }
}
