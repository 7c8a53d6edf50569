/**
 * Running the command in this process: a call takes milliseconds, and a test sees the descriptors that it leaves open.
 *
 * @module
 */

import process from "node:process";
import { main } from "../../cli.ts";
import type { Output } from "./command.ts";

/** What the command's standard streams are. */
export interface Streams {
  /** Standard input. */
  input?: string;
  /** Whether standard output and standard error are terminals. */
  isTerminal?: boolean;
  /** Takes the place of write(2) on standard output; returns the number of bytes written. */
  write?: (bytes: Uint8Array) => number;
  /** The same for standard error. */
  writeError?: (bytes: Uint8Array) => number;
}

const writeAll = (bytes: Uint8Array) => bytes.length;

/** Runs the command until it returns; its output goes to the result alone. */
export async function command(
  args: readonly string[],
  { input = "", isTerminal = false, write = writeAll, writeError = writeAll }: Streams = {},
): Promise<Output> {
  const output = { out: "", err: "" };
  const keep = (stream: "out" | "err", write: (bytes: Uint8Array) => number) => {
    const decoder = new TextDecoder();
    return (bytes: Uint8Array) => {
      const written = write(bytes);
      output[stream] += decoder.decode(bytes.subarray(0, written), { stream: true });
      return written;
    };
  };
  const writeText = (text: string) => (output.err += text, true);
  using _streams = replaced([
    [Deno.stdin, { readable: new Blob([input]).stream() }],
    [Deno.stdout, { writeSync: keep("out", write), isTerminal: () => isTerminal }],
    [Deno.stderr, { writeSync: keep("err", writeError), isTerminal: () => isTerminal }],
    [process.stderr, { write: writeText }], // the argument parser writes its errors here
    [process.stdout, { write: (text: string) => (output.out += text, true) }],
  ]);
  return { code: await main(args), ...output };
}

/** Replaces properties of objects until it is disposed. */
function replaced(changes: readonly [object: object, properties: Record<string, unknown>][]): Disposable {
  const before = changes.flatMap(([object, properties]) =>
    Object.keys(properties).map((name) => ({
      object,
      name,
      own: Object.getOwnPropertyDescriptor(object, name),
    }))
  );
  for (const [object, properties] of changes) {
    for (const [name, value] of Object.entries(properties)) {
      Object.defineProperty(object, name, { value, configurable: true, writable: true });
    }
  }
  return {
    [Symbol.dispose]() {
      for (const { object, name, own } of before) {
        delete (object as Record<string, unknown>)[name];
        if (own !== undefined) Object.defineProperty(object, name, own);
      }
    },
  };
}

/** Writes a list of mounts to a file; returns its path. */
export function listFile(dir: string, mounts: readonly unknown[], name = "list.json"): string {
  Deno.writeTextFileSync(`${dir}/${name}`, JSON.stringify(mounts));
  return `${dir}/${name}`;
}
