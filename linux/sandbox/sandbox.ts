/**
 * A box from the options of a program.
 *
 * @module
 */

import { requirePermission } from "../../ffi/permission.ts";
import { checkWait } from "../path/wait.ts";
import type { Sandbox } from "./box.ts";
import { compileSteps } from "./compile.ts";
import type { SandboxOptions } from "./options.ts";
import { startBox } from "./start.ts";
import type { Life } from "./steps.ts";

/**
 * Starts a box, in which commands run without access to what the options don't name.
 *
 * A command has no capability, can gain none (no_new_privs), has a session and a session keyring of its own, no descriptor
 * but its three, and ends with this process. Root's box has no user namespace: without one there are no id maps, and the
 * mounts of its `root` may be any; a command of it has user id 0 and no capability. Another user's box has one that maps
 * their own id, so that what is theirs on this machine is theirs inside, and nothing else.
 *
 * It is one kernel, without a filter of system calls: see SECURITY.md for what it is not.
 *
 * Needs the permissions `ffi` and `run`, util-linux' unshare, Linux 5.12; CAP_SYS_ADMIN or the right to make user
 * namespaces, and for these Linux 5.12, and 6.6 for an `overlay` in memory.
 *
 * @param options what the box may do.
 * @returns the box, which ends with its `using` scope.
 * @throws {TypeError} for options that contradict each other.
 * @throws {SandboxError} with the reason and what to do, if the box can't be made as it is asked for. Nothing is left then.
 *
 * @example
 * ```ts
 * import { sandbox } from "@denomount/mount/sandbox";
 *
 * const project = await Deno.makeTempDir();
 * {
 *   await using box = await sandbox({ writable: [project], hidden: [`${project}/.git/hooks`], cwd: project });
 *   await box.spawn("sh", { args: ["-c", "echo made in the box > file"] }).status;
 * }
 * console.log(await Deno.readTextFile(`${project}/file`));
 * await Deno.remove(project, { recursive: true });
 * ```
 */
export async function sandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const { timeout, signal, network = false, hostname, cwd } = options;
  checkWait({ timeout, signal });
  requirePermission({ name: "ffi" });
  const life: Life = { network, hostname, ids: idsOf(options), cwd, env: environment(options) };
  const { steps, holds } = await compileSteps(options);
  return await startBox(steps, life, { timeout, signal, holds });
}

function idsOf({ uid, gid, uidMap, gidMap }: SandboxOptions): Life["ids"] {
  if (uidMap !== undefined || gidMap !== undefined) {
    if (uidMap === undefined || gidMap === undefined) throw new TypeError("uidMap and gidMap go together");
    if (uid !== undefined || gid !== undefined) {
      throw new TypeError("uid and gid are for a box without uidMap");
    }
    return { uidMap, gidMap };
  }
  if (uid === undefined && gid === undefined) return undefined;
  for (const id of [uid, gid]) {
    if (id !== undefined && !(Number.isSafeInteger(id) && id >= 0 && id < NO_ID)) {
      throw new TypeError(`${id} is no user or group id`);
    }
  }
  return { uid: uid ?? gid ?? 0, gid: gid ?? uid ?? 0 };
}

const NO_ID = 2 ** 32 - 1; // uid_t -1

const PASSED = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TERM"]
  .concat("COLORTERM", "TZ");

/** A token of this process is none of the box's business. */
function environment({ env = {}, clearEnv = false }: SandboxOptions): Record<string, string> {
  const passed: Record<string, string> = {};
  for (const variable of clearEnv ? [] : PASSED) {
    if (Deno.permissions.querySync({ name: "env", variable }).state !== "granted") continue;
    const value = Deno.env.get(variable);
    if (value !== undefined) passed[variable] = value;
  }
  if (!clearEnv) passed["PATH"] ??= "/usr/local/bin:/usr/bin:/bin";
  return { ...passed, ...env };
}
