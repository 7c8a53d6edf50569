/**
 * One operation on the bench: its directory, its child, and what is there before and after it when nothing fails.
 *
 * @module
 */

import { cleanupTempMounts, setTempMountLocation, unmountRecursive } from "../../mod.ts";
import { differences, type Look, look, lookUntil } from "./look.ts";
import { makeFiles, makeImage, type Operation } from "./operations.ts";
import { type Point, pointsOf } from "./points.ts";
import { Strace } from "./strace.ts";
import { Subject } from "./subject.ts";

const SETTLES = 800; // ms in which a loop device or a FUSE server that is no longer used goes
const SLEEPER = 4500; // ms in which the child of a user namespace ends by itself

/** The looks of a run that nothing harms. */
export interface Looks {
  /** Before everything. */
  clean: Look;
  /** Before the operation. */
  prepared: Look;
  /** After it. */
  made: Look;
}

/** An operation, ready to be harmed. */
export class Bench implements AsyncDisposable {
  /** Where it can be harmed. */
  points: Point[] = [];
  /** What is there when nothing harms it. */
  looks: Looks;
  #subject: Subject | undefined;

  private constructor(readonly operation: Operation, readonly dir: string) {
    const nothing = look(dir);
    this.looks = { clean: nothing, prepared: nothing, made: nothing };
  }

  /** Makes its files, and runs it unharmed once more than its child does, to learn what it calls. */
  static async open(operation: Operation, dir: string): Promise<Bench> {
    await makeFiles(dir);
    if (operation.tools?.includes("mkfs.ext4")) await makeImage(dir);
    const bench = new Bench(operation, dir);
    await bench.#learn();
    return bench;
  }

  async #learn(): Promise<void> {
    const subject = await this.subject();
    const clean = await this.#steadyLook();
    await this.must("prepare");
    const prepared = await this.#steadyLook();
    const strace = await Strace.attach(subject.pid, "all", [], `${this.dir}/strace`);
    await this.must("run");
    const helpers = this.operation.tools?.includes("mount.fuse3") ?? false;
    this.points = pointsOf(await strace.detach(), subject.pid, helpers);
    const made = await this.#steadyLook();
    await this.must("undo");
    this.looks = { clean, prepared, made };
    if (this.operation.takes || this.operation.changes) await this.cleanUp();
    const left = await this.differencesTo(clean);
    if (left.length > 0) throw new Error(`${this.operation.name}, unharmed: ${left.join("; ")}`);
  }

  /** A look that two looks agree on. */
  async #steadyLook(): Promise<Look> {
    for (let before = this.look();; before = this.look()) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      if (differences(this.look(), before).length === 0) return before;
    }
  }

  /** The child; another one where the last was killed. */
  async subject(): Promise<Subject> {
    return this.#subject ??= await Subject.start(this.operation.name, this.dir);
  }

  /** Has the child make a step that nothing harms. */
  async must(step: string): Promise<void> {
    const report = await (await this.subject()).tell(step);
    const why = report === undefined ? "it ended" : report.error?.message;
    if (why !== undefined) throw new Error(`${step} after it: ${why}`);
  }

  /** Lets the child go, dead or alive. */
  async dismiss(): Promise<void> {
    const subject = this.#subject;
    this.#subject = undefined;
    await subject?.end();
  }

  /** What is there now. */
  look(): Look {
    return look(this.dir, this.#subject?.pid);
  }

  /** What is otherwise than expected, after a moment's grace; without a child nothing is expected to be open. */
  async differencesTo(expected: Look, ms: number = SETTLES): Promise<string[]> {
    const wanted = this.#subject ? expected : { ...expected, descriptors: [] };
    const isExpected = (found: Look) => differences(found, wanted).length === 0;
    return differences(await lookUntil(() => this.look(), isExpected, ms), wanted);
  }

  /** The same after a kill, where more may end by itself. */
  differencesAfterKill(): Promise<string[]> {
    return this.differencesTo(this.looks.clean, SLEEPER);
  }

  /** The clean-ups that the library has, and no more than these. Returns what they could not take. */
  async cleanUp(): Promise<string[]> {
    const errors = await oneAtATime(async () => {
      await setTempMountLocation(`${this.dir}/temporary`);
      return await cleanupTempMounts();
    });
    await unmountRecursive(`${this.dir}/target`);
    await this.operation.cleanUp?.();
    return errors.map(({ message }) => message);
  }

  /** Ends the child, and removes the files. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dismiss();
    if (this.look().mounts.length === 0) await Deno.remove(this.dir, { recursive: true });
  }
}

let turn: Promise<unknown> = Promise.resolve();

/** The library has one temporary location for the process, and several benches stand in it. */
function oneAtATime<T>(work: () => Promise<T>): Promise<T> {
  const mine = turn.then(work, work);
  turn = mine.catch(() => {});
  return mine;
}
