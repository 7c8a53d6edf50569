/**
 * The loopback interface of a box's own network namespace.
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { ioctlStruct } from "../syscalls/mod.ts";

const AF_INET = 2; // linux/socket.h
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000; // linux/net.h
const SIOCGIFFLAGS = 0x8913; // linux/sockios.h
const SIOCSIFFLAGS = 0x8914;
const IFF_UP = 1; // linux/if.h
const IFREQ = 40; // sizeof(struct ifreq)
const IFNAMSIZ = 16;

/** Brings the loopback interface up, so that programs can connect to themselves. */
export function bringUpLoopback(): void {
  using socket = new OwnedFd(check(libc().socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), errno[0], "socket"));
  const request = new Uint8Array(new ArrayBuffer(IFREQ));
  request.set(new TextEncoder().encode("lo")); // ifr_name
  const view = new DataView(request.buffer);
  ioctlStruct(socket.fd, SIOCGIFFLAGS, request);
  view.setInt16(IFNAMSIZ, view.getInt16(IFNAMSIZ, true) | IFF_UP, true); // ifr_flags
  ioctlStruct(socket.fd, SIOCSIFFLAGS, request);
}
