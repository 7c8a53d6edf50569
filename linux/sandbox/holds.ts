/**
 * Directories of the host that are made so that something can be mounted on them, removed after the box.
 *
 * A shell waits for the end of the box and removes them: also if this process is killed. It asks for the lock that each
 * box has on such a directory, so it leaves one that another box has found there and relies on.
 *
 * @module
 */

import { requireProgram } from "./unshare.ts";

// The lines are the paths. When the last is read, this process has closed the pipe or was killed; then it waits for the
// end of the box, whose commands could else make what the directory keeps them from.
const SCRIPT = `
box=$1 rmdir=$2 flock=$3
shift 3
while IFS= read -r path; do set -- "$path" "$@"; done
tries=0
while kill -0 "$box" 2>/dev/null && [ $tries -lt 500 ]; do tries=$((tries + 1)); sleep 0.01; done
for path; do "$flock" --exclusive --nonblock "$path" "$rmdir" -- "$path" 2>/dev/null; done
exit 0`;

/** The directories of one box. */
export class Holds implements AsyncDisposable {
  readonly #shell: Deno.ChildProcess | undefined;
  readonly #input: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>> | undefined;

  /**
   * Starts the shell, if there is a directory.
   *
   * @param directories their canonical paths.
   * @param box the process whose end is waited for.
   */
  constructor(directories: readonly string[], box: number) {
    if (directories.length === 0) return;
    const programs = [requireProgram("rmdir"), requireProgram("flock")];
    this.#shell = new Deno.Command(requireProgram("sh"), {
      args: ["-c", SCRIPT, "sh", String(box), ...programs],
      clearEnv: true,
      env: { PATH: "/usr/bin:/bin" },
      stdin: "piped",
      stdout: "null",
      stderr: "null",
      detached: true,
    }).spawn();
    this.#shell.unref();
    this.#input = this.#shell.stdin.getWriter();
    this.#input.write(new TextEncoder().encode(directories.map((path) => `${path}\n`).join(""))).catch(
      () => {},
    );
  }

  /** Has the directories removed. The box must have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#shell === undefined) return;
    await this.#input?.close().catch(() => {});
    this.#shell.ref();
    await this.#shell.status;
  }
}
