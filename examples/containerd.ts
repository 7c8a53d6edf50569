/**
 * containerd's snapshots and this library: prints the mounts of a snapshot as a list for `denomount up`, mounts a snapshot
 * (the command does that too: `denomount up --containerd SNAPSHOTTER/KEY TARGET`), and lets containerd mount a list.
 *
 *     sudo deno run -A examples/containerd.ts mounts KEY           prints them as JSON, which `denomount up` takes;
 *                                                                  `ctr snapshots mounts` prints shell commands
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
import { Containerd } from "../containerd/mod.ts";
import { type Mount, unmountMounts } from "../mod.ts";

const address = Deno.env.get("CONTAINERD_ADDRESS") ?? "/run/containerd/containerd.sock";
const namespace = Deno.env.get("CONTAINERD_NAMESPACE") ?? "default";
const snapshotter = Deno.env.get("CONTAINERD_SNAPSHOTTER") ?? "overlayfs";

// The required part of containerd's Diff service, which the client does not have, with its names and numbers.
const api = new protobuf.Root();
const definitions = [
  `package containerd.types;
   message Mount { string type = 1; string source = 2; string target = 3; repeated string options = 4; }
   message Descriptor { string media_type = 1; string digest = 2; int64 size = 3; }`,
  `package containerd.services.diff.v1;
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

/** Makes a layer of the mounted files in containerd's content store; returns its digest. */
function makeLayer(mounts: readonly Mount[]): Promise<string> {
  const requestType = api.lookupType("containerd.services.diff.v1.DiffRequest");
  const responseType = api.lookupType("containerd.services.diff.v1.DiffResponse");
  const metadata = new Metadata();
  metadata.set("containerd-namespace", namespace);
  const client = new Client(`unix://${address}`, credentials.createInsecure());
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  client.makeUnaryRequest(
    "/containerd.services.diff.v1.Diff/Diff",
    (message: object) => Buffer.from(requestType.encode(message).finish()),
    (bytes) => responseType.decode(bytes) as unknown as { diff: { digest: string } },
    {
      right: mounts.map(({ target = "", options = [], ...mount }) => ({ ...mount, target, options })),
      media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
      ref: `layer-${crypto.randomUUID()}`,
      labels: { "containerd.io/gc.root": new Date().toISOString() }, // keeps the layer from garbage collection
    },
    metadata,
    (error, answer) =>
      answer === undefined ? reject(new Error(`containerd: ${error?.details}`)) : resolve(answer.diff.digest),
  );
  return promise.finally(() => client.close());
}

const usage = "usage: containerd.ts mounts KEY | mount KEY TARGET | umount KEY TARGET | layer FILE";

async function main([verb, subject = "", target = ""]: string[]): Promise<number> {
  await using containerd = new Containerd({ address, namespace });
  const snapshots = containerd.snapshots(snapshotter);
  if (verb === "mounts") console.log(JSON.stringify(await snapshots.mounts(subject), null, 2));
  else if (verb === "mount" && target !== "") {
    await containerd.mountSnapshot({ snapshotter, key: subject }, target);
  } else if (verb === "umount" && target !== "") {
    await unmountMounts(await snapshots.mounts(subject), target);
  } else if (verb === "layer") console.log(await makeLayer(JSON.parse(await Deno.readTextFile(subject))));
  else {
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
