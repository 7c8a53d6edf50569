/**
 * The numbers of signals.
 *
 * @module
 */

// asm-generic/signal.h, the same on x86-64 and arm64; the first is 1.
const names =
  `HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN
  TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS`.split(/\s+/);
const aliases: Readonly<Record<string, number>> = { SIGIOT: 6, SIGPOLL: 29, SIGINFO: 30, SIGUNUSED: 31 };

/**
 * The number of a signal.
 *
 * @param signal its name.
 * @returns its number.
 * @throws {TypeError} for what is no signal of Linux.
 */
export function signalNumber(signal: Deno.Signal): number {
  const number = aliases[signal] ?? names.indexOf(signal.replace(/^SIG/, "")) + 1;
  if (number === 0) throw new TypeError(`${signal} is no signal of Linux`);
  return number;
}
