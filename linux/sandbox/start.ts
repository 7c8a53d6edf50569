/**
 * Starting a box: the stage in new namespaces, and all that it needs.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { requirePermission } from "../../ffi/permission.ts";
import { ensureServerAnswers } from "../mountinfo/served.ts";
import { withTimeout } from "../path/wait.ts";
import {
  memfdCreate,
  realpath,
  sendMessage,
  setCloseOnExec,
  socketPair,
  tryReceiveMessage,
  writeAll,
} from "../syscalls/mod.ts";
import { usesMountSetattr, whatSetattrNeeds } from "../syscalls/features.ts";
import { type OverlayLayer, Sandbox } from "./box.ts";
import { SandboxError, startError } from "./error.ts";
import { Holds } from "./holds.ts";
import { mapsOf, writeMaps } from "./maps.ts";
import { encode, type Failure, MESSAGE_SIZE, type Ready, STAGE } from "./protocol.ts";
import type { IdRanges, Life, Plan, Step } from "./steps.ts";
import { explainUnshare, stageCommand } from "./unshare.ts";

/** How long the start of a box may take, and what is removed when it ends. */
export interface StartOptions {
  /** The timeout in milliseconds; 30 seconds if left out. */
  readonly timeout?: number | undefined;
  /** Ends the start, with its reason as the error. */
  readonly signal?: AbortSignal | undefined;
  /** Directories of the host that the box makes to mount on, removed after it if they are empty. */
  readonly holds?: readonly string[];
}

const TIMEOUT = 30_000; // ms

/**
 * Starts a box from its ordered steps.
 *
 * Needs the permissions `ffi` and `run`; CAP_SYS_ADMIN or the right to make user namespaces; Linux 5.12.
 *
 * @param steps what makes its root directory, in order.
 * @param life what its processes share with the host.
 * @param options the timeout, the signal, and directories to remove.
 * @returns the box.
 * @throws {SandboxError} if it can't be made. Nothing is left of it.
 */
export async function startBox(
  steps: readonly Step[],
  life: Life,
  options: StartOptions = {},
): Promise<Sandbox> {
  const { timeout = TIMEOUT, signal, holds = [] } = options;
  requirePermission({ name: "ffi" });
  signal?.throwIfAborted();
  if (Deno.args[0] === STAGE) { // else it would start itself without an end
    throw new SandboxError(
      "this process was started as the stage of a box: call sandboxStage() first in the program",
    );
  }
  if (!usesMountSetattr()) {
    throw new SandboxError(`a sandbox needs ${whatSetattrNeeds()}`, { code: "ENOSYS" });
  }
  await ensureLayersAnswer(steps, options);
  const maps = life.ids && "uidMap" in life.ids ? mapsOf(life.ids) : undefined; // refused before anything starts
  const [own, theirs] = socketPair();
  const held = new OwnedFds();
  held.add(own);
  try {
    const { stage, plan } = startStage(steps, life, theirs);
    let removed: Holds | undefined;
    try {
      removed = new Holds(holds, stage.child.pid);
      sendPlan(own, plan); // only now can the stage make anything
      const ready = await withTimeout(stage.ready(own, maps), { timeout, signal }, "sandbox");
      const layers = receiveLayers(own, ready, held);
      return new Sandbox({
        control: own,
        child: stage.child,
        removed,
        layers,
        cwd: ready.cwd,
        env: life.env,
        info: ready.info,
      });
    } catch (error) {
      await stage.kill();
      await removed?.[Symbol.asyncDispose]();
      signal?.throwIfAborted();
      if (isErrno(error, "ETIMEDOUT")) throw lateError(timeout);
      throw error;
    }
  } catch (error) {
    held[Symbol.dispose]();
    throw error;
  } finally {
    theirs.close();
  }
}

/** The kernel asks the file system of a lower layer when an overlay is made; the stage could only be waited for. */
async function ensureLayersAnswer(steps: readonly Step[], { timeout, signal }: StartOptions): Promise<void> {
  for (const step of steps) {
    if (step.kind !== "overlay") continue;
    for (const layer of step.lower) await ensureServerAnswers(layer, { timeout, signal });
  }
}

function lateError(timeout: number): SandboxError {
  const reason =
    `it was not ready after ${timeout} ms; a server on the way to one of its paths may not answer`;
  return new SandboxError(`the box can't be started: ${reason}`, { code: "ETIMEDOUT" });
}

function startStage(steps: readonly Step[], life: Life, theirs: OwnedFd): { stage: Stage; plan: Plan } {
  const { command: [program, ...args], devpts, ranges } = stageCommand(life, steps, theirs.fd);
  requirePermission({ name: "run", command: program });
  const plan: Plan = {
    steps,
    hostname: life.hostname,
    bringUpLoopback: !life.network,
    waitsForMaps: ranges !== undefined,
    devpts,
    cwd: life.cwd ?? currentDirectory(),
    cwdIsOptional: life.cwd === undefined,
    cwdElse: life.cwdElse,
    disableUserNamespaces: life.disableUserNamespaces,
    reportsInfo: life.reportsInfo,
  };
  // The call that starts the program returns when it is executed. A child of another thread may get a copy for a moment.
  setCloseOnExec(theirs.fd, false);
  try {
    const child = new Deno.Command(program, {
      args,
      ...stageEnvironment(),
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      detached: true, // a terminal's Ctrl-C is for this process
    }).spawn();
    return { stage: new Stage(child), plan };
  } finally {
    setCloseOnExec(theirs.fd, true);
  }
}

function sendPlan(own: OwnedFd, plan: Plan): void {
  using file = memfdCreate("plan");
  writeAll(file.fd, encode(plan));
  sendMessage(own.fd, encode("plan"), [file.fd]);
}

/** The working directory, also if the permission to read it is missing; "/" if it was removed. */
function currentDirectory(): string {
  try {
    return realpath(".");
  } catch (error) {
    if (isErrno(error, "ENOENT", "EACCES")) return "/";
    throw error;
  }
}

/**
 * What Deno needs to find its cache, where this process may read its environment; else it is inherited whole. No command
 * sees it.
 */
function stageEnvironment(): { env: Record<string, string>; clearEnv: boolean } {
  const env: Record<string, string> = { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };
  if (Deno.permissions.querySync({ name: "env" }).state !== "granted") return { env, clearEnv: false };
  for (const name of ["PATH", "HOME", "DENO_DIR", "XDG_CACHE_HOME", "LD_LIBRARY_PATH"]) {
    const value = Deno.env.get(name);
    if (value !== undefined) env[name] = value;
  }
  return { env, clearEnv: true };
}

/** The stage while the box starts. */
class Stage {
  readonly child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #said: Promise<string>;

  constructor(child: Deno.ChildProcess) {
    this.child = child;
    this.#lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#said = readShort(child.stderr);
  }

  /** Waits until the root directory is made. */
  async ready(own: OwnedFd, maps: IdRanges | undefined): Promise<Ready> {
    for await (const word of this.#words()) {
      if (word.failed) throw startError(word.failed);
      if (word.maps && maps) sendMessage(own.fd, encode(await writeMaps(this.child.pid, maps)));
      if (word.ready) {
        // An open pipe would keep the event loop of this process from its end.
        await this.#lines.cancel();
        this.child.unref();
        return word.ready;
      }
    }
    throw explainUnshare(await this.#said);
  }

  async *#words(): AsyncGenerator<{ failed?: Failure; maps?: true; ready?: Ready }> {
    let text = "";
    for (let chunk = await this.#lines.read(); !chunk.done; chunk = await this.#lines.read()) {
      const lines = (text + chunk.value).split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) yield JSON.parse(line);
    }
  }

  /** unshare(1) has its child killed. */
  async kill(): Promise<void> {
    try {
      this.child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended
    }
    await this.#lines.cancel().catch(() => {});
    await this.child.status;
    await this.#said;
  }
}

const LONGEST = 4000; // characters that are kept of what a program prints

async function readShort(stream: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    if (text.length < LONGEST) text += chunk;
  }
  return text.slice(0, LONGEST);
}

function receiveLayers(own: OwnedFd, { overlays }: Ready, held: OwnedFds): OverlayLayer[] {
  const { fds } = tryReceiveMessage(own.fd, MESSAGE_SIZE);
  for (const fd of fds) held.add(fd);
  return overlays.flatMap((overlay, index) => {
    const upper = fds[index];
    return upper ? [{ ...overlay, upper }] : [];
  });
}
