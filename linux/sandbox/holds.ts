/**
 * Directories of the host that are made so that something can be mounted on them, removed after the box.
 *
 * A shell waits for the end of the box and removes them: also if this process is killed. It asks for the lock that each
 * box has on such a directory, so it leaves one that another box has found there and relies on.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { requirePermission } from "../../ffi/permission.ts";
import { encodeName } from "../../ffi/text.ts";
import { pipe, setCloseOnExec, write } from "../syscalls/mod.ts";
import { requireProgram } from "./unshare.ts";

// The lines are the paths. When the last is read, this process has closed the pipe or was killed; then it waits for the
// end of the box, whose commands could else make what the directory keeps them from. A zombie (Z) has ended: who adopts the
// orphan may never wait for it. flock(1) would make a file of a path that was never made.
const SCRIPT = `
box=$1 rmdir=$2 flock=$3
exec 0<"/proc/self/fd/$4"
shift 4
while IFS= read -r path; do set -- "$path" "$@"; done
tries=0
while [ $tries -lt 500 ] && { read -r stat <"/proc/$box/stat"; } 2>/dev/null; do
  case $stat in *") Z "*) break ;; esac
  tries=$((tries + 1))
  sleep 0.01
done
for path; do [ -d "$path" ] && "$flock" --exclusive --nonblock "$path" "$rmdir" -- "$path" 2>/dev/null; done
exit 0`;

/** The directories of one box. */
export class Holds implements AsyncDisposable {
  readonly #shell: Deno.ChildProcess | undefined;
  readonly #lifeline: OwnedFd | undefined;

  /**
   * Starts the shell, if there is a directory. Nothing may be made before it returns.
   *
   * @param directories their canonical paths.
   * @param box the process whose end is waited for.
   */
  constructor(directories: readonly string[], box: number) {
    if (directories.length === 0) return;
    const programs = [requireProgram("rmdir"), requireProgram("flock")];
    const sh = requireProgram("sh");
    requirePermission({ name: "run", command: sh });
    const [from, to] = pipe();
    using _from = from;
    setCloseOnExec(from.fd, false);
    this.#lifeline = to;
    this.#shell = new Deno.Command(sh, {
      args: ["-c", SCRIPT, "sh", String(box), ...programs, String(from.fd)],
      clearEnv: true,
      env: { PATH: "/usr/bin:/bin" },
      stdin: "null",
      stdout: "null",
      stderr: "null",
      detached: true,
    }).spawn();
    this.#shell.unref();
    for (const path of directories) write(to.fd, encodeName(`${path}\n`)); // the shell reads while this waits
  }

  /** Has the directories removed. The box must have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#shell === undefined) return;
    this.#lifeline?.close();
    this.#shell.ref();
    await this.#shell.status;
  }
}
