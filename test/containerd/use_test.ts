import { assert, assertEquals, assertMatch } from "../assert.ts";
import { project, say, serveProject } from "../use/ways.ts";
import { containerdTest, Daemon, NAMESPACE } from "./daemon.ts";

const entry = new URL("containerd/mod.ts", project).href;

/** A program that lists the mounts of a snapshot. */
const program = (module: string) => `
import { Containerd } from "${module}";
const [address, namespace, key] = Deno.args;
await using containerd = new Containerd({ address, namespace });
console.log((await containerd.snapshots("overlayfs").mounts(key)).map(({ type }) => type).join());
`;

/** The permissions that the client needs, as its documentation has them. */
const grants = (socket: string) => [
  `--allow-net=unix:${socket}`,
  `--allow-read=${socket}`,
  `--allow-write=${socket}`,
  "--allow-env=GRPC_*",
];

containerdTest(
  "the client works from a URL without an import map, and with the permissions that it names",
  async (t) => {
    await using server = serveProject();
    await using daemon = await Daemon.start(`${t.dir}/d`);
    await using containerd = daemon.client();
    await containerd.snapshots("overlayfs").prepare("a", "");
    const url = `http://127.0.0.1:${server.addr.port}/containerd/mod.ts`;
    Deno.writeTextFileSync(`${t.dir}/user.ts`, program(url));
    const run = ["run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "--allow-import=127.0.0.1"];
    const args = (
      permissions: string[],
    ) => [...run, ...permissions, "user.ts", daemon.socket, NAMESPACE, "a"];
    const all = grants(daemon.socket);
    const { code, out, err } = await say(Deno.execPath(), args(all), { cwd: t.dir });
    assertEquals([code, out], [0, ["bind"]], err);
    for (const missing of all) {
      const refused = await say(Deno.execPath(), args(all.filter((grant) => grant !== missing)), {
        cwd: t.dir,
      });
      assertEquals(refused.code, 1, `it works without ${missing}`);
      if (missing.startsWith("--allow-env")) continue; // the gRPC library reads its variables when it is loaded
      assert(refused.err.includes(`Deno has no permission for the socket ${daemon.socket}`), refused.err);
      assert(refused.err.includes(all.slice(0, 3).join(" ")), refused.err);
    }
  },
);

containerdTest("the client works in a compiled program", async (t) => {
  await using daemon = await Daemon.start(`${t.dir}/d`);
  await using containerd = daemon.client();
  await containerd.snapshots("overlayfs").prepare("a", "");
  Deno.writeTextFileSync(`${t.dir}/user.ts`, program(entry));
  const binary = `${t.dir}/user`;
  const args = [
    "compile",
    "--quiet",
    "--no-config",
    "--no-lock",
    ...grants(daemon.socket),
    "-o",
    binary,
    "user.ts",
  ];
  const compile = (env: Record<string, string>) => say(Deno.execPath(), args, { cwd: t.dir, env });
  const compiled = await compile({});
  if (compiled.code !== 0) {
    assert(compiled.err.includes("base binary"), compiled.err);
    console.log(
      "no denort (DENORT_BIN is not set, and the download fails): checking only the files in the binary",
    );
    const { code, err } = await compile({ DENORT_BIN: Deno.execPath() });
    assertEquals(code, 0, err);
    const text = await Deno.readTextFile(binary);
    for (const name of ["connection.ts", "api/mounts_pb.ts"]) {
      assert(text.includes(await Deno.readTextFile(new URL(`containerd/${name}`, project))), name);
    }
    assert(text.includes("No connection established"), "the gRPC library is not in the binary");
    return;
  }
  Deno.removeSync(`${t.dir}/user.ts`);
  const { code, out, err } = await say(binary, [daemon.socket, NAMESPACE, "a"], { cwd: t.dir });
  assertEquals([code, out], [0, ["bind"]], err);
});

containerdTest(
  "the command lists snapshots from a URL and as one bundled file, and says what a user without access can do",
  async (t) => {
    await using server = serveProject();
    await using daemon = await Daemon.start(`${t.dir}/d`);
    await using containerd = daemon.client();
    await containerd.snapshots("overlayfs").prepare("a", "");
    const ls = ["ls", "--containerd", "--address", daemon.socket, "--namespace", NAMESPACE];
    const isolated = ["run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "-A"];
    const url = `http://127.0.0.1:${server.addr.port}/cli.ts`;
    const fromUrl = await say(Deno.execPath(), [...isolated, url, ...ls], { cwd: t.dir });
    assertEquals([fromUrl.code, fromUrl.err, fromUrl.out.length], [0, "", 2]);
    assertMatch(fromUrl.out[1] ?? "", /^denomount-test +overlayfs\/a +active /);

    const file = `${t.dir}/denomount.js`;
    const args = ["bundle", "--quiet", "-o", file, new URL("cli.ts", project).pathname];
    const bundled = await say(Deno.execPath(), args, {});
    assertEquals(bundled.code, 0, bundled.err);
    const env = { DENO_DIR: `${t.dir}/cache` };
    const alone = [...isolated, "--no-npm", "--no-remote", file, ...ls];
    assertEquals((await say(Deno.execPath(), alone, { cwd: t.dir, env })).out, fromUrl.out);

    for (const path of [t.dir, daemon.directory]) await Deno.chmod(path, 0o755);
    await Deno.chmod(daemon.socket, 0o600);
    await Deno.mkdir(`${t.dir}/home`);
    await Deno.chown(`${t.dir}/home`, 65534, 65534);
    const { code, err } = await say("setpriv", [
      ...["--reuid=65534", "--regid=65534", "--clear-groups"],
      Deno.execPath(),
      ...alone,
    ], { cwd: "/", env: { DENO_DIR: `${t.dir}/home`, HOME: `${t.dir}/home` } });
    const socket = `the socket ${daemon.socket} is not accessible`;
    assertEquals([code, err], [
      1,
      `denomount: cannot list the snapshotters: ${socket}; run as root, or as a member of the socket's group\n`,
    ]);
  },
  { tools: ["setpriv"] },
);
