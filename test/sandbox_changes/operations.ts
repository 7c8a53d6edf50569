/**
 * Random operations on a tree, by a seed.
 *
 * @module
 */

import { type Bytes, files, join, types, utf8 } from "./files.ts";

/** A source of random numbers that gives the same ones for the same seed (mulberry32). */
export class Random {
  #state: number;

  /** Begins with a seed. */
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** An integer below a limit. */
  below(limit: number): number {
    this.#state = this.#state + 0x6d2b79f5 >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ t >>> 15, t | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return ((t ^ t >>> 14) >>> 0) % limit;
  }

  /** One of some values. */
  of<T>(values: readonly T[]): T {
    const value = values[this.below(values.length)];
    if (value === undefined) throw new Error("nothing to choose from");
    return value;
  }
}

const names: readonly Bytes[] = [
  ...["a", "b", "c", "dir", "é", "two words", "new\nline", "-rf", ".hidden", "%41", "..."].map(utf8),
  Uint8Array.from([0x66, 0xff, 0xfe]), // no UTF-8
  new Uint8Array(255).fill(0x6e), // NAME_MAX
  Uint8Array.from({ length: 255 }, (_, index) => 0x80 + index % 0x40),
];

/** Which operations the process may do. */
export interface Abilities {
  /** Whether it may make devices, change owners and set `trusted.` attributes. */
  isRoot: boolean;
}

/**
 * Does one random operation. It may fail, as for a name that does not exist.
 *
 * @param root the tree.
 * @param random decides.
 * @param abilities what the process may do.
 */
export function operate(root: string, random: Random, { isRoot }: Abilities): void {
  const path = () => join(root, ...Array.from({ length: 1 + random.below(3) }, () => random.of(names)));
  const content = () => Uint8Array.from({ length: random.below(3000) }, () => random.below(256));
  const all: (() => unknown)[] = [
    () => files.write(path(), content()),
    () => files.write(path(), content()),
    () => files.write(path(), content(), random.below(3) * 1_000_000), // a hole before it
    () => files.truncate(path(), random.below(100_000)),
    () => files.mkdir(path(), 0o700 + random.below(0o100)),
    () => files.mkdir(path()),
    () => files.mkdir(path()),
    () => files.rmdir(path()),
    () => files.unlink(path()),
    () => files.remove(path()),
    () => {
      const replaced = path();
      files.remove(replaced);
      files.mkdir(replaced);
    },
    () => {
      const replaced = path();
      files.remove(replaced);
      files.write(replaced, content());
    },
    () => files.rename(path(), path()),
    () => files.rename(path(), path()),
    () => files.link(path(), path()),
    () => files.link(path(), path()),
    () => files.symlink(random.of([utf8("/etc/passwd"), ...names, join("..", "..", "x")]), path()),
    () => files.mknod(path(), random.of([types.fifo, types.socket])),
    () => files.chmod(path(), random.below(0o10000) | 0o400 | (isRoot ? 0 : 0o300)),
    () => files.setxattr(path(), random.of(["user.a", "user.é"]), content().subarray(0, 200)),
    () => files.removexattr(path(), "user.a"),
    () => files.utimens(path(), random.of([0, -2, 1_700_000_000, 9_000_000_000]), random.below(1e9)),
  ];
  if (isRoot) {
    all.push(
      () => files.mknod(path(), types.char, 1, 3),
      () => files.mknod(path(), types.block, 7, 200),
      () => files.chown(path(), random.of([0, 1000, 4_000_000]), random.of([0, 1000, 3_000_000_000])),
      () => files.setxattr(path(), "trusted.b", content().subarray(0, 100)),
    );
  }
  random.of(all)();
}
