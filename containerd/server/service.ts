/**
 * containerd's Snapshots service over a snapshotter.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import {
  create,
  type DescMessage,
  fromBinary,
  type HandleServerStreamingCall,
  type HandleUnaryCall,
  type MessageInitShape,
  type MessageShape,
  type ServerWritableStream,
  type ServiceDefinition,
  toBinary,
  type UntypedServiceImplementation,
} from "../deps.ts";
import { ListSnapshotsResponseSchema, Snapshots } from "../api/snapshots_pb.ts";
import type { Method } from "../connection.ts";
import { fromInfo, fromMounts } from "../convert.ts";
import type { SnapshotInfo, Snapshotter } from "../snapshotter.ts";
import { toStatus } from "./status.ts";

const PAGE = 100; // snapshots in a message, as containerd sends them

/** The parts of a service that the gRPC library takes. */
export interface Service {
  /** The paths of the methods, and how their messages are written. */
  readonly definition: ServiceDefinition;
  /** The methods. */
  readonly implementation: UntypedServiceImplementation;
}

/**
 * Makes the service of a snapshotter.
 *
 * @param snapshotter the snapshotter.
 * @returns the service.
 */
export function snapshotsService(snapshotter: Snapshotter): Service {
  const { method } = Snapshots;
  const all: Parts = { definition: {}, implementation: {} };
  unary(all, method.prepare, async ({ key, parent, labels }, signal) => ({
    mounts: fromMounts(await snapshotter.prepare(key, parent, { labels, signal })),
  }));
  unary(all, method.view, async ({ key, parent, labels }, signal) => ({
    mounts: fromMounts(await snapshotter.view(key, parent, { labels, signal })),
  }));
  unary(all, method.mounts, async ({ key }, signal) => ({
    mounts: fromMounts(await snapshotter.mounts(key, { signal })),
  }));
  unary(all, method.commit, async ({ name, key, labels, parent }, signal) => {
    await snapshotter.commit(name, key, { labels, parent, signal });
    return {};
  });
  unary(all, method.remove, async ({ key }, signal) => {
    await snapshotter.remove(key, { signal });
    return {};
  });
  unary(all, method.stat, async ({ key }, signal) => ({
    info: fromInfo(await snapshotter.stat(key, { signal })),
  }));
  unary(all, method.update, async ({ info, updateMask }, signal) => {
    const { name = "", labels = {} } = info ?? {};
    const change = { labels, paths: updateMask?.paths ?? [] };
    return { info: fromInfo(await snapshotter.update(name, change, { signal })) };
  });
  unary(all, method.usage, async ({ key }, signal) => {
    const { size, inodes } = await snapshotter.usage(key, { signal });
    return { size: BigInt(size), inodes: BigInt(inodes) };
  });
  unary(all, method.cleanup, async (_request, signal) => {
    await snapshotter.cleanup({ signal });
    return {};
  });
  addList(all, snapshotter);
  return all;
}

interface Parts {
  definition: Record<string, ServiceDefinition[string]>;
  implementation: UntypedServiceImplementation;
}

function unary<I extends DescMessage, O extends DescMessage>(
  { definition, implementation }: Parts,
  method: Method<I, O>,
  answer: (request: MessageShape<I>, signal: AbortSignal) => Promise<MessageInitShape<O>>,
): void {
  const handle: HandleUnaryCall<MessageShape<I>, MessageShape<O>> = (call, callback) => {
    const abort = new AbortController();
    let isAnswered = false;
    // The gRPC library emits it at the end of every call.
    call.on("cancelled", () => {
      if (!isAnswered) abort.abort(new DOMException("the client has cancelled the call", "AbortError"));
    });
    answer(call.request, abort.signal).then(
      (message) => {
        isAnswered = true;
        callback(null, create(method.output, message));
      },
      (error) => {
        isAnswered = true;
        callback(toStatus(error));
      },
    );
  };
  definition[method.localName] = describe(method, false);
  implementation[method.localName] = handle;
}

function addList({ definition, implementation }: Parts, snapshotter: Snapshotter): void {
  const handle: HandleServerStreamingCall<
    MessageShape<typeof Snapshots.method.list.input>,
    MessageShape<typeof Snapshots.method.list.output>
  > = (call) => {
    const abort = new AbortController();
    call.on(
      "cancelled",
      () => abort.abort(new DOMException("the client has cancelled the call", "AbortError")),
    );
    const { filters } = call.request;
    sendPages(call, snapshotter.list({ filters, signal: abort.signal }), abort.signal).then(
      () => call.end(),
      (error) => call.emit("error", toStatus(error)), // as the gRPC library takes the status of a stream
    );
  };
  definition["list"] = describe(Snapshots.method.list, true);
  implementation["list"] = handle;
}

async function sendPages(
  call: ServerWritableStream<unknown, MessageShape<typeof ListSnapshotsResponseSchema>>,
  infos: AsyncIterable<SnapshotInfo>,
  signal: AbortSignal,
): Promise<void> {
  let page: ReturnType<typeof fromInfo>[] = [];
  const send = async () => {
    const isFull = !call.write(create(ListSnapshotsResponseSchema, { info: page }));
    page = [];
    if (isFull) await drained(call, signal);
  };
  for await (const info of infos) {
    if (signal.aborted) return;
    page.push(fromInfo(info));
    if (page.length === PAGE) await send();
  }
  if (page.length > 0) await send();
}

/** Waits until the client has read what was sent, or is gone. */
function drained(call: ServerWritableStream<unknown, unknown>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    call.once("drain", resolve);
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function describe<I extends DescMessage, O extends DescMessage>(
  { parent, name, input, output }: Method<I, O>,
  responseStream: boolean,
): ServiceDefinition[string] {
  return {
    path: `/${parent.typeName}/${name}`,
    requestStream: false,
    responseStream,
    requestSerialize: (message: MessageShape<I>) => Buffer.from(toBinary(input, message)),
    requestDeserialize: (bytes: Uint8Array) => fromBinary(input, bytes),
    responseSerialize: (message: MessageShape<O>) => Buffer.from(toBinary(output, message)),
    responseDeserialize: (bytes: Uint8Array) => fromBinary(output, bytes),
  };
}
