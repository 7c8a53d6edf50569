/**
 * The stage: this library in a process of its own, which unshare(1) has started in new namespaces as the first process
 * (PID 1) of the box. It makes the root directory, gives up every right, and then starts the commands that it is asked for.
 *
 * The commands get their descriptors from the process that asks, so the stage passes no data on. When that process ends,
 * even by SIGKILL, the socket to it is closed and the stage exits; the kernel then kills all processes of the PID namespace.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { OwnedFd as Fd } from "../../ffi/fd.ts";
import { O_DIRECTORY, O_RDONLY, O_RDWR, O_WRONLY } from "../syscalls/constants.ts";
import {
  dropCapabilities,
  dup2,
  getdents64,
  isCloseOnExec,
  joinSessionKeyring,
  lseekStart,
  open,
  posixSpawn,
  type Program,
  readAll,
  readlink,
  receiveMessage,
  sendMessage,
  setCloseOnExec,
  setHostname,
  setIds,
  setNoNewPrivs,
  setUndumpable,
  signalGroup,
  waitidAny,
  write,
} from "../syscalls/mod.ts";
import { buildRoot, StepError } from "./build.ts";
import type { LoadMountAll } from "./building.ts";
import { bringUpLoopback } from "./loopback.ts";
import {
  decode,
  encode,
  failureOf,
  MESSAGE_SIZE,
  type Order,
  type Ready,
  type Request,
  STAGE,
} from "./protocol.ts";
import type { BoxInfo, Plan } from "./steps.ts";
import { openTerminal, type TerminalSize } from "./terminal.ts";

/**
 * Runs the stage of a box, if this process was started to be one; else it returns at once. It never returns in a stage.
 *
 * @param loadMountAll loads what a box with other mounts needs. A box without them starts twice as quickly without it.
 */
export async function runStage(loadMountAll?: LoadMountAll): Promise<void> {
  const [word, control = ""] = Deno.args;
  if (word !== STAGE || !/^\d+$/.test(control)) return;
  try {
    await run(new Fd(Number(control)), loadMountAll);
  } catch (error) {
    say({ failed: failureOf(error, error instanceof StepError ? error.step : undefined) });
    Deno.exit(1);
  }
  Deno.exit(0);
}

/** Tells the process that has started the stage something, by standard output. */
function say(word: unknown): void {
  write(1, encode(word, "\n"));
}

async function run(control: OwnedFd, loadMountAll?: LoadMountAll): Promise<void> {
  setCloseOnExec(control.fd, true);
  closeInherited();
  using nothing = open("/dev/null", O_RDWR);
  const plan = await receivePlan(control);
  if (plan.waitsForMaps) await waitForMaps(control);
  const info = plan.reportsInfo ? ownInfo() : undefined;
  if (plan.disableUserNamespaces) disableUserNamespaces();
  const { overlays } = await buildRoot(plan, loadMountAll);
  if (plan.hostname !== undefined) setHostname(plan.hostname);
  if (plan.bringUpLoopback) bringUpLoopback();
  const cwd = workingDirectory(plan);
  confine();
  const ready: Ready = { overlays: overlays.map(({ upper: _, ...overlay }) => overlay), cwd, info };
  sendMessage(control.fd, encode(""), overlays.map(({ upper }) => upper.fd));
  say({ ready }); // after it, for the message is then received without waiting
  for (const { upper } of overlays) upper.close();
  for (const number of [0, 1, 2]) dup2(nothing.fd, number);
  await new Init(control).serve();
}

/** Descriptors that the starting process had open for its children are of the host. Deno's own are close-on-exec. */
function closeInherited(): void {
  using directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
  for (const fd of getdents64(directory.fd).map(Number)) {
    if (fd > 2 && fd !== directory.fd && !isCloseOnExec(fd)) new Fd(fd).close();
  }
}

async function receivePlan(control: OwnedFd): Promise<Plan> {
  const { fds: [file] } = await receiveMessage(control.fd, MESSAGE_SIZE);
  if (file === undefined) Deno.exit(1); // the starting process has ended
  using _file = file;
  return decode(contentOf(file)) as Plan;
}

function contentOf({ fd }: OwnedFd): Uint8Array {
  lseekStart(fd); // the offset is shared with the process that has written it
  return readAll(fd);
}

/** The process that has started the stage writes the maps, and says which ids to take. */
async function waitForMaps(control: OwnedFd): Promise<void> {
  say({ maps: true });
  const { bytes } = await receiveMessage(control.fd, MESSAGE_SIZE);
  if (bytes.length === 0) Deno.exit(1);
  const { uid, gid } = decode(bytes) as { uid?: number; gid?: number };
  if (uid !== undefined && gid !== undefined) setIds(uid, gid);
}

/** The proc file system of the starting process is mounted still, and has that process's pids. */
function ownInfo(): BoxInfo {
  const names = ["ipc", "mnt", "net", "pid", "uts", "cgroup"];
  const links = names.map((name) => [name, readlink(`/proc/self/ns/${name}`)] as const);
  return {
    pid: Number(readlink("/proc/self")),
    namespaces: Object.fromEntries(links.map(([name, link]) => [name, Number(/\d+/.exec(link)?.[0])])),
  };
}

/** The file shows the limit of the reader's own user namespace. A process without CAP_SYS_RESOURCE can't change it. */
function disableUserNamespaces(): void {
  using limit = open("/proc/sys/user/max_user_namespaces", O_WRONLY);
  write(limit.fd, new TextEncoder().encode("0"), "max_user_namespaces");
}

function workingDirectory(
  { cwd, cwdIsOptional, cwdElse }: Pick<Plan, "cwd" | "cwdIsOptional" | "cwdElse">,
): string {
  try {
    Deno.chdir(cwd);
  } catch (error) {
    if (cwdIsOptional) return cwdElse === undefined ? "/" : workingDirectory({ cwd: cwdElse, cwdIsOptional });
    throw new Error(`the working directory ${cwd} is not in the box`, { cause: error });
  }
  Deno.chdir("/");
  return cwd;
}

/**
 * Gives up every right, on this thread: it is the one that starts the commands, and they inherit its state. The other
 * threads of the runtime keep theirs; no command can reach them, because the process can't be traced.
 */
function confine(): void {
  try {
    joinSessionKeyring();
  } catch (error) {
    if (!isErrno(error, "ENOSYS")) throw error; // a kernel without keyrings, or a filter that forbids them
  }
  dropCapabilities();
  setNoNewPrivs();
  setUndumpable(); // last: a change of credentials resets it
}

/** The first process of the box, once its root directory is made. */
class Init {
  readonly #control: OwnedFd;
  readonly #commands = new Map<number, { pid: number; report: OwnedFd }>();

  constructor(control: OwnedFd) {
    this.#control = control;
  }

  /** Carries out its orders, until the other end is closed. */
  async serve(): Promise<void> {
    Deno.addSignalListener("SIGCHLD", () => this.#reap());
    for (;;) {
      const { bytes, fds } = await receiveMessage(this.#control.fd, MESSAGE_SIZE);
      if (bytes.length === 0) return;
      const order = decode(bytes) as Order;
      if ("kill" in order) this.#kill(order.kill, order.signal);
      else this.#start(order.run, fds);
    }
  }

  #kill(id: number, signal: number): void {
    const command = this.#commands.get(id); // it has not been waited for, so the pid is still its own
    if (command) signalGroup(command.pid, signal);
  }

  #start(id: number, [request, stdin, stdout, stderr, report, failures, socket]: readonly OwnedFd[]): void {
    if (!request || !stdin || !stdout || !stderr || !report || !failures) return;
    try {
      const command = decode(contentOf(request)) as Request;
      const pid = socket && command.terminal
        ? startOnTerminal(command, socket, command.terminal)
        : start(command, [stdin.fd, stdout.fd, stderr.fd]);
      this.#commands.set(id, { pid, report });
    } catch (error) {
      write(failures.fd, encode(failureOf(error)));
      tell(report, "exit 127");
    } finally {
      for (const fd of [request, stdin, stdout, stderr, failures, socket]) fd?.close();
    }
  }

  /** Processes whose parent has ended are children of the first process too. */
  #reap(): void {
    for (let ended = waitidAny(); ended !== undefined; ended = waitidAny()) {
      for (const [id, { pid, report }] of this.#commands) {
        if (pid !== ended.pid) continue;
        this.#commands.delete(id);
        tell(report, ended.signal === undefined ? `exit ${ended.code}` : `signal ${ended.signal}`);
      }
    }
  }
}

/** Starts a program on a new terminal, and gives the other end of it to the process that asks. */
function startOnTerminal(command: Request, socket: OwnedFd, size: TerminalSize): number {
  const { terminal, inside, path } = openTerminal(size);
  using _terminal = terminal;
  using _inside = inside;
  sendMessage(socket.fd, encode(path), [terminal.fd]);
  return start(command, path);
}

/** Starts a program: a path, or a name that is looked up as execvp(3) does, in the PATH of the program's environment. */
function start(
  { command, argv0 = command, args, cwd, env }: Request,
  stdio: Program["stdio"],
): number {
  Deno.chdir(cwd);
  try {
    const candidates = command.includes("/")
      ? [command]
      : (env["PATH"] ?? DEFAULT_PATH).split(":").map((directory) => `${directory || "."}/${command}`);
    let failure: unknown;
    for (const path of candidates) {
      try {
        return posixSpawn({ path, args: [argv0, ...args], env, stdio });
      } catch (error) {
        if (!isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) throw error;
        if (failure === undefined || isErrno(error, "EACCES")) failure = error;
      }
    }
    throw !command.includes("/") && isErrno(failure, "ENOENT", "ENOTDIR")
      ? new SyscallError({
        syscall: "execve",
        errno: failure.errno,
        path: command,
        reason: `no such program in ${env["PATH"]}`,
      })
      : failure;
  } finally {
    Deno.chdir("/");
  }
}

const DEFAULT_PATH = "/usr/bin:/bin"; // as that of execvp(3)

/** Tells the carrier of a command how it has ended. */
function tell(report: OwnedFd, word: string): void {
  using _report = report;
  try {
    write(report.fd, new TextEncoder().encode(`${word}\n`));
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // EPIPE: the carrier was killed
  }
}

// The file itself is what `deno run` starts.
if (import.meta.main) {
  await runStage();
}
