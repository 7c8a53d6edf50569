/**
 * The kernels that the tests run on.
 *
 * @module
 */

/** Debian's name of an architecture, with what else it is called. */
export interface Architecture {
  /** Debian's name. */
  debian: "amd64" | "arm64";
  /** Deno's name, as in `Deno.build.arch`. */
  deno: typeof Deno.build.arch;
  /** The package of Deno's binary on the npm registry. */
  package: string;
  /** QEMU's program and the machine that it is to be. */
  qemu: readonly string[];
  /** The package of that program. */
  qemuPackage: string;
  /** The kernel's name of the first serial port. */
  console: string;
}

const amd64: Architecture = {
  debian: "amd64",
  deno: "x86_64",
  package: "@deno/linux-x64-glibc",
  // Emulating what newer processors add costs more than it gains.
  qemu: ["qemu-system-x86_64", "-machine", "q35", "-cpu", "Nehalem"],
  qemuPackage: "qemu-system-x86",
  console: "ttyS0",
};

const arm64: Architecture = {
  debian: "arm64",
  deno: "aarch64",
  package: "@deno/linux-arm64-glibc",
  // Pointers that are signed take most of the time when they are computed as the real processors do.
  qemu: ["qemu-system-aarch64", "-machine", "virt", "-cpu", "max,pauth-impdef=on"],
  qemuPackage: "qemu-system-arm",
  console: "ttyAMA0",
};

/** A kernel to run the tests on. */
export interface Target {
  /** What `--only` calls it. */
  name: string;
  /** The first part of the version; the newest kernel of the suite if left out. */
  release?: string;
  /** The Debian suite that has it; this machine's sources if left out. */
  suite?: string;
  /** What it runs on. */
  architecture: Architecture;
}

/** The oldest kernel that the library supports, Debian's kernels since, and the newest in Debian sid. */
export const targets: readonly Target[] = [
  { name: "5.10", release: "5.10", suite: "bullseye", architecture: amd64 },
  { name: "6.1", release: "6.1", architecture: amd64 },
  { name: "6.12", release: "6.12", architecture: amd64 },
  { name: "newest", suite: "sid", architecture: amd64 },
  { name: "arm64", release: "6.1", architecture: arm64 },
];
