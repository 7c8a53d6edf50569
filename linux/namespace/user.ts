/**
 * User namespaces as descriptors, made by a child that no other process can be mistaken for.
 *
 * libc's clone() takes the function that the child runs. Here it is libc's own sleep(), so the child never comes back
 * into JavaScript, and ends by itself after a few seconds if this process is killed. Its exit signal is 0: no SIGCHLD is
 * sent, and no reaper in this process takes it. All of it happens in one go, while no other JavaScript runs.
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds, withDisposable } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { cString } from "../../ffi/memory.ts";
import {
  CLONE_NEWUSER,
  CLONE_PIDFD,
  CLONE_SETTLS,
  CLONE_VM,
  O_WRONLY,
  SIGKILL,
} from "../syscalls/constants.ts";
import { requireIdMapping } from "../syscalls/features.ts";
import { type IdMapping, mapFileText } from "../spec/id_mapping.ts";
import type { IdMaps } from "../spec/options.ts";
import { namespaceOfPidfd, openPidfd, Pidfd, pidInProc, signalPidfd, waitPidfd } from "../pidfd.ts";
import { open, write } from "../syscalls/mod.ts";

const LIFETIME = 3n; // seconds that a child lives at the longest, if this process is killed

/**
 * Makes a user namespace with id maps. It is gone when its descriptor and everything that uses it are.
 *
 * @param uidMap the user ids, as ranges or as containerd's text.
 * @param gidMap the group ids.
 * @returns the namespace's descriptor.
 * @throws {TypeError} for maps that can't be, before any system call.
 * @throws {SyscallError} EPERM without the right to map these ids, ENOSPC where user namespaces are used up.
 *
 * Needs the permission `ffi`, CAP_SETUID and CAP_SETGID over the ids, and Linux 5.4.
 *
 * @example
 * ```ts
 * import { createUserNamespace } from "@denomount/mount";
 *
 * using userns = await createUserNamespace("0:100000:65536", "0:100000:65536");
 * console.log(userns.fd);
 * ```
 */
// deno-lint-ignore require-await
export async function createUserNamespace(
  uidMap: string | readonly IdMapping[],
  gidMap: string | readonly IdMapping[],
): Promise<OwnedFd> {
  return makeUserNamespace({ uid: mapFileText(uidMap), gid: mapFileText(gidMap) });
}

function makeUserNamespace(maps: IdMaps): OwnedFd {
  return withDisposable(new OwnedFds(), (opened) => {
    const namespace = withDisposable(new SleepingChild(), (child) => opened.add(child.userNamespace(maps)));
    opened.release(); // the child is gone: where it could not be ended, the namespace is closed
    return namespace;
  });
}

/** The user namespaces of one call. The same maps share one: they never change once written. */
export class UserNamespaces implements Disposable {
  readonly #made = new Map<string, OwnedFd>();
  readonly #fds = new OwnedFds();

  /**
   * The namespace with these maps, made at the first question.
   *
   * @param maps the maps.
   * @returns its descriptor, closed with the others.
   * @throws {TypeError} where this kernel has no id-mapped mounts.
   */
  of(maps: IdMaps): OwnedFd {
    requireIdMapping();
    const known = this.known(maps);
    if (known) return known;
    const made = this.#fds.add(makeUserNamespace(maps));
    this.#made.set(keyOf(maps), made);
    return made;
  }

  /**
   * The same, where it was made.
   *
   * @param maps the maps.
   * @returns undefined where it was not.
   */
  known(maps: IdMaps): OwnedFd | undefined {
    return this.#made.get(keyOf(maps));
  }

  /** Closes all of them. */
  [Symbol.dispose](): void {
    this.#made.clear();
    this.#fds[Symbol.dispose]();
  }
}

function keyOf({ uid, gid }: IdMaps): string {
  return `${uid}/${gid}`;
}

/**
 * The user namespace of a running process.
 *
 * @param pid the process.
 * @returns the namespace's descriptor.
 * @throws {SyscallError} ESRCH where there is no such process, EPERM or EACCES where it may not be looked at.
 *
 * Needs the permission `ffi`, the right to trace the process, and Linux 5.3.
 *
 * @example
 * ```ts
 * import { userNamespaceOf } from "@denomount/mount";
 *
 * using mine = await userNamespaceOf(Deno.pid);
 * ```
 */
// deno-lint-ignore require-await
export async function userNamespaceOf(pid: number): Promise<OwnedFd> {
  using process = openPidfd(pid);
  return namespaceOfPidfd(process, "user");
}

const encoder = new TextEncoder();

/**
 * A child in a user namespace of its own, ended and waited for at the end of its scope. To go on while it ends would save
 * nothing: whatever closes a mount waits for the processor that the child ends on.
 */
class SleepingChild implements Disposable {
  readonly #pidfd: Pidfd;

  constructor() {
    const pid = withSignalsBlocked(cloneSleeper);
    this.#pidfd = new Pidfd(pidfdCell[0] ?? -1, pid);
  }

  /** Signal 0 after everything is open: if the child is still there, all that was opened by its pid is its own. */
  userNamespace({ uid, gid }: IdMaps): OwnedFd {
    const pid = pidInProc(this.#pidfd);
    return withDisposable(
      open(`/proc/${pid}/uid_map`, O_WRONLY),
      (uidFile) =>
        withDisposable(
          open(`/proc/${pid}/gid_map`, O_WRONLY),
          (gidFile) =>
            withDisposable(new OwnedFds(), (opened) => {
              const namespace = opened.add(namespaceOfPidfd(this.#pidfd, "user"));
              signalPidfd(this.#pidfd, 0);
              write(uidFile.fd, encoder.encode(uid), "uid_map");
              write(gidFile.fd, encoder.encode(gid), "gid_map");
              opened.release();
              return namespace;
            }),
        ),
    );
  }

  [Symbol.dispose](): void {
    withDisposable(this.#pidfd, (pidfd) => {
      try {
        signalPidfd(pidfd, SIGKILL);
      } finally {
        waitPidfd(pidfd); // also if the signal failed: a child that is not waited for stays a zombie
      }
    });
  }
}

// A stack for sleep(), and a thread control block with room around it for thread-local storage and struct pthread, which
// is 2304 bytes in glibc 2.36.
const STACK = 32 * 1024;
const BLOCK = 32 * 1024;
const USED = 4096; // bytes on either side of the control block that sleep() may look at
const memory = new Uint8Array(STACK + BLOCK);
const pidfdCell = new Int32Array(new ArrayBuffer(4));
const pidfdMemory = new Uint8Array(pidfdCell.buffer);

interface Sleeper {
  sleep: Deno.PointerValue;
  stack: Deno.PointerValue;
  seconds: Deno.PointerValue;
  /** The control block's address, and its place in {@linkcode memory}. */
  address: bigint;
  offset: number;
  block: DataView<ArrayBuffer>;
  storage: Deno.PointerValue;
}

let sleeper: Sleeper | undefined;

function prepareSleeper(): Sleeper {
  const base = Deno.UnsafePointer.value(Deno.UnsafePointer.of(memory));
  const address = (base + BigInt(STACK + BLOCK / 2)) & ~63n;
  const offset = Number(address - base);
  return {
    sleep: libc().dlsym(null, cString("sleep")),
    stack: Deno.UnsafePointer.create((base + BigInt(STACK)) & ~15n),
    seconds: Deno.UnsafePointer.create(LIFETIME),
    address,
    offset,
    block: new DataView(memory.buffer, offset),
    storage: Deno.UnsafePointer.create(address),
  };
}

/**
 * Clones a child that sleeps. On x86-64 it shares this process's memory, which saves copying its page tables, and has a
 * zeroed thread control block of its own, so that libc there can't touch this thread's. On arm64 it gets a copy.
 */
function cloneSleeper(): number {
  sleeper ??= prepareSleeper();
  const { sleep, stack, seconds } = sleeper;
  const shared = Deno.build.arch === "x86_64" ? CLONE_VM | CLONE_SETTLS : 0;
  const storage = shared ? threadControlBlock(sleeper) : null;
  return check(
    libc().clone(sleep, stack, shared | CLONE_PIDFD | CLONE_NEWUSER, seconds, pidfdMemory, storage, null),
    "clone",
  );
}

/** glibc's tcbhead_t, sysdeps/x86_64/nptl/tls.h: thread-local storage stands below it, struct pthread at it. */
function threadControlBlock({ address, offset, block, storage }: Sleeper): Deno.PointerValue {
  memory.fill(0, offset - USED, offset + USED); // what the last child wrote there
  block.setBigUint64(0, address, true); // tcb
  block.setBigUint64(16, address, true); // self
  return storage;
}

const SIG_SETMASK = 2; // asm-generic/signal-defs.h
const SIGSET = 128; // sizeof(sigset_t) in glibc
const all = new Uint8Array(SIGSET);
const before = new Uint8Array(SIGSET);

/** A child inherits the mask of the thread that makes it: no handler of this process may run in it. */
function withSignalsBlocked<T>(run: () => T): T {
  libc().sigfillset(all);
  libc().pthread_sigmask(SIG_SETMASK, all, before);
  try {
    return run();
  } finally {
    libc().pthread_sigmask(SIG_SETMASK, before, null);
  }
}
