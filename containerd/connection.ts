/**
 * One connection to containerd: calls with their headers, deadlines and signals.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import {
  Client,
  type ClientReadableStream,
  connectivityState,
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type GrpcCallOptions,
  type MessageInitShape,
  type MessageShape,
  Metadata,
  type ServiceError,
  status,
  toBinary,
} from "./deps.ts";
import { toError } from "./errors.ts";
import { unixCredentials } from "./goaway.ts";
import { checkTimeout } from "../linux/path/wait.ts";

/** How long a call waits. */
export interface CallOptions {
  /** The timeout of the call in milliseconds; that of the `Containerd` if left out. containerd cancels its work then. */
  readonly timeout?: number | undefined;
  /** Cancels the call, with its reason as the error. */
  readonly signal?: AbortSignal | undefined;
}

/** Where containerd is, and for whom it works. */
export interface ContainerdOptions {
  /** The path of containerd's socket; "/run/containerd/containerd.sock" if left out. */
  readonly address?: string;
  /** The namespace of the snapshots and activations; "default" if left out. Kubernetes uses "k8s.io". */
  readonly namespace?: string;
  /** The lease that keeps what the calls make from containerd's garbage collector. */
  readonly lease?: string;
  /** The timeout of a call in milliseconds; 60000 if left out. More than 2^31 - 1 means no timeout. */
  readonly timeout?: number;
}

/** A method of a service, with the types of its messages. */
export type Method<I extends DescMessage, O extends DescMessage> = DescMethod & { input: I; output: O };

const DEFAULT_TIMEOUT = 60_000; // ms; a commit may have to pack a file system
const LONGEST_TIMEOUT = 2 ** 31 - 1; // ms; a longer one never ends a call
const LARGEST_MESSAGE = 16 << 20; // containerd's own limit, defaults.DefaultMaxRecvMsgSize

/** A connection that is made at the first call, and made again if it broke. */
export class Connection {
  /** The path of the socket. */
  readonly address: string;
  /** The namespace of the calls. */
  readonly namespace: string;
  readonly #headers = new Metadata();
  readonly #timeout: number;
  #client: Client;
  #closed = false;

  /**
   * Opens nothing yet.
   *
   * @param options where containerd is, and for whom it works.
   * @throws {TypeError} for a relative path, a header that is not ASCII, and a timeout that is not a number.
   */
  constructor({ address, namespace = "default", lease, timeout = DEFAULT_TIMEOUT }: ContainerdOptions) {
    checkTimeout(timeout);
    this.address = socketPath(address ?? "/run/containerd/containerd.sock");
    this.namespace = namespace;
    this.#timeout = timeout;
    this.#headers.set("containerd-namespace", header(namespace, "namespace"));
    if (lease !== undefined) this.#headers.set("containerd-lease", header(lease, "lease"));
    this.#client = this.#connect();
  }

  #connect(): Client {
    return new Client(`unix://${this.address}`, unixCredentials(), {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.max_receive_message_length": LARGEST_MESSAGE,
      "grpc.max_send_message_length": LARGEST_MESSAGE,
    });
  }

  /** After a failed attempt the library waits a second or more before the next: a new client tries at once. */
  #ready(): Client {
    if (this.#closed) throw new TypeError("this Containerd is closed");
    if (this.#client.getChannel().getConnectivityState(false) === connectivityState.TRANSIENT_FAILURE) {
      this.#client.close();
      this.#client = this.#connect();
    }
    return this.#client;
  }

  /**
   * Calls a method that has one answer.
   *
   * @param method the method.
   * @param request its argument.
   * @param action what the call is to do, for the error.
   * @param options the timeout and the signal.
   * @returns the answer.
   * @throws {ContainerdError} if it fails.
   * @throws the signal's reason, if it is aborted.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    request: MessageInitShape<I>,
    action: string,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const { path, serialize, deserialize, message } = encoding(method, request);
    const { timeout, signal, grpc } = this.#limits(options);
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<O>>();
    const done = (error: ServiceError | null, answer?: MessageShape<O>) =>
      answer === undefined ? reject(error) : resolve(answer);
    const call = this.#ready().makeUnaryRequest(
      path,
      serialize,
      deserialize,
      message,
      this.#headers,
      grpc,
      done,
    );
    const cancel = () => call.cancel();
    signal?.addEventListener("abort", cancel);
    try {
      return await promise;
    } catch (error) {
      throw await this.#failure(error, action, timeout, signal);
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  /**
   * Calls a method that has many answers.
   *
   * @param method the method.
   * @param request its argument.
   * @param action what the call is to do, for the error.
   * @param options the timeout of the whole call and the signal.
   * @returns the answers; ending the loop early cancels the call.
   * @throws {ContainerdError} if it fails.
   * @throws the signal's reason, if it is aborted.
   */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    request: MessageInitShape<I>,
    action: string,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, void> {
    const { path, serialize, deserialize, message } = encoding(method, request);
    const { timeout, signal, grpc } = this.#limits(options);
    const call: ClientReadableStream<MessageShape<O>> = this.#ready()
      .makeServerStreamRequest(path, serialize, deserialize, message, this.#headers, grpc);
    const cancel = () => call.cancel();
    signal?.addEventListener("abort", cancel);
    try {
      for await (const answer of call) {
        signal?.throwIfAborted(); // also if the answer was received before
        yield answer;
      }
    } catch (error) {
      throw await this.#failure(error, action, timeout, signal);
    } finally {
      signal?.removeEventListener("abort", cancel);
      call.cancel();
    }
  }

  #limits({ timeout = this.#timeout, signal }: CallOptions) {
    checkTimeout(timeout);
    signal?.throwIfAborted();
    const grpc: GrpcCallOptions = timeout > LONGEST_TIMEOUT ? {} : { deadline: Date.now() + timeout };
    return { timeout, signal, grpc };
  }

  async #failure(
    error: unknown,
    action: string,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    if (!isServiceError(error)) return error;
    if (signal?.aborted && error.code === status.CANCELLED) return signal.reason;
    return await toError(error, action, { address: this.address, namespace: this.namespace, timeout });
  }

  /** Closes the connection; calls that run are cancelled. */
  close(): void {
    this.#closed = true;
    this.#client.close();
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error;
}

function encoding<I extends DescMessage, O extends DescMessage>(
  { parent, name, input, output }: Method<I, O>,
  request: MessageInitShape<I>,
) {
  return {
    path: `/${parent.typeName}/${name}`,
    message: create(input, request),
    serialize: (message: MessageShape<I>) => Buffer.from(toBinary(input, message)),
    deserialize: (bytes: Uint8Array) => fromBinary(output, bytes),
  };
}

function socketPath(address: string): string {
  const path = address.replace(/^unix:(\/\/(?=\/))?/, "");
  if (!path.startsWith("/")) {
    throw new TypeError(`containerd's address is the absolute path of a socket, not ${address}`);
  }
  return path;
}

/** HTTP/2 takes no other characters. */
function header(value: string, name: string): string {
  if (!/^[\x21-\x7e]+$/.test(value)) {
    throw new TypeError(`a ${name} is printable ASCII without spaces, not "${value}"`);
  }
  return value;
}
