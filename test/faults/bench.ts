/**
 * The test bench of one operation: its directory, its child, and the kernel's state before and after a run without faults.
 *
 * @module
 */

import { cleanupTempMounts, setTempMountLocation, unmountRecursive } from "../../mod.ts";
import { differences, type Look, look, lookUntil } from "./look.ts";
import { makeSources } from "../manager/everything.ts";
import { makeFiles, makeImage, type Operation } from "./operations.ts";
import { type Point, pointsOf } from "./points.ts";
import { Strace } from "./strace.ts";
import { Subject } from "./subject.ts";

const SETTLE_TIME = 800; // ms after which an unused loop device or FUSE server is gone
const SLEEPER_TIME = 4500; // ms after which the child of a user namespace exits by itself

/** The states of a run without faults. */
export interface Looks {
  /** The initial state. */
  clean: Look;
  /** After the preparation. */
  prepared: Look;
  /** After the operation. */
  made: Look;
}

/** An operation that is ready for faults. */
export class Bench implements AsyncDisposable {
  /** The points for faults. */
  points: Point[] = [];
  /** The states of a run without faults. */
  looks: Looks;
  #subject: Subject | undefined;

  private constructor(readonly operation: Operation, readonly dir: string) {
    const nothing = look(dir);
    this.looks = { clean: nothing, prepared: nothing, made: nothing };
  }

  /** Creates the files, and traces a run without faults to find the points. */
  static async open(operation: Operation, dir: string): Promise<Bench> {
    await makeFiles(dir);
    if (operation.tools?.includes("mkfs.ext4")) await makeImage(dir);
    if (operation.tools?.includes("mkfs.erofs")) await makeSources(dir);
    const bench = new Bench(operation, dir);
    await bench.#learn();
    return bench;
  }

  async #learn(): Promise<void> {
    const subject = await this.subject();
    const clean = await this.#stableLook();
    await this.must("prepare");
    const prepared = await this.#stableLook();
    const strace = await Strace.attach(subject.pid, "all", [], `${this.dir}/strace`);
    await this.must("run");
    const helpers = this.operation.tools?.includes("mount.fuse3") ?? false;
    this.points = pointsOf(await strace.detach(), subject.pid, helpers, this.operation.calls);
    const made = await this.#stableLook();
    await this.must("undo");
    this.looks = { clean, prepared, made };
    if (this.operation.takes || this.operation.changes) await this.cleanUp();
    const left = await this.differencesTo(clean);
    if (left.length > 0) throw new Error(`${this.operation.name}, without a fault: ${left.join("; ")}`);
  }

  /** A state that did not change for 50 ms. */
  async #stableLook(): Promise<Look> {
    for (let before = this.look();; before = this.look()) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      if (differences(this.look(), before).length === 0) return before;
    }
  }

  /** The child; a new one if the last one was killed. */
  async subject(): Promise<Subject> {
    return this.#subject ??= await Subject.start(this.operation.name, this.dir);
  }

  /** Lets the child run a step without a fault; throws if it fails. */
  async must(step: string): Promise<void> {
    const report = await (await this.subject()).request(step);
    const why = report === undefined ? "it ended" : report.error?.message;
    if (why !== undefined) throw new Error(`${step} after it: ${why}`);
  }

  /** Ends the child. */
  async dismiss(): Promise<void> {
    const subject = this.#subject;
    this.#subject = undefined;
    await subject?.end();
  }

  /** The current state. */
  look(): Look {
    return look(this.dir, this.#subject?.pid);
  }

  /** The differences to the expected state after some time; without a child, no open descriptors are expected. */
  async differencesTo(expected: Look, ms: number = SETTLE_TIME): Promise<string[]> {
    const wanted = this.#subject ? expected : { ...expected, descriptors: [] };
    const isExpected = (found: Look) => differences(found, wanted).length === 0;
    return differences(await lookUntil(() => this.look(), isExpected, ms), wanted);
  }

  /** The differences to the initial state after a kill, with time for the children to exit. */
  differencesAfterKill(): Promise<string[]> {
    return this.differencesTo(this.looks.clean, SLEEPER_TIME);
  }

  /** Runs the clean-ups of the library only; returns the messages of their errors. */
  async cleanUp(): Promise<string[]> {
    const errors = await oneAtATime(async () => {
      await setTempMountLocation(`${this.dir}/temporary`);
      return await cleanupTempMounts();
    });
    await unmountRecursive(`${this.dir}/target`);
    await this.operation.cleanUp?.();
    return errors.map(({ message }) => message);
  }

  /** Ends the child and removes the files. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dismiss();
    if (this.look().mounts.length === 0) await Deno.remove(this.dir, { recursive: true });
  }
}

let turn: Promise<unknown> = Promise.resolve();

/** Serializes clean-ups: all benches of the process share one temporary location. */
function oneAtATime<T>(work: () => Promise<T>): Promise<T> {
  const mine = turn.then(work, work);
  turn = mine.catch(() => {});
  return mine;
}
