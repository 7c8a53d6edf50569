/**
 * containerd's rules for snapshots, each written once: for the server, which holds them for any snapshotter, and for the
 * snapshotter of this library.
 *
 * @module
 */

import {
  AlreadyExistsError,
  type ContainerdFailure,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
} from "./errors.ts";
import type { SnapshotChange, SnapshotInfo } from "./snapshotter.ts";
import { shown } from "../ffi/text.ts";

const LONGEST_LABEL = 4096; // bytes of key and value together, as containerd's own

/**
 * Refuses a name or key that can't be recorded.
 *
 * @param name the name.
 * @param action what the call was to do.
 * @throws {InvalidArgumentError} if it is empty, has a NUL, or is no Unicode.
 */
export function refuseName(name: string, action: string): void {
  if (name !== "" && !name.includes("\0") && name.isWellFormed()) return;
  throw invalid(action, "the name of a snapshot has at least one character, and no NUL");
}

/**
 * The labels that are recorded.
 *
 * @param labels the labels of a call.
 * @param action what the call was to do.
 * @returns those with a value, as in containerd.
 * @throws {InvalidArgumentError} for an empty key, and a label that is too long for containerd.
 */
export function recordedLabels(
  labels: Readonly<Record<string, string>>,
  action: string,
): Record<string, string> {
  for (const [key, value] of Object.entries(labels)) {
    if (key === "") throw invalid(action, "a label has no key");
    const { length } = new TextEncoder().encode(key + value);
    if (length > LONGEST_LABEL) {
      throw invalid(
        action,
        `the label ${shown(key)} has ${length} bytes, at most ${LONGEST_LABEL} are allowed`,
      );
    }
  }
  return Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== ""));
}

/**
 * Requires a snapshot.
 *
 * @param info the snapshot, if there is one.
 * @param name the name that was looked up.
 * @param action what the call was to do.
 * @returns the snapshot.
 * @throws {NotFoundError} if there is none.
 */
export function requireFound<T>(info: T | undefined, name: string, action: string): T {
  if (info !== undefined) return info;
  throw new NotFoundError("NOT_FOUND", { action, details: `the snapshot ${shown(name)} does not exist` });
}

/**
 * Requires that a name is free. Keys and the names of committed snapshots are one space.
 *
 * @param existing the snapshot that has the name.
 * @param name the name.
 * @param action what the call was to do.
 * @throws {AlreadyExistsError} if a snapshot has it.
 */
export function requireFree(existing: unknown, name: string, action: string): void {
  if (existing === undefined) return;
  throw new AlreadyExistsError("ALREADY_EXISTS", {
    action,
    details: `the snapshot ${shown(name)} already exists`,
  });
}

type Kind = Pick<SnapshotInfo, "kind">;

/**
 * Requires a parent that others can be made on.
 *
 * @param info the parent, if there is one of that name.
 * @param parent its name.
 * @param action what the call was to do.
 * @throws {NotFoundError} if there is none.
 * @throws {InvalidArgumentError} if it is not committed.
 */
export function requireParent(info: Kind | undefined, parent: string, action: string): void {
  const { kind } = requireFound(info, parent, action);
  if (kind !== "committed") throw invalid(action, `the parent ${shown(parent)} is not committed`);
}

/**
 * Requires a snapshot that can be committed.
 *
 * @param info the snapshot.
 * @param key its key.
 * @param action what the call was to do.
 * @throws {FailedPreconditionError} if it is a view, or committed already.
 */
export function requireActive({ kind }: Kind, key: string, action: string): void {
  if (kind !== "active") throw failed(action, `the snapshot ${shown(key)} is not active but ${kind}`);
}

/**
 * Requires a snapshot that can be mounted.
 *
 * @param info the snapshot.
 * @param key its key.
 * @param action what the call was to do.
 * @throws {FailedPreconditionError} if it is committed.
 */
export function requireMountable({ kind }: Kind, key: string, action: string): void {
  if (kind === "active" || kind === "view") return;
  throw failed(action, `the snapshot ${shown(key)} is ${kind}: only active ones and views have mounts`);
}

/**
 * Requires that no snapshot is made on another.
 *
 * @param child the name of one that is made on it, if there is one.
 * @param action what the call was to do.
 * @throws {FailedPreconditionError} if there is one.
 */
export function requireChildless(child: string | undefined, action: string): void {
  if (child === undefined) return;
  throw failed(action, `remove the snapshots first that are made on it, such as ${shown(child)}`);
}

/**
 * The parent that a snapshot has once it is committed. One that was made without a parent can get one.
 *
 * @param before the parent that it was made on.
 * @param wanted the parent that the call names.
 * @param action what the call was to do.
 * @returns the name of the parent.
 * @throws {InvalidArgumentError} if it has another one already.
 */
export function parentAtCommit(before: string, wanted: string, action: string): string {
  if (wanted === "" || wanted === before) return before;
  if (before === "") return wanted;
  throw invalid(action, `it is made on ${shown(before)}, and can't get the parent ${shown(wanted)}`);
}

/**
 * The labels that a snapshot has after a change.
 *
 * @param before its labels.
 * @param change the change.
 * @param action what the call was to do.
 * @returns all of its labels; one with an empty value is removed.
 * @throws {InvalidArgumentError} for a path that is not of labels.
 */
export function changedLabels(
  before: Readonly<Record<string, string>>,
  { labels, paths = [] }: SnapshotChange,
  action: string,
): Record<string, string> {
  let after: Record<string, string> = paths.length === 0 ? { ...labels } : { ...before };
  for (const path of paths) {
    if (path === "labels") after = { ...labels };
    else if (path.startsWith("labels.")) {
      const key = path.slice("labels.".length);
      after[key] = labels[key] ?? "";
    } else throw invalid(action, `the field ${shown(path)} of a snapshot can't be changed, only its labels`);
  }
  return recordedLabels(after, action);
}

function invalid(action: string, details: string): InvalidArgumentError {
  return new InvalidArgumentError("INVALID_ARGUMENT", failure(action, details));
}

function failed(action: string, details: string): FailedPreconditionError {
  return new FailedPreconditionError("FAILED_PRECONDITION", failure(action, details));
}

const failure = (action: string, details: string): ContainerdFailure => ({ action, details });
