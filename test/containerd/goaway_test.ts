import fc from "fast-check";
import { GoawayFilter } from "../../containerd/goaway.ts";
import { assertEquals } from "../assert.ts";
import { serverTest } from "./served.ts";
import { SnapshotterProcess } from "./snapshotter_process.ts";

const PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const GOAWAY = 7;

const frame = (type: number, payload: Uint8Array) =>
  Uint8Array.of(payload.length >> 16, payload.length >> 8, payload.length, type, 0, 0, 0, 0, 1, ...payload);

const joined = (parts: readonly Uint8Array[]) => parts.flatMap((part) => [...part]);

Deno.test("the filter removes the GOAWAY frames of a connection, in whatever pieces they come", () => {
  const frames = fc.array(
    fc.tuple(fc.oneof(fc.constant(GOAWAY), fc.nat(9)), fc.uint8Array({ maxLength: 300 })),
    { maxLength: 12 },
  );
  const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 });
  fc.assert(fc.property(frames, cuts, fc.boolean(), (frames, cuts, isClient) => {
    const start = isClient ? [PREFACE] : [];
    const bytes = Uint8Array.from(joined([...start, ...frames.map(([type, bytes]) => frame(type, bytes))]));
    const filter = new GoawayFilter(isClient ? "client" : "server");
    const kept: Uint8Array[] = [];
    for (let [at, cut] = [0, 0]; at < bytes.length; cut++) {
      const size = cuts[cut % cuts.length] ?? 1;
      kept.push(filter.filter(bytes.subarray(at, at + size)));
      at += size;
    }
    const others = frames.filter(([type]) => type !== GOAWAY).map(([type, bytes]) => frame(type, bytes));
    assertEquals(joined(kept), joined([...start, ...others]));
  }));
});

/** A client that closes, and one whose server closes; prints a line after each. */
const program = `
import { Containerd } from "${new URL("../../containerd/mod.ts", import.meta.url)}";
const [socket, pid] = Deno.args;
const ask = (client) => client.snapshots("denomount").stat("none").catch(({ name }) => console.log(name));
const pause = () => new Promise((resolve) => setTimeout(resolve, 300));
const first = new Containerd({ address: socket });
await ask(first);
await first[Symbol.asyncDispose]();
await pause();
await using second = new Containerd({ address: socket });
await ask(second);
Deno.kill(Number(pid), "SIGTERM");
await pause();
await ask(second);
`;

serverTest(
  "a client and a server live on when the other closes the connection, though freed memory is overwritten",
  async (t) => {
    Deno.writeTextFileSync(`${t.dir}/client.ts`, program);
    Deno.env.set("MALLOC_PERTURB_", "165"); // for both: glibc fills what free(3) gets, see mallopt(3)
    try {
      await using process = await SnapshotterProcess.start(`${t.dir}/s`);
      const { code, signal, stdout } = await new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "--quiet",
          "--no-check",
          "-A",
          `${t.dir}/client.ts`,
          process.socket,
          String(process.pid),
        ],
      }).output();
      const lines = new TextDecoder().decode(stdout).trim().split("\n");
      assertEquals({ code, signal, lines }, {
        code: 0,
        signal: null,
        lines: ["NotFoundError", "NotFoundError", "UnavailableError"],
      });
      assertEquals((await process.ended())?.signal, null);
    } finally {
      Deno.env.delete("MALLOC_PERTURB_");
    }
  },
);
