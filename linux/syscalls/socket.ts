/**
 * Datagrams to a Unix socket: socket(2) and sendto(2).
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { encodeName } from "../../ffi/text.ts";

const AF_UNIX = 1; // linux/socket.h
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000; // linux/net.h
const MSG_NOSIGNAL = 0x4000; // linux/socket.h
const SIZE_OF_SUN_PATH = 108; // struct sockaddr_un, linux/un.h

/**
 * socket(2) and sendto(2): sends one datagram to a Unix socket.
 *
 * Needs the permission `ffi`.
 *
 * @param path the socket's path; "@" and a name for one in the abstract namespace.
 * @param bytes the datagram.
 * @throws {SyscallError} with the call's errno; ECONNREFUSED if no process has the socket.
 *
 * @example
 * ```ts
 * import { isErrno, sendDatagram } from "@denomount/mount/linux";
 *
 * try {
 *   sendDatagram("@no-such-socket", new TextEncoder().encode("READY=1"));
 * } catch (error) {
 *   if (!isErrno(error, "ECONNREFUSED")) throw error;
 * }
 * ```
 */
export function sendDatagram(path: string, bytes: Uint8Array<ArrayBuffer>): void {
  const name = encodeName(path);
  if (name.length >= SIZE_OF_SUN_PATH) {
    throw new TypeError(`the path of a socket has 107 bytes at most: ${path}`);
  }
  const address = new Uint8Array(2 + name.length + (path.startsWith("@") ? 0 : 1)); // struct sockaddr_un
  new DataView(address.buffer).setUint16(0, AF_UNIX, true); // sun_family
  address.set(name, 2);
  if (path.startsWith("@")) address[2] = 0;
  using socket = new OwnedFd(check(libc().socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0), errno[0], "socket"));
  const sent = libc().sendto(socket.fd, bytes, BigInt(bytes.length), MSG_NOSIGNAL, address, address.length);
  check(sent, errno[0], "sendto", path);
}
