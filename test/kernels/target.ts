/**
 * The kernels that the tests run on.
 *
 * @module
 */

/** An architecture, by its names in Debian, Deno, npm and QEMU. */
export interface Architecture {
  /** Debian's name. */
  debian: "amd64" | "arm64";
  /** Deno's name, as in `Deno.build.arch`. */
  deno: typeof Deno.build.arch;
  /** The package of Deno's binary on the npm registry. */
  package: string;
  /** QEMU's program, and its arguments for the machine. */
  qemu: readonly string[];
  /** Debian's package of that program. */
  qemuPackage: string;
  /** The kernel's name for the first serial port. */
  console: string;
}

const amd64: Architecture = {
  debian: "amd64",
  deno: "x86_64",
  package: "@deno/linux-x64-glibc",
  // Emulating the instructions of newer processors costs more time than it saves.
  qemu: ["qemu-system-x86_64", "-machine", "q35", "-cpu", "Nehalem"],
  qemuPackage: "qemu-system-x86",
  console: "ttyS0",
};

const arm64: Architecture = {
  debian: "arm64",
  deno: "aarch64",
  package: "@deno/linux-arm64-glibc",
  // Emulating the architected algorithm of pointer authentication takes most of the time.
  qemu: ["qemu-system-aarch64", "-machine", "virt", "-cpu", "max,pauth-impdef=on"],
  qemuPackage: "qemu-system-arm",
  console: "ttyAMA0",
};

/** A kernel to run the tests on. */
export interface Target {
  /** Its name for `--only`. */
  name: string;
  /** The first part of the version; the newest kernel of the suite if left out. */
  release?: string;
  /** The Debian suite that has it; this machine's sources if left out. */
  suite?: string;
  /** Its architecture. */
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
