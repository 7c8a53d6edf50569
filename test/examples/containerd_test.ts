import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "../assert.ts";
import { command } from "../cli/in_process.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";
import { project, type Said, say } from "../use/ways.ts";

const needs = {
  root: true,
  tools: ["containerd", "ctr", "unshare"],
  permissions: { run: true, env: true } as const,
};

const config = (dir: string) => `
version = 2
root = "${dir}/root"
state = "${dir}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "${dir}/socket"
`;

/** A containerd for one test, in a private mount namespace. */
class Daemon implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #env: Record<string, string>;

  constructor(dir: string) {
    Deno.writeTextFileSync(`${dir}/config.toml`, config(dir));
    const args = ["--mount", "--propagation", "private", "containerd", "--config", `${dir}/config.toml`];
    this.#process = new Deno.Command("unshare", { args, stdout: "null", stderr: "null" }).spawn();
    this.#env = { CONTAINERD_ADDRESS: `${dir}/socket`, CONTAINERD_NAMESPACE: "denomount-test" };
  }

  /** The output of ctr. */
  async ctr(...args: string[]): Promise<string[]> {
    const { code, out, err } = await say("ctr", args, { env: this.#env });
    assertEquals([code, err], [0, ""]);
    return out;
  }

  /** The output of the example. */
  example(...args: string[]): Promise<Said> {
    const path = new URL("examples/containerd.ts", project).pathname;
    return say(Deno.execPath(), ["run", "--quiet", "-A", path, ...args], { env: this.#env });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    await this.#process.status;
  }
}

async function start(t: KernelContext): Promise<Daemon> {
  const daemon = new Daemon(t.dir);
  for (const end = Date.now() + 20_000; !names(t.dir).includes("socket") && Date.now() < end;) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return daemon;
}

/** Parses the shell command that ctr prints to a mount: `mount -t overlay overlay /target -o index=off,…`. */
function printed([line = ""]: string[]) {
  const [, type, source, , options = ""] = line.match(/^mount -t (\S+) (\S+) (\S+) -o (\S+)$/) ?? [];
  return { type, source, options: options.split(",") };
}

kernelTest(
  "a snapshot is mounted as containerd specifies, and written files are in the snapshot",
  needs,
  async (t) => {
    t.make("target");
    const target = `${t.dir}/target`;
    await using daemon = await start(t);
    const done = async (...args: string[]) => {
      const { code, err } = await daemon.example(...args);
      assertEquals([code, err], [0, ""]);
    };
    let parent: string[] = [];
    for (const name of ["first", "second"]) {
      await daemon.ctr("snapshots", "prepare", `${name}-active`, ...parent);
      await done("mount", `${name}-active`, target);
      Deno.writeTextFileSync(`${target}/${name}`, name);
      await done("umount", `${name}-active`, target);
      assertEquals(t.mounts(), []);
      await daemon.ctr("snapshots", "commit", name, `${name}-active`);
      parent = [name];
    }
    await daemon.ctr("snapshots", "view", "looked-at", "second");

    const list = JSON.parse((await daemon.example("mounts", "looked-at")).out.join(""));
    assertEquals(list, [printed(await daemon.ctr("snapshots", "mounts", "/target", "looked-at"))]);
    await done("mount", "looked-at", target);
    assertEquals(t.mounts().map(({ mountpoint, fsType }) => [mountpoint, fsType]), [["/target", "overlay"]]);
    assertEquals(["first", "second"].map((name) => Deno.readTextFileSync(`${target}/${name}`)), [
      "first",
      "second",
    ]);
    assertThrows(() => Deno.writeTextFileSync(`${target}/third`, ""), Error, "Read-only file system");
    await done("umount", "looked-at", target);
  },
);

kernelTest("containerd mounts our list, and makes a layer of its files", needs, async (t) => {
  t.make("upper", "lower/etc", "empty");
  Deno.writeTextFileSync(`${t.dir}/lower/etc/below`, "");
  Deno.writeTextFileSync(`${t.dir}/upper/above`, "");
  const overlay = { type: "overlay", source: "ours", options: [`lowerdir=${t.dir}/upper:${t.dir}/lower`] };
  Deno.writeTextFileSync(`${t.dir}/list.json`, JSON.stringify([overlay]));
  await using daemon = await start(t);
  const { code, out: [digest = ""], err } = await daemon.example("layer", `${t.dir}/list.json`);
  assertEquals([code, err], [0, ""]);
  assertMatch(digest, /^sha256:[0-9a-f]{64}$/);
  const blob = `${t.dir}/root/io.containerd.content.v1.content/blobs/${digest.replace(":", "/")}`;
  assertEquals((await say("tar", ["-tzf", blob])).out, ["above", "etc/", "etc/below"]);
});

kernelTest("an error of containerd is printed as is", needs, async (t) => {
  await using daemon = await start(t);
  const { code, err } = await daemon.example("mount", "no-such", t.dir);
  assertEquals(code, 1);
  assertStringIncludes(err, "snapshot no-such does not exist: not found");
});

kernelTest(
  "the command lists, mounts and unmounts snapshots of a containerd that has no mount manager, and up takes the list",
  { ...needs, permissions: { run: true, env: true, sys: true, net: true } },
  async (t) => {
    const target = t.make("target");
    await using daemon = await start(t);
    await daemon.ctr("snapshots", "prepare", "base-active");
    await daemon.ctr("snapshots", "commit", "base", "base-active");
    await daemon.ctr("snapshots", "prepare", "top", "base");
    const address = ["--containerd", "--address", `${t.dir}/socket`, "--namespace", "denomount-test"];
    const { code, out, err } = await command(["ls", ...address]);
    assertEquals([code, err], [0, ""]);
    assertEquals(out.trimEnd().split("\n").map((line) => line.split(/ +/).slice(0, 3)), [
      ["NAMESPACE", "SNAPSHOT", "KIND"],
      ["denomount-test", "overlayfs/base", "committed"],
      ["denomount-test", "overlayfs/top", "active"],
    ]);
    const list = (await daemon.example("mounts", "top")).out.join("");
    for (const [args, input] of [[[...address, "overlayfs/top"], ""], [["-"], list]] as const) {
      assertEquals(await command(["up", ...args, target], { input }), {
        code: 0,
        out: `${target}\n`,
        err: "",
      });
      assertEquals(t.mounts().map(({ mountpoint, fsType }) => [mountpoint, fsType]), [[
        "/target",
        "overlay",
      ]]);
      assertEquals(await command(["down", ...args, target], { input }), { code: 0, out: "", err: "" });
      assertEquals(t.mounts(), []);
    }
    const gone = await command(["down", ...address, "--root", t.make("state"), "overlayfs/none", target]);
    assertStringIncludes(gone.err, "snapshot none does not exist: not found");
  },
);
