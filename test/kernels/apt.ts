/**
 * Debian packages, downloaded and unpacked in a private directory. Lists, archives and dpkg's status are private too:
 * nothing is installed, and /etc/apt is only read.
 *
 * @module
 */

import { run } from "./run.ts";

const HOUR = 3600 * 1000;
const DAY = 24 * HOUR;

/** Packages of one architecture and one Debian suite. */
export class Packages {
  readonly #directory: string;
  readonly #architecture: string;
  readonly #suite: string | undefined;

  private constructor(directory: string, architecture: string, suite: string | undefined) {
    this.#directory = directory;
    this.#architecture = architecture;
    this.#suite = suite;
  }

  /**
   * Opens the directory and updates the package lists: after a day, or after an hour for another suite than this
   * machine's, because sid drops a package when its next version arrives.
   *
   * @param cache the directory that holds it.
   * @param architecture Debian's name of the architecture.
   * @param suite a suite such as "bullseye", from this machine's mirror; this machine's own sources if left out.
   * @returns the packages.
   */
  static async open(cache: string, architecture: string, suite?: string): Promise<Packages> {
    const directory = `${cache}/apt-${suite === undefined ? "" : `${suite}-`}${architecture}`;
    for (const name of ["state/lists/partial", "cache/archives/partial"]) {
      await Deno.mkdir(`${directory}/${name}`, { recursive: true });
    }
    await Deno.writeTextFile(`${directory}/state/status`, ""); // no package counts as installed, so apt-get lists every dependency
    if (suite !== undefined) await writeSources(`${directory}/debian.sources`, suite);
    const packages = new Packages(directory, architecture, suite);
    const stamp = `${directory}/updated`;
    if (await age(stamp) > (suite === undefined ? DAY : HOUR)) {
      await run("apt-get", [...packages.#options(), "update", "-qq"]);
      await Deno.writeTextFile(stamp, "");
    }
    return packages;
  }

  /**
   * Finds the newest cloud kernel. Cloud kernels are small and have every module that the tests use.
   *
   * @param release the first part of the version, such as "6.1"; any if left out.
   * @returns the packages that hold the kernel and its modules; undefined if this suite has no such kernel.
   */
  async kernel(release?: string): Promise<string[] | undefined> {
    const { stdout } = await run("apt-cache", [...this.#options(), "pkgnames", "linux-"]);
    const names = stdout.split("\n");
    const version = `${release === undefined ? "\\d+" : RegExp.escape(release)}\\.\\d\\S*`;
    const pattern = new RegExp(`^linux-image-(${version}-cloud-${this.#architecture})$`);
    const { compare } = new Intl.Collator("en", { numeric: true });
    const found = names.flatMap((name) => pattern.exec(name)?.[1] ?? []).sort(compare).at(-1);
    if (found === undefined) return undefined;
    // In sid linux-image is empty and depends on linux-binary and linux-modules; in older releases it holds both.
    return ["image", "binary", "modules"].map((part) => `linux-${part}-${found}`).filter((name) =>
      names.includes(name)
    );
  }

  /**
   * Downloads packages and unpacks them.
   *
   * @param names the packages.
   * @param dependencies whether to unpack their dependencies too.
   * @returns the directory that holds their files.
   */
  async unpack(names: readonly string[], dependencies: boolean): Promise<string> {
    const archives = await this.#fetch(names, dependencies);
    const key = await digest(archives.map((path) => path.slice(path.lastIndexOf("/") + 1)).sort().join("\n"));
    const directory = `${this.#directory}/unpacked-${key}`;
    if (await age(directory) < Infinity) return directory;
    const unfinished = await Deno.makeTempDir({ dir: this.#directory, prefix: "unpacking-" });
    try {
      for (const archive of archives) await run("dpkg-deb", ["-x", archive, unfinished]);
      await Deno.chmod(unfinished, 0o755);
      await Deno.rename(unfinished, directory);
    } catch (error) {
      await Deno.remove(unfinished, { recursive: true });
      throw error;
    }
    return directory;
  }

  /** The archives stay in the cache, so a second run downloads nothing. */
  async #fetch(names: readonly string[], dependencies: boolean): Promise<string[]> {
    const wanted = dependencies ? await this.#closure(names) : names;
    const archives = `${this.#directory}/cache/archives`;
    await run("apt-get", [...this.#options(), "download", "-qq", ...wanted], { cwd: archives });
    const { stdout } = await run("apt-cache", [...this.#options(), "show", "--no-all-versions", ...wanted]);
    const files = [...stdout.matchAll(/^Filename: .*\/(.+)$/gm)].map(([, name]) => name ?? "");
    const present = [...Deno.readDirSync(archives)].map(({ name }) => name);
    return files.map((file) => {
      // apt-get writes the epoch of a version into the archive's name, as 1%3a; the mirror's name has no epoch.
      const found = present.find((name) => name.replace(/_\d+%3a/, "_") === file);
      if (found === undefined) throw new Error(`apt-get did not download ${file}`);
      return `${archives}/${found}`;
    });
  }

  async #closure(names: readonly string[]): Promise<string[]> {
    const { stdout } = await run("apt-get", [...this.#options(), "install", "--simulate", "-qq", ...names]);
    return [...stdout.matchAll(/^Inst (\S+)/gm)].map(([, name]) => name ?? "");
  }

  #options(): string[] {
    const settings: Record<string, string> = {
      "Dir::State": `${this.#directory}/state`,
      "Dir::State::status": `${this.#directory}/state/status`,
      "Dir::Cache": `${this.#directory}/cache`,
      "APT::Architecture": this.#architecture,
      "APT::Architectures::": this.#architecture,
      "APT::Install-Recommends": "false",
      "APT::Sandbox::User": "root",
      "Acquire::Retries": "5", // of a mirror that is busy
      "Debug::NoLocking": "true",
    };
    if (this.#suite !== undefined) {
      settings["Dir::Etc::sourcelist"] = `${this.#directory}/debian.sources`;
      settings["Dir::Etc::sourceparts"] = "/dev/null";
      settings["Dir::Etc::preferencesparts"] = "/dev/null"; // pins of this machine's suites
    }
    return Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  }
}

/** Writes a sources file for another suite, with the mirror of this machine's apt sources. */
async function writeSources(path: string, suite: string): Promise<void> {
  const format = "$(REPO_URI) $(COMPONENT) $(SUITE)";
  const { stdout } = await run("apt-get", ["indextargets", "--format", format, "Created-By: Packages"]);
  const targets = stdout.split("\n").map((line) => line.split(" "));
  const [uri] =
    targets.find(([uri = "", component, suite = ""]) =>
      component === "main" && !suite.includes("-") && /\/debian\/?$/.test(uri)
    ) ?? [];
  if (uri === undefined) throw new Error(`no Debian mirror in this machine's apt sources, for ${suite}`);
  const lines = [
    "Types: deb",
    `URIs: ${uri}`,
    `Suites: ${suite}`,
    "Components: main",
    `Signed-By: ${KEYRING}`,
  ];
  await Deno.writeTextFile(path, lines.map((line) => `${line}\n`).join(""));
}

/** The keys of every Debian release, of the package debian-archive-keyring. */
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** Milliseconds since a file was last modified; Infinity if it does not exist. */
async function age(path: string): Promise<number> {
  try {
    return Date.now() - ((await Deno.stat(path)).mtime?.getTime() ?? 0);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return Infinity;
    throw error;
  }
}

async function digest(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(hash).slice(0, 6)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
