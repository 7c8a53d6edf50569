/**
 * What systemd is told about a service: sd_notify(3).
 *
 * @module
 */

import { sendDatagram } from "../../linux/syscalls/mod.ts";

/**
 * Sends a state to the service manager that has started this process, if it wants to know.
 *
 * @param state such as "READY=1".
 * @throws {SyscallError} if the service manager's socket does not take it.
 */
export function notifySystemd(state: string): void {
  if (Deno.permissions.querySync({ name: "env", variable: "NOTIFY_SOCKET" }).state !== "granted") return;
  const socket = Deno.env.get("NOTIFY_SOCKET");
  if (socket !== undefined && socket !== "") sendDatagram(socket, new TextEncoder().encode(state));
}
