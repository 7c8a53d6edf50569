/**
 * Mount namespaces as those of a systemd machine: `/` is shared, and a slave and a peer namespace are beside. They are
 * copies, so that nothing in them reaches the real machine.
 *
 * @module
 */

import { unshareArgs } from "./isolated.ts";

/** A mount namespace, held by a process that ends with this one. */
class Holder implements AsyncDisposable {
  private constructor(readonly child: Deno.ChildProcess) {}

  /** Starts the process with a command that creates the namespace, and waits until a shell in it is ready. */
  static async start(command: string[], prepare = "true"): Promise<Holder> {
    const [program = "", ...args] = [
      ...command,
      "sh",
      "-c",
      `${prepare} && echo ready && exec cat >/dev/null`,
    ];
    const child = new Deno.Command(program, { args, stdin: "piped", stdout: "piped" }).spawn();
    const reader = child.stdout.getReader();
    const { done } = await reader.read();
    await reader.cancel();
    if (!done) return new Holder(child);
    await child.stdin.close();
    throw new Error(`${program} ${args.join(" ")} exited with ${(await child.status).code}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child.stdin.close(); // ends cat
    await this.child.status;
  }
}

/** The three namespaces. */
export class SharedMachine implements AsyncDisposable {
  readonly #holders: AsyncDisposableStack;
  readonly #enter: string[];
  /** The name of the file in the directory for temporary files that is /dev/loop-control, as root. */
  static readonly LOOP_CONTROL = "loop-control";
  /** The pids of the processes in the slave and the peer namespace. */
  readonly beside: readonly number[];

  private constructor(holders: AsyncDisposableStack, enter: string[], beside: number[]) {
    this.#holders = holders;
    this.#enter = enter;
    this.beside = beside;
  }

  /**
   * Creates the namespaces; without root, also a new user namespace.
   *
   * @param userNamespace whether a user namespace is created.
   * @param temporary a directory that is /tmp there, so that machines beside each other don't see each other's files; as
   *   root, /dev/loop-control is another file of the same device too, for a lock on it holds up the others.
   */
  static async start(userNamespace: boolean, temporary?: string): Promise<SharedMachine> {
    await using holders = new AsyncDisposableStack();
    const hold = async (...args: Parameters<typeof Holder.start>) =>
      holders.use(await Holder.start(...args)).child.pid;
    const prepare: string[] = [];
    if (temporary !== undefined) {
      if (!userNamespace) {
        const { LOOP_CONTROL: file } = SharedMachine;
        // linux/miscdevice.h: LOOP_CTRL_MINOR is 237
        prepare.push(
          `mknod -m 660 ${temporary}/${file} c 10 237`,
          `mount --bind ${temporary}/${file} /dev/${file}`,
        );
      }
      prepare.push(`mount --bind ${temporary} /tmp`);
    }
    prepare.push("mount --make-rshared /"); // after the binds, which would be peers of `/`
    const first = await hold(["unshare", ...unshareArgs(userNamespace)], prepare.join(" && "));
    const user = userNamespace ? ["--user", "--preserve-credentials"] : [];
    const enter = ["nsenter", "--target", `${first}`, "--mount", ...user, `--wd=/proc/${first}/cwd`];
    const beside = async (propagation: string) =>
      await hold([...enter, "unshare", "--mount", "--propagation", propagation]);
    const pids = [await beside("slave"), await beside("unchanged")];
    return new SharedMachine(holders.move(), enter, pids);
  }

  /** Starts a command in the first namespace; with its output piped; its pid is that of the command. */
  spawn(command: string[], env: Record<string, string>): Deno.ChildProcess {
    const [program = "", ...args] = [...this.#enter, ...command];
    return new Deno.Command(program, { args, env, stdout: "piped" }).spawn();
  }

  /** Ends the processes, and the namespaces with them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#holders.disposeAsync();
  }
}
