/**
 * Runs a program for which one system call fails, in all of its threads: they inherit a seccomp filter.
 *
 *     deno run -A test/syscalls/with_filter.ts NUMBER ERRNO PROGRAM ARGUMENT...
 *
 * @module
 */

import { refuseCall } from "../faults/seccomp.ts";

const [number, errno = "", ...command] = Deno.args;
const { symbols: libc } = Deno.dlopen("libc.so.6", {
  execv: { parameters: ["buffer", "buffer"], result: "i32" },
});
const words = command.map((word) => new TextEncoder().encode(`${word}\0`));
const addresses = words.map((word) => Deno.UnsafePointer.value(Deno.UnsafePointer.of(word)));
const [program = new Uint8Array(1)] = words;
refuseCall(Number(number), errno);
libc.execv(program, new BigUint64Array([...addresses, 0n]));
throw new Error(`${command[0]} could not be run`);
