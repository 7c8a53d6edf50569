import { assertEquals } from "../assert.ts";
import { generate } from "../../scripts/containerd_api.ts";

const directory = new URL("../../containerd/api/", import.meta.url);

Deno.test("the generated files are what containerd's API files give", async () => {
  const files = await generate();
  const names = [...Deno.readDirSync(directory)].map(({ name }) => name).filter((name) =>
    name.endsWith(".ts")
  );
  assertEquals(names.sort(), [...files.keys()].sort());
  for (const [name, text] of files) assertEquals(Deno.readTextFileSync(new URL(name, directory)), text);
});

Deno.test("every method of the two services is in the client, by its name", async () => {
  const { Snapshots } = await import("../../containerd/api/snapshots_pb.ts");
  const { Mounts } = await import("../../containerd/api/mounts_pb.ts");
  const { SnapshotsClient } = await import("../../containerd/snapshots.ts");
  const { MountsClient } = await import("../../containerd/mounts.ts");
  const methods = ({ prototype }: { prototype: object }) =>
    Object.getOwnPropertyNames(prototype).filter((name) => name !== "constructor").sort();
  assertEquals(methods(SnapshotsClient), Object.keys(Snapshots.method).sort());
  assertEquals(methods(MountsClient), Object.keys(Mounts.method).sort());
});
