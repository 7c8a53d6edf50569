/**
 * Messages with descriptors: socketpair(2), sendmsg(2) and recvmsg(2) with SCM_RIGHTS.
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { offThread } from "../../ffi/memory.ts";

const AF_UNIX = 1; // linux/socket.h
const SOL_SOCKET = 1; // asm-generic/socket.h
const SCM_RIGHTS = 1; // linux/socket.h
const SOCK_SEQPACKET_CLOEXEC = 5 | 0o2000000; // linux/net.h
const MSG_DONTWAIT = 0x40; // linux/socket.h
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSGHDR = 56; // sizeof(struct msghdr) on 64-bit machines
const CMSGHDR = 16; // sizeof(struct cmsghdr)
const MAX_FDS = 253; // SCM_MAX_FD, net/scm.h

/** A message that was received, with the descriptors that came with it. */
export interface Message {
  /** Its bytes; none if the peer has closed its end. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Its descriptors, close-on-exec, which the caller must close. */
  readonly fds: readonly OwnedFd[];
}

/**
 * socketpair(2): two connected Unix sockets that keep the bounds of messages (SOCK_SEQPACKET).
 *
 * Needs the permission `ffi`.
 *
 * @returns both ends, close-on-exec.
 * @throws {SyscallError} EMFILE at the limit of open files.
 *
 * @example
 * ```ts
 * import { receiveMessage, sendMessage, socketPair } from "@denomount/mount/linux";
 *
 * const [one, other] = socketPair();
 * sendMessage(one.fd, new TextEncoder().encode("hello"));
 * const { bytes } = await receiveMessage(other.fd, 64);
 * if (new TextDecoder().decode(bytes) !== "hello") throw new Error("another message");
 * one.close();
 * other.close();
 * ```
 */
export function socketPair(): [OwnedFd, OwnedFd] {
  const pair = new Int32Array(new ArrayBuffer(8));
  const memory = new Uint8Array(pair.buffer);
  check(libc().socketpair(AF_UNIX, SOCK_SEQPACKET_CLOEXEC, 0, memory), errno[0], "socketpair");
  return [new OwnedFd(pair[0] ?? -1), new OwnedFd(pair[1] ?? -1)];
}

/**
 * sendmsg(2): sends one message, with descriptors. It does not wait for the peer.
 *
 * Needs the permission `ffi`.
 *
 * @param socket an end of {@linkcode socketPair}.
 * @param bytes the message, at least one byte.
 * @param fds the descriptors to send, 253 at most; the peer gets copies.
 * @throws {SyscallError} EPIPE if the peer has closed its end, EAGAIN if it has not read earlier messages.
 *
 * @example
 * ```ts
 * import { O_PATH, open, sendMessage, socketPair } from "@denomount/mount/linux";
 *
 * const [one, other] = socketPair();
 * using root = open("/", O_PATH);
 * sendMessage(one.fd, new TextEncoder().encode("the root directory"), [root.fd]);
 * one.close();
 * other.close();
 * ```
 */
export function sendMessage(
  socket: number,
  bytes: Uint8Array<ArrayBuffer>,
  fds: readonly number[] = [],
): void {
  const control = new Uint8Array(fds.length > 0 ? CMSGHDR + Math.ceil(fds.length / 2) * 8 : 0);
  if (fds.length > 0) {
    const view = new DataView(control.buffer);
    view.setBigUint64(0, BigInt(CMSGHDR + fds.length * 4), true); // cmsg_len
    view.setInt32(8, SOL_SOCKET, true); // cmsg_level
    view.setInt32(12, SCM_RIGHTS, true); // cmsg_type
    fds.forEach((fd, index) => view.setInt32(CMSGHDR + index * 4, fd, true));
  }
  const { header } = messageHeader(bytes, control);
  check(libc().sendmsg(socket, header, MSG_DONTWAIT | MSG_NOSIGNAL), errno[0], "sendmsg");
}

/**
 * recvmsg(2) on another thread: waits for the next message and its descriptors.
 *
 * Needs the permission `ffi`.
 *
 * @param socket an end of {@linkcode socketPair}, which stays open until the promise settles.
 * @param size the most bytes of a message; what is longer is cut.
 * @returns the message; no bytes if the peer has closed its end, or the call failed.
 *
 * @example
 * ```ts
 * import { receiveMessage, socketPair } from "@denomount/mount/linux";
 *
 * const [one, other] = socketPair();
 * one.close();
 * const { bytes } = await receiveMessage(other.fd, 64);
 * console.log(bytes.length); // 0
 * other.close();
 * ```
 */
export async function receiveMessage(socket: number, size: number): Promise<Message> {
  const { header, bytes, control, iov } = messageHeader(new Uint8Array(size), new Uint8Array(CONTROL));
  const length = await offThread(
    () => libc().recvmsg_nonblocking(socket, header, MSG_CMSG_CLOEXEC),
    header,
    bytes,
    control,
    iov,
  );
  return received(Number(length), header, bytes, control);
}

/**
 * recvmsg(2) without waiting.
 *
 * Needs the permission `ffi`.
 *
 * @param socket an end of {@linkcode socketPair}.
 * @param size the most bytes of a message; what is longer is cut.
 * @returns the message.
 * @throws {SyscallError} EAGAIN if there is none.
 *
 * @example
 * ```ts
 * import { isErrno, socketPair, tryReceiveMessage } from "@denomount/mount/linux";
 *
 * const [one, other] = socketPair();
 * try {
 *   tryReceiveMessage(other.fd, 64);
 * } catch (error) {
 *   if (!isErrno(error, "EAGAIN")) throw error;
 * }
 * one.close();
 * other.close();
 * ```
 */
export function tryReceiveMessage(socket: number, size: number): Message {
  const { header, bytes, control } = messageHeader(new Uint8Array(size), new Uint8Array(CONTROL));
  const length = check(libc().recvmsg(socket, header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT), errno[0], "recvmsg");
  return received(length, header, bytes, control);
}

const CONTROL = CMSGHDR + (MAX_FDS + 1) * 4;

/** struct msghdr with one struct iovec, linux/socket.h; the caller keeps all four alive during the call. */
function messageHeader(bytes: Uint8Array<ArrayBuffer>, control: Uint8Array<ArrayBuffer>) {
  const iov = new Uint8Array(new ArrayBuffer(16));
  const vector = new DataView(iov.buffer);
  vector.setBigUint64(0, addressOf(bytes), true); // iov_base
  vector.setBigUint64(8, BigInt(bytes.length), true); // iov_len
  const header = new Uint8Array(new ArrayBuffer(MSGHDR));
  const view = new DataView(header.buffer);
  view.setBigUint64(16, addressOf(iov), true); // msg_iov
  view.setBigUint64(24, 1n, true); // msg_iovlen
  view.setBigUint64(32, control.length > 0 ? addressOf(control) : 0n, true); // msg_control
  view.setBigUint64(40, BigInt(control.length), true); // msg_controllen
  return { header, bytes, control, iov };
}

function addressOf(bytes: Uint8Array<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
}

function received(
  length: number,
  header: Uint8Array<ArrayBuffer>,
  bytes: Uint8Array<ArrayBuffer>,
  control: Uint8Array<ArrayBuffer>,
): Message {
  const fds: OwnedFd[] = [];
  const filled = Number(new DataView(header.buffer).getBigUint64(40, true)); // msg_controllen
  const view = new DataView(control.buffer);
  const type = view.getInt32(12, true); // cmsg_type
  if (length >= 0 && filled >= CMSGHDR && type === SCM_RIGHTS) {
    const end = Number(view.getBigUint64(0, true)); // cmsg_len
    for (let next = CMSGHDR; next + 4 <= end; next += 4) fds.push(new OwnedFd(view.getInt32(next, true)));
  }
  return { bytes: bytes.subarray(0, Math.max(0, length)), fds };
}
