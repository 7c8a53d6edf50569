/**
 * Makes a system call fail, by a seccomp filter on the main thread. strace 6.1 can't inject a failure of statmount(2),
 * because it does not know the call.
 *
 * @module
 */

import { errnoNumber } from "../../ffi/errno.ts";

const PR_SET_SECCOMP = 22; // linux/prctl.h
const SECCOMP_MODE_FILTER = 2n; // linux/seccomp.h
const SECCOMP_RET_KILL_PROCESS = 0x80000000;
const SECCOMP_RET_ERRNO = 0x00050000;
const SECCOMP_RET_ALLOW = 0x7fff0000;
const BPF_LD_W_ABS = 0x20; // linux/bpf_common.h
const BPF_JMP_JEQ_K = 0x15;
const BPF_RET_K = 0x06;
const SYS_statmount = 457; // asm-generic/unistd.h

/** Makes statmount(2) fail with the named errno, or kills the process for "KILL". */
export function refuse(how: string): void {
  refuseCall(SYS_statmount, how);
}

/** Makes the system call with a number fail with the named errno, or kills the process for "KILL". */
export function refuseCall(number: number, how: string): void {
  const action = how === "KILL" ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | errnoNumber(how);
  const filter = program([
    [BPF_LD_W_ABS, 0, 0, 0], // seccomp_data.nr
    [BPF_JMP_JEQ_K, 0, 1, number],
    [BPF_RET_K, 0, 0, action],
    [BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW],
  ]);
  const libc = Deno.dlopen("libc.so.6", {
    prctl: { parameters: ["i32", "u64", "buffer", "u64", "u64"], result: "i32" },
  });
  const result = libc.symbols.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter.head, 0n, 0n);
  if (result < 0) throw new Error(`no seccomp filter could be set, of ${filter.instructions.length} bytes`);
}

/** struct sock_fprog, and the array of struct sock_filter that it points to. */
function program(lines: [code: number, yes: number, no: number, value: number][]) {
  const instructions = new Uint8Array(8 * lines.length);
  const view = new DataView(instructions.buffer);
  for (const [index, [code, yes, no, value]] of lines.entries()) {
    view.setUint16(8 * index, code, true);
    view.setUint8(8 * index + 2, yes);
    view.setUint8(8 * index + 3, no);
    view.setUint32(8 * index + 4, value >>> 0, true);
  }
  const head = new Uint8Array(16);
  const fields = new DataView(head.buffer);
  fields.setUint16(0, lines.length, true);
  fields.setBigUint64(8, Deno.UnsafePointer.value(Deno.UnsafePointer.of(instructions)), true);
  return { head, instructions };
}
