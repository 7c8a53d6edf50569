/**
 * Runs a Deno program in a private mount namespace; without root, also in a new user namespace.
 *
 *     deno run -A scripts/isolated.ts examples/demo.ts
 *     deno run -A scripts/isolated.ts --deno-test --doc mod.ts
 *
 * @module
 */

/** The arguments for unshare(1). */
export function unshareArgs(userNamespace: boolean): string[] {
  return [...(userNamespace ? ["-Ur"] : []), "-m", "--propagation", "private"];
}

/** Why unshare(1) can't create the namespaces, as one line; undefined if it can. */
export async function obstacle(userNamespace: boolean): Promise<string | undefined> {
  try {
    const args = [...unshareArgs(userNamespace), "true"];
    const { success, stderr } = await new Deno.Command("unshare", { args, stderr: "piped" }).output();
    if (success) return undefined;
    const message = new TextDecoder().decode(stderr).trim();
    return userNamespace
      ? `user namespaces are forbidden (${message}): run as root, or see the sysctls ` +
        "user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns"
      : `can't create a mount namespace (${message}): run with CAP_SYS_ADMIN`;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "unshare(1) is missing: install the package util-linux";
    throw error;
  }
}

/** Runs a command in private namespaces, forwards SIGTERM, and returns its exit status. */
export async function runIsolated(
  command: string[],
  userNamespace: boolean,
  env: Record<string, string> = {},
): Promise<number> {
  const child = new Deno.Command("unshare", { args: [...unshareArgs(userNamespace), ...command], env })
    .spawn();
  using _signals = forwardSignals(child);
  return (await child.status).code;
}

/** Forwards SIGTERM to a child, and ignores SIGINT, until the end of the scope. */
export function forwardSignals(child: Deno.ChildProcess): Disposable {
  const terminate = () => child.kill("SIGTERM");
  const ignore = () => {}; // the terminal sends SIGINT to the child too
  Deno.addSignalListener("SIGTERM", terminate);
  Deno.addSignalListener("SIGINT", ignore);
  return {
    [Symbol.dispose]() {
      Deno.removeSignalListener("SIGTERM", terminate);
      Deno.removeSignalListener("SIGINT", ignore);
    },
  };
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
