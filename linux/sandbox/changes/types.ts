/**
 * The changes of an overlay directory as data.
 *
 * @module
 */

import type { OwnedFd } from "../../../ffi/fd.ts";
import type { WaitOptions } from "../../path/wait.ts";

/** What a file is. */
export type FileType = "file" | "directory" | "symlink" | "fifo" | "socket" | "char" | "block";

/** A name that the overlay's lower directory has and the overlay no longer shows. */
export interface RemovedChange {
  /** What happened. */
  kind: "removed";
  /** The path below the overlay, without a slash at its beginning. A byte that is not UTF-8 is a lone surrogate. */
  path: string;
  /** The path's bytes. */
  raw: Uint8Array<ArrayBuffer>;
  /** What was removed; undefined if the lower directory is not given. */
  type: FileType | undefined;
}

/** A file that the overlay shows and its lower directory does not have in this form. */
export interface PresentChange {
  /**
   * What happened. "added": the lower directory does not have the name. "modified": it has a file of the same type;
   * for a directory, its own mode, owner or attributes differ. "replaced": it has a file of another type, or what the
   * lower directory has below this directory is gone, except what is listed after it.
   */
  kind: "added" | "modified" | "replaced";
  /** The path below the overlay, without a slash at its beginning. A byte that is not UTF-8 is a lone surrogate. */
  path: string;
  /** The path's bytes. */
  raw: Uint8Array<ArrayBuffer>;
  /** What the file is now. */
  type: FileType;
  /** The permission bits, with set-user-id, set-group-id and sticky. */
  mode: number;
  /** The owner, as this process sees it. */
  uid: number;
  /** The owning group, as this process sees it. */
  gid: number;
  /** The size in bytes; the length of a symbolic link's target; 0 for what has no content. */
  size: number;
  /** When its content last changed. */
  mtime: Date;
  /** Where a symbolic link leads. */
  target?: string;
  /** The major and minor number of a device. */
  device?: readonly [major: number, minor: number];
}

/** A change that an overlay directory holds. */
export type Change = RemovedChange | PresentChange;

/** How an upper directory is read. */
export interface UpperOptions extends WaitOptions {
  /**
   * Whether the overlay is mounted with the option `userxattr`, as in a user namespace: its marks are then
   * `user.overlay.*` attributes, otherwise `trusted.overlay.*`, which need CAP_SYS_ADMIN to be read.
   */
  readonly userxattr?: boolean | undefined;
}

/** How changes are read. */
export interface ReadChangesOptions extends UpperOptions {
  /**
   * The lower directory, or the lower layers from top to bottom, as this process sees them. Without it, the upper
   * directory is read as if it stood over an empty one: all that it holds is "added".
   */
  readonly lower?: string | readonly string[] | undefined;
}

/** An upper directory: its path, or a descriptor of it. */
export type Upper = string | OwnedFd;
