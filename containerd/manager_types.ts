/**
 * What a mount manager is: it mounts what a list needs before mount(2) takes the rest. The shape is containerd's.
 *
 * @module
 */

import type { Mount } from "../linux/spec/mount.ts";
import type { UnmountOptions } from "../linux/unmount/deadline.ts";

/** A mount that a manager has mounted. */
export interface ActiveMount extends Mount {
  /** Where it is mounted. */
  mountPoint: string;
  /** When it was mounted. */
  mountedAt: Date;
  /** What its handler keeps with it. */
  data: Record<string, string>;
}

/** A list that a manager has activated. */
export interface Activation {
  /** Its name. */
  name: string;
  /** What the manager has mounted, in order. */
  active: ActiveMount[];
  /** What is left for the caller to mount. */
  system: Mount[];
  /** Its labels. */
  labels: Record<string, string>;
}

/** How to activate a list. */
export interface ActivateOptions {
  /** Mounts everything; what is left is one bind. */
  temporary?: boolean;
  /** The labels of the activation. */
  labels?: Record<string, string>;
  /** The types that the caller mounts itself, such as "erofs" or "format/*". */
  allowMountTypes?: string[];
  /** Ends the call, with its reason as the error. */
  signal?: AbortSignal;
}

/** Activates lists of mounts that no mount(2) takes as they are. */
export interface MountManager {
  /** Mounts what the list needs, and returns what is left to mount. */
  activate(name: string, mounts: readonly Mount[], options?: ActivateOptions): Promise<Activation>;
  /** Unmounts what the activation has mounted, and forgets it. */
  deactivate(name: string, options?: UnmountOptions): Promise<void>;
  /** What an activation has mounted. */
  info(name: string): Promise<Activation>;
  /** The activations, of those labels if there are any. */
  list(options?: { labels?: Record<string, string> }): AsyncIterable<Activation>;
  /** Replaces the labels of an activation. */
  update(name: string, change: { labels: Record<string, string> }): Promise<Activation>;
}
