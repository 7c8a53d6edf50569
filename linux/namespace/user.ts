/**
 * User namespaces as descriptors, created by a short-lived child that is identified by its pidfd.
 *
 * libc's clone() takes the function that the child runs. Here it is libc's sleep(), so the child never returns to
 * JavaScript, and exits by itself after a few seconds if this process is killed. Its exit signal is 0: the kernel sends no
 * SIGCHLD, and no reaper in this process waits for it. The code is synchronous, so no other JavaScript runs in between.
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds, withDisposable } from "../../ffi/fd.ts";
import { errno, libc } from "../../ffi/libc.ts";
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

/** What /proc/PID/ns/user links to for the initial user namespace: PROC_USER_INIT_INO of linux/proc_ns.h. */
export const INITIAL_USER_NAMESPACE = "user:[4026531837]";

const LIFETIME = 3n; // seconds after which the child exits if this process is killed

/**
 * Creates a user namespace with id maps. It exists as long as its descriptor is open or a mount or process uses it.
 *
 * Needs the permission `ffi`, CAP_SETUID and CAP_SETGID in the parent user namespace, and Linux 5.4.
 *
 * @param uidMap the user ids, as ranges or as text in containerd's form.
 * @param gidMap the group ids, likewise.
 * @returns a descriptor of the namespace.
 * @throws {TypeError} for an invalid map, before any system call.
 * @throws {SyscallError} EPERM without permission to map these ids, ENOSPC at the limit of user namespaces.
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
    opened.release(); // only after the child has exited: if killing it throws, the namespace is closed
    return namespace;
  });
}

/** The user namespaces of one call. Equal id maps share a namespace, as maps can't change once written. */
export class UserNamespaces implements Disposable {
  readonly #byMaps = new Map<string, OwnedFd>();
  readonly #fds = new OwnedFds();

  /**
   * Returns the namespace with these maps, and creates it if necessary.
   *
   * @param maps the id maps.
   * @returns its descriptor, which this object owns.
   * @throws {TypeError} if the kernel has no id-mapped mounts.
   * @throws {SyscallError} as {@linkcode createUserNamespace} does.
   */
  of(maps: IdMaps): OwnedFd {
    requireIdMapping();
    const known = this.known(maps);
    if (known) return known;
    const created = this.#fds.add(makeUserNamespace(maps));
    this.#byMaps.set(keyOf(maps), created);
    return created;
  }

  /**
   * Returns the namespace with these maps if it was created already.
   *
   * @param maps the id maps.
   * @returns its descriptor, or undefined.
   */
  known(maps: IdMaps): OwnedFd | undefined {
    return this.#byMaps.get(keyOf(maps));
  }

  /** Closes the descriptors. */
  [Symbol.dispose](): void {
    this.#byMaps.clear();
    this.#fds[Symbol.dispose]();
  }
}

function keyOf({ uid, gid }: IdMaps): string {
  return `${uid}/${gid}`;
}

/**
 * Opens the user namespace of a running process.
 *
 * Needs the permission `ffi`, the permission to ptrace the process, and Linux 5.3.
 *
 * @param pid the process.
 * @returns a descriptor of the namespace.
 * @throws {SyscallError} ESRCH if the process does not exist, EPERM or EACCES without permission to ptrace it.
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
 * A child in a new user namespace, killed and waited for at the end of its scope. Not to wait would save nothing: closing
 * a mount synchronizes with the processor on which the child exits.
 */
class SleepingChild implements Disposable {
  readonly #pidfd: Pidfd;

  constructor() {
    const pid = withSignalsBlocked(cloneSleeper);
    this.#pidfd = new Pidfd(pidfdCell[0] ?? -1, pid);
  }

  /** Signal 0 after the files are open: if the child still exists, its pid was not reused and the files are its own. */
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

// The stack of sleep(), and its thread control block. Thread-local storage is below the block; struct pthread, 2304 bytes
// in glibc 2.36, begins with it.
const STACK = 32 * 1024;
const BLOCK = 32 * 1024;
const USED = 4096; // bytes on either side of the control block that sleep() may access
const memory = new Uint8Array(STACK + BLOCK);
const pidfdCell = new Int32Array(new ArrayBuffer(4));
const pidfdMemory = new Uint8Array(pidfdCell.buffer);

interface Sleeper {
  sleep: Deno.PointerValue;
  stack: Deno.PointerValue;
  seconds: Deno.PointerValue;
  /** The address of the thread control block. */
  address: bigint;
  /** Its offset in {@linkcode memory}. */
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
 * Clones a child that sleeps. On x86-64 it shares the memory of this process, which saves the copy of the page tables, and
 * has a zeroed thread control block, so that libc in the child can't change that of this thread. On arm64 it has a copy of
 * the memory.
 */
function cloneSleeper(): number {
  sleeper ??= prepareSleeper();
  const { sleep, stack, seconds } = sleeper;
  const shared = Deno.build.arch === "x86_64" ? CLONE_VM | CLONE_SETTLS : 0;
  const storage = shared ? threadControlBlock(sleeper) : null;
  return check(
    libc().clone(sleep, stack, shared | CLONE_PIDFD | CLONE_NEWUSER, seconds, pidfdMemory, storage, null),
    errno[0],
    "clone",
  );
}

/** tcbhead_t of glibc, sysdeps/x86_64/nptl/tls.h. */
function threadControlBlock({ address, offset, block, storage }: Sleeper): Deno.PointerValue {
  memory.fill(0, offset - USED, offset + USED); // the previous child has written to it
  block.setBigUint64(0, address, true); // tcb
  block.setBigUint64(16, address, true); // self
  return storage;
}

const SIG_SETMASK = 2; // asm-generic/signal-defs.h
const SIGSET = 128; // sizeof(sigset_t) in glibc
const allSignals = new Uint8Array(SIGSET);
const previousMask = new Uint8Array(SIGSET);

/** The child inherits the signal mask: a signal handler of this process must not run in the child. */
function withSignalsBlocked<T>(run: () => T): T {
  libc().sigfillset(allSignals);
  libc().pthread_sigmask(SIG_SETMASK, allSignals, previousMask);
  try {
    return run();
  } finally {
    libc().pthread_sigmask(SIG_SETMASK, previousMask, null);
  }
}
