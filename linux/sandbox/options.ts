/**
 * What a box is asked to be.
 *
 * @module
 */

import type { IdMapping } from "../spec/id_mapping.ts";
import type { Mount } from "../spec/mount.ts";

/** A directory whose writes are held back. */
export interface OverlayDirectory {
  /** The directory. */
  readonly path: string;
  /**
   * A directory of the host that keeps the writes, in `upper` and `work` below it, which are made if they are missing; a
   * later box continues with them. A tmpfs that ends with the box if left out.
   */
  readonly state?: string;
}

/** A place in memory. */
export interface TmpfsDirectory {
  /** The directory. */
  readonly path: string;
  /** The limit of its size in bytes; half of the memory if left out. */
  readonly size?: number;
  /** The mode of the directory; 0755 if left out. */
  readonly mode?: number;
}

/**
 * What a box is. Whatever is left out, is denied: nothing of this machine can be written, and the network, the other
 * processes and the environment are out of reach.
 *
 * Of two paths, the more specific one counts, in whatever order and option they stand. Symbolic links in them are followed.
 */
export interface SandboxOptions {
  /**
   * What "/" is, as a list of mounts: an image, an overlay, a directory. If left out, it is this machine's, read-only with
   * all that is mounted in it, with an empty /tmp and /run of the box's own. Mountpoints that are missing in it are made.
   * In a box with a root of its own, the paths of the other options are bound at the same places.
   */
  readonly root?: readonly Mount[];
  /** Paths that can be read only. It matters below a path of another option, and in a box with a `root`. */
  readonly readonly?: readonly string[];
  /** Paths that can be written: the only ones through which anything is changed on this machine. */
  readonly writable?: readonly string[];
  /**
   * Directories that can be written, with the writes held back: this machine's files don't change, and
   * `Sandbox.overlays` tells where the changed ones are. What is mounted below is read-only.
   */
  readonly overlay?: readonly (string | OverlayDirectory)[];
  /**
   * Paths that are empty in the box. Below a writable one, they can't be made, replaced or reached by renaming a directory
   * above, also if they don't exist yet: then an empty directory is made for the time of the box.
   */
  readonly hidden?: readonly string[];
  /** Empty directories in memory, which the box can write. */
  readonly tmpfs?: readonly (string | TmpfsDirectory)[];
  /** More mounts, with their targets in the box. */
  readonly mounts?: readonly Mount[];
  /** Whether /proc shows the processes of the box; true if left out. */
  readonly proc?: boolean;
  /**
   * "minimal": null, zero, full, random, urandom, tty, terminals of the box's own, and shm. "host": the devices of this
   * machine, as far as the user may open them. "minimal" if left out.
   */
  readonly dev?: "minimal" | "host";
  /** Whether the box has this machine's network; false if left out: it has a loopback interface of its own. */
  readonly network?: boolean;
  /** The name of the host inside. */
  readonly hostname?: string;
  /** The working directory of commands; this process's if left out and the box has it, else "/". */
  readonly cwd?: string;
  /** Variables of the environment of commands. */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * Whether commands get the variables of `env` only. Otherwise they get PATH, HOME, USER, LOGNAME, SHELL, LANG, LANGUAGE,
   * LC_ALL, LC_CTYPE, TERM, COLORTERM and TZ of this process too, and never another one.
   */
  readonly clearEnv?: boolean;
  /** The user id that commands see as their own; the real one if left out. Not with `uidMap`. */
  readonly uid?: number;
  /** The group id that commands see as their own, likewise. */
  readonly gid?: number;
  /**
   * Ranges of user ids, for commands that need several users. A user other than root needs newuidmap(1) and ranges in
   * /etc/subuid. `gidMap` goes with it.
   */
  readonly uidMap?: string | readonly IdMapping[];
  /** Ranges of group ids. */
  readonly gidMap?: string | readonly IdMapping[];
  /**
   * What to do about paths that don't exist: "error" names all of them; "skip" leaves them out. Those of `readonly` and
   * `hidden` below a writable one are always kept from being made. "error" if left out.
   */
  readonly missing?: "error" | "skip";
  /** The timeout of each wait for a server, and of the start, in milliseconds; 2500 and 30,000 if left out. */
  readonly timeout?: number;
  /** Ends the start of the box, with its reason as the error. */
  readonly signal?: AbortSignal;
}
