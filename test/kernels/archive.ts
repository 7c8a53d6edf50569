/**
 * What a guest is made of: Debian's programs, the kernel's modules, Deno and the project, as one archive.
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

/** Of these Debian has made symbolic links into /usr; its packages still name some files by them. */
const merged = ["bin", "sbin", "lib", "lib64"];

const modules = ["loop", "overlay", "fuse", "ext4", "xfs", "btrfs", "squashfs", "erofs", "crc32c_generic"];

/** Nothing that is needed there, and half of it all. */
const unwanted =
  /^(usr\/share|usr\/lib\/python|usr\/lib\/udev|lib\/udev)|\/(libicu|gconv|perl|systemd)|python3/;

/** Where the parts are on this machine. */
export interface Parts {
  /** The kernel's package, unpacked. */
  kernel: string;
  /** The programs' packages, unpacked. */
  programs: string;
  /** Deno's binary. */
  deno: string;
  /** The packages that the project imports. */
  packages: string;
  /** The project. */
  project: string;
}

/**
 * Writes the archive.
 *
 * @param path where.
 * @param parts what goes in.
 * @param job what the guest is to do.
 * @param seconds how long it may take.
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
