/**
 * Debian packages in a directory of our own: nothing is installed, and what dpkg and apt know of this machine stays as
 * it is. The sources are the machine's, so is the release.
 *
 * @module
 */

import { run } from "./run.ts";

const DAY = 24 * 3600 * 1000;

/** Packages of one architecture. */
export class Packages {
  readonly #directory: string;
  readonly #architecture: string;

  private constructor(directory: string, architecture: string) {
    this.#directory = directory;
    this.#architecture = architecture;
  }

  /**
   * Opens the directory, with lists of packages that are a day old at most.
   *
   * @param cache where it is to be.
   * @param architecture Debian's name of it.
   * @returns the packages.
   */
  static async open(cache: string, architecture: string): Promise<Packages> {
    const directory = `${cache}/apt-${architecture}`;
    for (const name of ["state/lists/partial", "cache/archives/partial"]) {
      await Deno.mkdir(`${directory}/${name}`, { recursive: true });
    }
    await Deno.writeTextFile(`${directory}/state/status`, ""); // nothing is installed, so all that is needed is named
    const packages = new Packages(directory, architecture);
    const stamp = `${directory}/updated`;
    if (await age(stamp) > DAY) {
      await run("apt-get", [...packages.#options(), "update", "-qq"]);
      await Deno.writeTextFile(stamp, "");
    }
    return packages;
  }

  /**
   * The newest kernel of a release, of those for virtual machines: they are small, and have what is needed.
   *
   * @param release the first part of its version, such as "6.1".
   * @returns the package's name; undefined where this Debian release has none.
   */
  async kernel(release: string): Promise<string | undefined> {
    const { stdout } = await run("apt-cache", [...this.#options(), "pkgnames", "linux-image-"]);
    const version = `${RegExp.escape(release)}\\.\\d\\S*`;
    const pattern = new RegExp(`^linux-image-${version}-cloud-${this.#architecture}$`);
    const { compare } = new Intl.Collator("en", { numeric: true });
    return stdout.split("\n").filter((name) => pattern.test(name)).sort(compare).at(-1);
  }

  /**
   * Fetches packages and unpacks them.
   *
   * @param names the packages.
   * @param dependencies whether all that they depend on comes too.
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

  /** The archives are kept, so a second run fetches nothing. */
  async #fetch(names: readonly string[], dependencies: boolean): Promise<string[]> {
    const wanted = dependencies ? await this.#closure(names) : names;
    const archives = `${this.#directory}/cache/archives`;
    await run("apt-get", [...this.#options(), "download", "-qq", ...wanted], { cwd: archives });
    const { stdout } = await run("apt-cache", [...this.#options(), "show", "--no-all-versions", ...wanted]);
    const files = [...stdout.matchAll(/^Filename: .*\/(.+)$/gm)].map(([, name]) => name ?? "");
    const present = [...Deno.readDirSync(archives)].map(({ name }) => name);
    return files.map((file) => {
      // A colon of the version is written as %3a in the archive's name, and left out of the mirror's.
      const found = present.find((name) => name.replace(/_\d+%3a/, "_") === file);
      if (found === undefined) throw new Error(`apt-get did not fetch ${file}`);
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
      "Debug::NoLocking": "true",
    };
    return Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  }
}

/** How long ago something was written, in milliseconds; Infinity where it is not there. */
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
