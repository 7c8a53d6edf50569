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
const CMSGHDR = 16; // sizeof(struct cmsghdr)
const MAX_FDS = 253; // SCM_MAX_FD, net/scm.h
const CONTROL = CMSGHDR + (MAX_FDS + 1) * 4;

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
  const control = new Uint8Array(
    new ArrayBuffer(fds.length > 0 ? CMSGHDR + Math.ceil(fds.length / 2) * 8 : 0),
  );
  if (fds.length > 0) {
    const words = new Int32Array(control.buffer); // struct cmsghdr, linux/socket.h
    words.set([CMSGHDR + fds.length * 4, 0, SOL_SOCKET, SCM_RIGHTS, ...fds]); // cmsg_len has 64 bits
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
  const { header, bytes, control, iov } = messageHeader(
    new Uint8Array(size),
    new Uint8Array(new ArrayBuffer(CONTROL)),
  );
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
  const { header, bytes, control } = messageHeader(
    new Uint8Array(size),
    new Uint8Array(new ArrayBuffer(CONTROL)),
  );
  const length = check(libc().recvmsg(socket, header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT), errno[0], "recvmsg");
  return received(length, header, bytes, control);
}

/**
 * struct msghdr with one struct iovec, linux/socket.h. The caller keeps all four alive during the call.
 *
 * msg_name, msg_namelen, msg_iov, msg_iovlen, msg_control, msg_controllen, msg_flags: each takes 64 bits with its padding.
 */
function messageHeader(bytes: Uint8Array<ArrayBuffer>, control: Uint8Array<ArrayBuffer>) {
  const iov = new Uint8Array(BigUint64Array.of(addressOf(bytes), BigInt(bytes.length)).buffer);
  const to = control.length > 0 ? addressOf(control) : 0n;
  const fields = BigUint64Array.of(0n, 0n, addressOf(iov), 1n, to, BigInt(control.length), 0n);
  return { header: new Uint8Array(fields.buffer), bytes, control, iov };
}

const MSG_CONTROLLEN = 5; // the index of the field

function addressOf(bytes: Uint8Array<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
}

function received(
  length: number,
  header: Uint8Array<ArrayBuffer>,
  bytes: Uint8Array<ArrayBuffer>,
  control: Uint8Array<ArrayBuffer>,
): Message {
  const filled = Number(new BigUint64Array(header.buffer)[MSG_CONTROLLEN]);
  const [end = 0, , , type, ...numbers] = new Int32Array(control.buffer); // struct cmsghdr, and the descriptors
  const count = length >= 0 && filled >= CMSGHDR && type === SCM_RIGHTS ? (end - CMSGHDR) / 4 : 0;
  const fds = numbers.slice(0, count).map((fd) => new OwnedFd(fd));
  return { bytes: bytes.subarray(0, Math.max(0, length)), fds };
}
