/**
 * Runs a Deno program in a mount namespace of its own: as root in one of root's, as anybody else in a user namespace.
 *
 *     deno run -A scripts/isolated.ts examples/demo.ts
 *     deno run -A scripts/isolated.ts --deno-test --doc mod.ts
 *
 * @module
 */

/** How unshare(1) is to be called: with `-U` where a user namespace gives the right to mount. */
export function unshareArgs(userNamespace: boolean): string[] {
  return [...(userNamespace ? ["-Ur"] : []), "-m", "--propagation", "private"];
}

/** Why no namespace can be made here, as one line; undefined where one can. */
export async function obstacle(userNamespace: boolean): Promise<string | undefined> {
  try {
    const args = [...unshareArgs(userNamespace), "true"];
    const { success, stderr } = await new Deno.Command("unshare", { args, stderr: "piped" }).output();
    if (success) return undefined;
    const said = new TextDecoder().decode(stderr).trim();
    return userNamespace
      ? `user namespaces are forbidden here (${said}): run as root, or see the sysctls ` +
        "user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns"
      : `a mount namespace can't be made here (${said}): run with CAP_SYS_ADMIN`;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "unshare is missing: install the package util-linux";
    throw error;
  }
}

/** Runs a command in namespaces of its own, passes signals on, and returns its exit status. */
export async function runIsolated(
  command: string[],
  userNamespace: boolean,
  env: Record<string, string> = {},
): Promise<number> {
  const child = new Deno.Command("unshare", { args: [...unshareArgs(userNamespace), ...command], env })
    .spawn();
  const pass = (signal: Deno.Signal) => () => child.kill(signal);
  const terminate = pass("SIGTERM");
  const nothing = () => {}; // the terminal sends Ctrl-C to the child itself; here it is waited for
  Deno.addSignalListener("SIGTERM", terminate);
  Deno.addSignalListener("SIGINT", nothing);
  try {
    return (await child.status).code;
  } finally {
    Deno.removeSignalListener("SIGTERM", terminate);
    Deno.removeSignalListener("SIGINT", nothing);
  }
}

if (import.meta.main) {
  const userNamespace = Deno.uid() !== 0;
  const why = await obstacle(userNamespace);
  if (why !== undefined) {
    console.error(why);
    Deno.exit(1);
  }
  const [first, ...rest] = Deno.args;
  const command = first === "--deno-test" ? ["test", "-A", ...rest] : ["run", "-A", ...Deno.args];
  Deno.exit(await runIsolated([Deno.execPath(), ...command], userNamespace));
}
