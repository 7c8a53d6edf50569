/**
 * The bytes of an HTTP/2 connection, without the peer's GOAWAY frames.
 *
 * A GOAWAY makes Deno's node:http2 free an idle session while nghttp2 still works on the frame, which then reads and
 * frees memory that is in use again: the process dies by SIGSEGV (Deno 2.9, denoland/deno#36788). The peer closes the
 * connection after a GOAWAY, which ends the session as well.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Duplex } from "node:stream";
import { type ChannelCredentials, credentials } from "./deps.ts";

const PREFACE = 24; // bytes that a client sends before its first frame; RFC 9113, section 3.4
const HEADER = 9; // bytes: length (24 bits), type, flags, stream; RFC 9113, section 4.1
const GOAWAY = 7; // RFC 9113, section 6.8

/** Removes GOAWAY frames from a stream of bytes that comes in any pieces. */
export class GoawayFilter {
  #before: number; // bytes of the preface that are still to come
  readonly #header = new Uint8Array(HEADER);
  #read = 0; // bytes of the header that have come
  #payload = 0; // bytes of the frame's payload that are still to come
  #isDropped = false;

  /**
   * Begins with the first byte of a connection.
   *
   * @param from the peer; only a client's bytes begin with a preface.
   */
  constructor(from: "client" | "server") {
    this.#before = from === "client" ? PREFACE : 0;
  }

  /**
   * Filters the next bytes.
   *
   * @param bytes the bytes, of which nothing is changed.
   * @returns those that remain. A header that is not complete remains with its last byte.
   */
  filter(bytes: Uint8Array): Uint8Array {
    const kept: Uint8Array[] = [];
    const keep = (part: Uint8Array) => part.length > 0 && kept.push(part);
    let at = Math.min(this.#before, bytes.length);
    this.#before -= at;
    keep(bytes.subarray(0, at));
    while (at < bytes.length) {
      if (this.#payload > 0) {
        const part = bytes.subarray(at, at + this.#payload);
        if (!this.#isDropped) keep(part);
        this.#payload -= part.length;
        at += part.length;
      } else {
        const part = bytes.subarray(at, at + HEADER - this.#read);
        this.#header.set(part, this.#read);
        this.#read += part.length;
        at += part.length;
        if (this.#read === HEADER) this.#begin(keep);
      }
    }
    const [only] = kept;
    return kept.length === 1 && only !== undefined ? only : Buffer.concat(kept);
  }

  #begin(keep: (part: Uint8Array) => void): void {
    const [high = 0, middle = 0, low = 0, type] = this.#header;
    this.#read = 0;
    this.#payload = high << 16 | middle << 8 | low;
    this.#isDropped = type === GOAWAY;
    if (!this.#isDropped) keep(this.#header.slice());
  }
}

/**
 * Makes a socket deliver no GOAWAY frames.
 *
 * @param socket a socket that has delivered nothing yet.
 * @param from the peer of the connection.
 */
export function dropGoaway(socket: Duplex, from: "client" | "server"): void {
  const filter = new GoawayFilter(from);
  const push = socket.push.bind(socket);
  socket.push = (bytes: Uint8Array | null, ...rest) => push(bytes && filter.filter(bytes), ...rest);
}

/**
 * Credentials for a Unix socket, whose connections deliver no GOAWAY frames.
 *
 * @returns the credentials of one client.
 */
export function unixCredentials(): ChannelCredentials {
  const insecure = credentials.createInsecure();
  const create = insecure._createSecureConnector.bind(insecure); // the only place that has a connection's socket
  insecure._createSecureConnector = (...args) => {
    const connector = create(...args);
    const connect = connector.connect.bind(connector);
    connector.connect = (socket) => {
      dropGoaway(socket, "server");
      return connect(socket);
    };
    return connector;
  };
  return insecure;
}
