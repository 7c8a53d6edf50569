/**
 * The mutants of every room.
 *
 * @module
 */

import { cli } from "./list/cli.ts";
import { containerdClient } from "./list/containerd_client.ts";
import { containerd } from "./list/containerd.ts";
import { ffi } from "./list/ffi.ts";
import { filesystem } from "./list/filesystem.ts";
import { idmap } from "./list/idmap.ts";
import { loop } from "./list/loop.ts";
import { manager } from "./list/manager.ts";
import { mount } from "./list/mount.ts";
import { mountinfo } from "./list/mountinfo.ts";
import { namespace, pidfd } from "./list/namespace.ts";
import { path } from "./list/path.ts";
import { sandbox } from "./list/sandbox.ts";
import { sandboxBwrap } from "./list/sandbox_bwrap.ts";
import { sandboxChanges } from "./list/sandbox_changes.ts";
import { spec } from "./list/spec.ts";
import { syscalls } from "./list/syscalls.ts";
import { temp } from "./list/temp.ts";
import { unmount } from "./list/unmount.ts";
import type { MutantRoom } from "./mutant.ts";
import { words } from "./list/words.ts";

/** The rooms, from below. */
export const rooms: readonly MutantRoom[] = [
  ffi,
  syscalls,
  pidfd,
  path,
  spec,
  mountinfo,
  namespace,
  unmount,
  temp,
  loop,
  idmap,
  filesystem,
  mount,
  manager,
  sandbox,
  sandboxBwrap,
  sandboxChanges,
  containerdClient,
  containerd,
  cli,
  words,
];
