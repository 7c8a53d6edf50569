/**
 * Mounts snapshots of containerd: requests the mounts of a snapshot from a running containerd over gRPC and mounts them,
 * where `ctr snapshots mounts` prints shell commands.
 *
 *     sudo deno run -A examples/containerd.ts mounts KEY           prints them as JSON
 *     sudo deno run -A examples/containerd.ts mount KEY TARGET
 *     sudo deno run -A examples/containerd.ts umount KEY TARGET
 *     sudo deno run -A examples/containerd.ts layer FILE           lets containerd mount the list in the file, and make
 *                                                                  an image layer of it
 *
 * CONTAINERD_ADDRESS, CONTAINERD_NAMESPACE and CONTAINERD_SNAPSHOTTER have the same meaning as for ctr.
 *
 * @module
 */

// deno-lint-ignore-file no-import-prefix
import { Buffer } from "node:buffer";
import { Client, credentials, Metadata } from "npm:@grpc/grpc-js@1.14.7";
import protobuf from "npm:protobufjs@7.6.6";
import { type Mount, mountAll, unmountMounts } from "../mod.ts";

// The required part of containerd's API, with its names and numbers.
const api = new protobuf.Root();
const definitions = [
  `package containerd.types;
   message Mount { string type = 1; string source = 2; string target = 3; repeated string options = 4; }
   message Descriptor { string media_type = 1; string digest = 2; int64 size = 3; }`,
  `package containerd.services.snapshots.v1;
   service Snapshots { rpc Mounts(MountsRequest) returns (MountsResponse); }
   message MountsRequest { string snapshotter = 1; string key = 2; }
   message MountsResponse { repeated containerd.types.Mount mounts = 1; }`,
  `package containerd.services.diff.v1;
   service Diff { rpc Diff(DiffRequest) returns (DiffResponse); }
   message DiffRequest {
     repeated containerd.types.Mount left = 1;
     repeated containerd.types.Mount right = 2;
     string media_type = 3;
     string ref = 4;
     map<string, string> labels = 5;
   }
   message DiffResponse { containerd.types.Descriptor diff = 3; }`,
];
for (const text of definitions) protobuf.parse(`syntax = "proto3"; ${text}`, api, { keepCase: true });

/** containerd.types.Mount, with all fields set. */
interface ContainerdMount {
  type: string;
  source: string;
  target: string;
  options: string[];
}

/** Our mount as containerd's API has it. */
function toContainerd({ type, source, target = "", options = [] }: Mount): ContainerdMount {
  return { type, source, target, options: [...options] };
}

/** Converts a mount of containerd's API. */
function fromContainerd({ type, source, target, options }: ContainerdMount): Mount {
  return { type, source, options, ...target === "" ? {} : { target } };
}

/** A client of a running containerd. */
class Containerd implements Disposable {
  readonly #client: Client;
  readonly #metadata = new Metadata();
  readonly #snapshotter: string;

  constructor(environment: { get(name: string): string | undefined }) {
    const address = environment.get("CONTAINERD_ADDRESS") ?? "/run/containerd/containerd.sock";
    this.#client = new Client(`unix://${address}`, credentials.createInsecure());
    this.#metadata.set("containerd-namespace", environment.get("CONTAINERD_NAMESPACE") ?? "default");
    this.#snapshotter = environment.get("CONTAINERD_SNAPSHOTTER") ?? "overlayfs";
  }

  /** The mounts of a snapshot. */
  async mounts(key: string): Promise<Mount[]> {
    const request = { snapshotter: this.#snapshotter, key };
    const { mounts } = await this.#call<{ mounts: ContainerdMount[] }>(
      "snapshots.v1.Snapshots",
      "Mounts",
      request,
    );
    return mounts.map(fromContainerd);
  }

  /** Makes a layer of the mounted files in containerd's content store; returns its digest. */
  async layer(mounts: readonly Mount[]): Promise<string> {
    const request = {
      right: mounts.map(toContainerd),
      media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
      ref: `layer-${crypto.randomUUID()}`,
      labels: { "containerd.io/gc.root": new Date().toISOString() }, // keeps the layer from garbage collection
    };
    return (await this.#call<{ diff: { digest: string } }>("diff.v1.Diff", "Diff", request)).diff.digest;
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  #call<Response>(service: string, name: string, request: object): Promise<Response> {
    const definition = api.lookupService(`containerd.services.${service}`);
    const method = definition.methods[name];
    if (method === undefined) throw new TypeError(`${service} has no ${name}`);
    const requestType = definition.lookupType(method.requestType);
    const responseType = definition.lookupType(method.responseType);
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/containerd.services.${service}/${name}`,
        (message: object) => Buffer.from(requestType.encode(message).finish()),
        (bytes) => responseType.toObject(responseType.decode(bytes), { defaults: true }) as Response,
        request,
        this.#metadata,
        (error, answer) =>
          error ? reject(new Error(`containerd: ${error.details}`)) : resolve(answer as Response),
      );
    });
  }
}

const usage = "usage: containerd.ts mounts KEY | mount KEY TARGET | umount KEY TARGET | layer FILE";

async function main([verb, subject = "", target = ""]: string[]): Promise<number> {
  using containerd = new Containerd(Deno.env);
  if (verb === "mounts") console.log(JSON.stringify(await containerd.mounts(subject), null, 2));
  else if (verb === "mount" && target !== "") await mountAll(await containerd.mounts(subject), target);
  else if (verb === "umount" && target !== "") await unmountMounts(await containerd.mounts(subject), target);
  else if (verb === "layer") {
    console.log(await containerd.layer(JSON.parse(await Deno.readTextFile(subject))));
  } else {
    console.error(usage);
    return 2;
  }
  return 0;
}

try {
  Deno.exitCode = await main(Deno.args);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  Deno.exitCode = 1;
}
