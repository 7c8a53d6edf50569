/**
 * A terminal of a box's own for a command: a pseudoterminal of the box's /dev/pts, and the other end of it here.
 *
 * The command can't reach the terminal of this process by it: what it puts into its own with TIOCSTI, only it reads.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { O_RDWR } from "../syscalls/constants.ts";
import { ioctlStruct, open, readOffThread, writeOffThread } from "../syscalls/mod.ts";

const TIOCSWINSZ = 0x5414; // asm-generic/ioctls.h
const TIOCGPTN = 0x80045430;
const TIOCSPTLCK = 0x40045431;
const O_NOCTTY = 0o400; // asm-generic/fcntl.h
const CHUNK = 64 * 1024; // bytes

/** The size of a terminal. */
export interface TerminalSize {
  /** Its width in characters. */
  readonly columns: number;
  /** Its height in characters. */
  readonly rows: number;
}

/**
 * Opens a new pseudoterminal of the box, in its first process.
 *
 * @param size its size.
 * @returns the end for the process that has started the box, and the other one: open, so that a read does not find the
 * terminal without a user before the command has opened it, and its path.
 * @throws {SyscallError} ENOENT without a minimal /dev.
 */
export function openTerminal(size: TerminalSize): { terminal: OwnedFd; inside: OwnedFd; path: string } {
  using opened = new DisposableStack();
  const terminal = opened.use(open("/dev/pts/ptmx", O_RDWR));
  const number = new Int32Array(new ArrayBuffer(4));
  const bytes = new Uint8Array(number.buffer);
  ioctlStruct(terminal.fd, TIOCSPTLCK, bytes); // 0 unlocks it
  ioctlStruct(terminal.fd, TIOCGPTN, bytes);
  resize(terminal.fd, size);
  const path = `/dev/pts/${number[0]}`;
  const inside = open(path, O_RDWR | O_NOCTTY);
  opened.move();
  return { terminal, inside, path };
}

function resize(fd: number, { columns, rows }: TerminalSize): void {
  const size = new Uint16Array([rows, columns, 0, 0]); // struct winsize
  ioctlStruct(fd, TIOCSWINSZ, new Uint8Array(size.buffer));
}

/**
 * The terminal of a command in a box, seen from outside.
 *
 * @example
 * ```ts
 * import { sandbox } from "@denomount/mount/sandbox";
 *
 * await using box = await sandbox();
 * const child = box.spawn("tty", { terminal: { columns: 80, rows: 24 } });
 * using terminal = await child.terminal;
 * await child.status;
 * await box.close(); // the output ends when the last process closes the terminal
 * console.log(await new Response(terminal.readable).text()); // /dev/pts/0
 * ```
 */
export class BoxTerminal implements Disposable {
  readonly #fd: OwnedFd;
  #calls = 0;
  #isDisposed = false;
  /** What the command prints. It ends when no process of the box has the terminal open. */
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** What is typed. Ctrl-C is the byte 3. */
  readonly writable: WritableStream<Uint8Array<ArrayBuffer>>;

  /**
   * Use `SandboxProcess.terminal`.
   *
   * @param fd the open terminal.
   * @ignore
   */
  constructor(fd: OwnedFd) {
    this.#fd = fd;
    this.readable = new ReadableStream({
      pull: async (controller) => {
        const bytes = new Uint8Array(new ArrayBuffer(CHUNK));
        const length = await this.#call(() => readOffThread(fd.fd, bytes)); // -1, EIO, at the end
        if (length > 0) controller.enqueue(bytes.subarray(0, length));
        else controller.close();
      },
    }, { highWaterMark: 0 });
    this.writable = new WritableStream({
      write: async (bytes) => {
        for (let at = 0; at < bytes.length;) {
          const rest = bytes.slice(at);
          const length = await this.#call(() => writeOffThread(fd.fd, rest));
          if (length <= 0) return; // the command has ended
          at += length;
        }
      },
    });
  }

  /** The descriptor stays open during a call: its number could be that of another file else. */
  async #call(call: () => Promise<number>): Promise<number> {
    if (this.#isDisposed) return 0;
    this.#calls++;
    try {
      return await call();
    } finally {
      if (--this.#calls === 0 && this.#isDisposed) this.#fd.close();
    }
  }

  /**
   * Sets the size. The command gets SIGWINCH. Needs the permission `ffi`.
   *
   * @param size the size.
   */
  resize(size: TerminalSize): void {
    if (!this.#isDisposed) resize(this.#fd.fd, size);
  }

  /** Closes this end, when a read that waits has ended: the command gets SIGHUP. Needs the permission `ffi`. */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (this.#calls === 0) this.#fd.close();
  }
}
