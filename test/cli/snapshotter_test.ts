import { Containerd } from "../../containerd/mod.ts";
import { assert, assertEquals, assertMatch } from "../assert.ts";
import type { KernelContext } from "../harness.ts";
import { names } from "../kernel.ts";
import { serverTest } from "../containerd/served.ts";
import { SnapshotterProcess } from "../containerd/snapshotter_process.ts";
import { cli, denomount } from "./command.ts";

const snapshotsOf = async (
  socket: string,
  use: (snapshots: ReturnType<Containerd["snapshots"]>) => Promise<unknown>,
) => {
  await using client = new Containerd({ address: socket });
  await use(client.snapshots("denomount"));
};

serverTest(
  "snapshotter ends with status 0 on SIGTERM and Ctrl-C, without its socket and with its snapshots",
  async (t) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      await using process = await SnapshotterProcess.start(t.dir);
      await snapshotsOf(process.socket, (snapshots) => snapshots.prepare(signal, ""));
      assertEquals((Deno.statSync(process.socket).mode ?? 0) & 0o777, 0o600);
      assertEquals((await process.stop(signal))?.code, 0);
      assertEquals(names(t.dir), ["root"]);
    }
    await using process = await SnapshotterProcess.start(t.dir);
    await snapshotsOf(process.socket, async (snapshots) => {
      assertEquals(await Array.fromAsync(snapshots.list(), ({ name }) => name), ["SIGINT", "SIGTERM"]);
    });
  },
);

serverTest("snapshotter says what is wrong, and exits", async (t) => {
  await using process = await SnapshotterProcess.start(t.dir);
  const run = (...args: string[]) => denomount(["snapshotter", ...args]);
  const second = await run("--root", `${t.dir}/root`, "--socket", `${t.dir}/other`);
  assertEquals([second.code, second.out], [1, ""]);
  assertMatch(second.err, /^denomount: .*another process has the snapshots in .* open\n$/);
  const taken = await run("--root", `${t.dir}/new`, "--socket", process.socket);
  assertEquals(taken.code, 1);
  assertMatch(taken.err, /^denomount: a process listens on .* already: stop it, or choose another path\n$/);
  const none = await run("--root", `${t.dir}/new`);
  assertEquals(none.code, 1);
  assertMatch(none.err, /systemd has passed none \(LISTEN_FDS\)\n$/);
  const bad = await run("--root", `${t.dir}/new`, "--socket", `${t.dir}/other`, "--prepare", "some");
  assertEquals(bad.code, 2);
  assertMatch(bad.err, /auto, always, never/);
  assertEquals((await run("--socket", `${t.dir}/other`)).code, 2);
});

/** What a service manager's socket receives, by another process: Deno's datagrams need a flag of it. */
async function notified(
  t: KernelContext,
  count: number,
): Promise<{ socket: string; states: Promise<string[]> }> {
  const socket = `${t.dir}/notify`;
  const program = `const socket = Deno.listenDatagram({ transport: "unixpacket", path: "${socket}" });
    for (let index = 0; index < ${count}; index++) console.log(new TextDecoder().decode((await socket.receive())[0]));`;
  Deno.writeTextFileSync(`${t.dir}/notify.ts`, program);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", "--no-config", "--unstable-net", `${t.dir}/notify.ts`],
    stdout: "piped",
  }).spawn();
  const states = child.output().then(({ stdout }) => new TextDecoder().decode(stdout).trim().split("\n"));
  while (!names(t.dir).includes("notify")) await new Promise((resolve) => setTimeout(resolve, 10));
  return { socket, states };
}

serverTest("snapshotter tells systemd that it is ready, and that it stops", async (t) => {
  const { socket, states } = await notified(t, 2);
  Deno.env.set("NOTIFY_SOCKET", socket);
  try {
    await using process = await SnapshotterProcess.start(`${t.dir}/s`);
    await process.stop();
  } finally {
    Deno.env.delete("NOTIFY_SOCKET");
  }
  assertEquals(await states, ["READY=1", "STOPPING=1"]);
});

serverTest("snapshotter takes the socket that systemd passes", async (t) => {
  const socket = `${t.dir}/activated`;
  const child = new Deno.Command("systemd-socket-activate", {
    args: [
      `--listen=${socket}`,
      "-E",
      "HOME",
      "-E",
      "PATH",
      Deno.execPath(),
      "run",
      "--quiet",
      "-A",
      cli,
      "snapshotter",
      "--root",
      `${t.dir}/root`,
    ],
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    while (!names(t.dir).includes("activated")) await new Promise((resolve) => setTimeout(resolve, 10));
    await snapshotsOf(socket, async (snapshots) => {
      assertEquals((await snapshots.prepare("key", "")).length, 1);
      assertEquals((await snapshots.stat("key")).kind, "active");
    });
    assert(names(`${t.dir}/root`).includes("snapshots.db"));
  } finally {
    child.kill("SIGTERM");
  }
  assertEquals((await child.status).code, 0);
  assertEquals(names(t.dir), ["activated", "root"]); // systemd's socket stays
}, { tools: ["systemd-socket-activate"] });
