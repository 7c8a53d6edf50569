import { assert, assertEquals, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { mountTable, names } from "../kernel.ts";
import { project, type Said, say } from "../use/ways.ts";

const needs = {
  root: true,
  tools: ["runc", "busybox", "tar"],
  permissions: { run: true, env: true } as const,
};
const owner = ({ uid, gid }: Deno.FileInfo) => `${uid}:${gid}`;

/** Writes a blob of an image layout, and returns its descriptor. */
async function addBlob(layout: string, mediaType: string, bytes: Uint8Array<ArrayBuffer>) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  Deno.mkdirSync(`${layout}/blobs/sha256`, { recursive: true });
  Deno.writeFileSync(`${layout}/blobs/sha256/${digest}`, bytes);
  return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
}

/** Writes an OCI image layout with layers that tar(1) creates from the arguments. */
async function writeLayout(layout: string, layers: string[][], config: Record<string, unknown> = {}) {
  const type = (name: string) => `application/vnd.oci.image.${name}`;
  const json = (mediaType: string, value: unknown) =>
    addBlob(layout, mediaType, new TextEncoder().encode(JSON.stringify(value)));
  const descriptors = [];
  for (const args of layers) {
    const { stdout } = await new Deno.Command("tar", { args: ["-cz", ...args] }).output();
    descriptors.push(await addBlob(layout, type("layer.v1.tar+gzip"), stdout));
  }
  const image = await json(type("config.v1+json"), { architecture: "amd64", os: "linux", config });
  const manifest = await json(type("manifest.v1+json"), {
    schemaVersion: 2,
    config: image,
    layers: descriptors,
  });
  Deno.writeTextFileSync(`${layout}/oci-layout`, JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  Deno.writeTextFileSync(`${layout}/index.json`, JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
  return descriptors;
}

/** Creates files by name; a directory's name ends with a slash, a symbolic link's text starts with "-> ". */
function write(directory: string, files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    const path = `${directory}/${name}`;
    Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    if (text.startsWith("-> ")) Deno.symlinkSync(text.slice(3), path);
    else if (!name.endsWith("/")) Deno.writeTextFileSync(path, text);
  }
}

function busybox(t: KernelContext): string[] {
  write(`${t.dir}/base`, { "bin/": "", "proc/": "", "dev/": "", "sys/": "" });
  Deno.copyFileSync("/bin/busybox", `${t.dir}/base/bin/busybox`);
  Deno.chmodSync(`${t.dir}/base/bin/busybox`, 0o755);
  Deno.symlinkSync("busybox", `${t.dir}/base/bin/sh`);
  return ["-C", `${t.dir}/base`, "."];
}

const example = new URL("examples/container.ts", project).pathname;

function container(t: KernelContext, ...command: string[]): Promise<Said> {
  Deno.chmodSync(t.dir, 0o700); // as a home directory: the container's root, another user on the host, can't pass
  return say(Deno.execPath(), [
    "run",
    "--quiet",
    "-A",
    example,
    `${t.dir}/layout`,
    `${t.dir}/state`,
    ...command,
  ]);
}

/** The mounts, runc states and cgroups of a container that still exist. */
function leftovers(t: KernelContext, id: string): string[] {
  const cgroups = new Deno.Command("find", { args: ["/sys/fs/cgroup", "-name", id] }).outputSync().stdout;
  return [
    ...mountTable().map(({ mountpoint }) => mountpoint).filter((path) =>
      path.startsWith(t.dir) || path.includes(id)
    ),
    ...names("/run").filter((name) => name === id),
    ...names(`${t.dir}/state/runc`),
    ...new TextDecoder().decode(cgroups).trim().split("\n").filter((line) => line !== ""),
  ];
}

kernelTest(
  "a container runs as root on id-mapped layers that stay root's on the host, and leaves nothing behind",
  needs,
  async (t) => {
    t.make("state");
    write(`${t.dir}/base`, {
      "etc/gone": "",
      "etc/kept": "below",
      "opaque/below": "",
      "etc/passwd": "root\n",
    });
    write(`${t.dir}/above`, {
      "etc/.wh.gone": "",
      "opaque/.wh..wh..opq": "",
      "opaque/above": "",
      "etc/passwd": "r\n",
    });
    await writeLayout(`${t.dir}/layout`, [busybox(t), ["-C", `${t.dir}/above`, "."]], {
      Entrypoint: ["/bin/sh", "-c"],
      Cmd: ["exit 1"],
      Env: ["PATH=/bin", "WHO=image"],
      WorkingDir: "/etc",
    });
    const script = `
    /bin/busybox stat -c '%n %u:%g' /bin/busybox /bin/sh
    /bin/busybox ls /etc /opaque
    /bin/busybox cat /etc/passwd /proc/self/uid_map
    echo $WHO $PWD; echo new > /new; /bin/busybox rm /etc/kept
    /bin/busybox stat -c '%n %u:%g' /new`;
    const { code, out, err } = await container(t, "/bin/sh", "-c", script);
    assertEquals([code, err], [0, ""]);
    assertEquals(out.map((line) => line.trim().replace(/\s+/g, " ")), [
      "/bin/busybox 0:0",
      "/bin/sh 0:0",
      "/etc:",
      "kept",
      "passwd",
      "",
      "/opaque:",
      "above",
      "r",
      "0 100000 65536",
      "image /etc",
      "/new 0:0",
    ]);
    const [id = ""] = names(`${t.dir}/state/containers`);
    const upper = `${t.dir}/state/containers/${id}/upper`;
    assertEquals(owner(Deno.lstatSync(`${upper}/new`)), "100000:100000");
    assert(Deno.lstatSync(`${upper}/etc/kept`).isCharDevice); // an overlay's whiteout
    const unpacked = names(`${t.dir}/state/layers`).map((name) => `${t.dir}/state/layers/${name}`);
    assertEquals(unpacked.length, 2);
    assert(unpacked.every((layer) => owner(Deno.lstatSync(layer)) === "0:0"));
    assertEquals(leftovers(t, id), []);

    assertEquals((await container(t)).code, 1); // the image's command; its layers are unpacked already
    assertEquals(names(`${t.dir}/state/layers`).length, 2);
    assertEquals(names(`${t.dir}/state`), ["containers", "layers", "runc"]);
  },
);

kernelTest(
  "an image made by umoci runs, with archives without end marks and with whiteouts",
  {
    ...needs,
    tools: [...needs.tools, "umoci"],
  },
  async (t) => {
    t.make("state");
    busybox(t);
    write(`${t.dir}/base`, { "etc/gone": "", "etc/kept": "", "opaque/below": "" });
    write(t.dir, { "opaque/above": "" });
    const umoci = async (...args: string[]) => {
      const { code, err } = await say("umoci", args);
      assertEquals(code, 0, err);
    };
    const image = `${t.dir}/layout:latest`;
    await umoci("init", "--layout", `${t.dir}/layout`);
    await umoci("new", "--image", image);
    await umoci("insert", "--image", image, `${t.dir}/base`, "/");
    await umoci("insert", "--image", image, "--whiteout", "/etc/gone");
    await umoci("insert", "--image", image, "--opaque", `${t.dir}/opaque`, "/opaque");
    const { code, out, err } = await container(t, "/bin/sh", "-c", "/bin/busybox ls /etc /opaque");
    assertEquals([code, err], [0, ""]);
    assertEquals(out, ["/etc:", "kept", "", "/opaque:", "above"]);
  },
);

kernelTest("no name and no link in a layer leads out of its directory", needs, async (t) => {
  t.make("state");
  write(t.dir, { "outside/kept": "outside" });
  write(`${t.dir}/links`, {
    absolute: `-> ${t.dir}/outside`,
    relative: "-> ../../../../../../..",
    sub: "-> /etc",
  });
  write(`${t.dir}/evil`, { file: "evil", ".wh.kept": "", ".wh...": "", ".wh..": "", "etc/in": "" });
  const evil = (...names: string[]) => ["-P", "-C", `${t.dir}/evil`, ...names];
  await writeLayout(`${t.dir}/layout`, [
    busybox(t),
    ["-C", `${t.dir}/links`, "."],
    evil("--transform", `s,file,../../../../../../..${t.dir}/outside/dots,`, "file"),
    evil("--transform", `s,file,${t.dir}/outside/root,`, "file"),
    evil("--transform", "s,file,absolute/link,", "file"),
    evil("--transform", `s,file,relative${t.dir}/outside/up,`, "file"),
    evil("--transform", "s,file,sub/under,", "file"),
    evil("--transform", "s,.wh.kept,absolute/.wh.kept,", ".wh.kept"),
  ]);
  const { code, out, err } = await container(
    t,
    "/bin/sh",
    "-c",
    "/bin/busybox find / -xdev -type f -name '[drlu]*'",
  );
  assertEquals([code, err], [0, ""]);
  assertEquals(names(`${t.dir}/outside`), ["kept"]);
  assertEquals(
    out.sort(),
    [
      `${t.dir}/outside/dots`,
      `${t.dir}/outside/link`,
      `${t.dir}/outside/root`,
      `${t.dir}/outside/up`,
      "/etc/under",
    ].sort(),
  );
  // A whiteout of ".." or "." affects only the layer's directory.
  await writeLayout(`${t.dir}/layout`, [["-C", `${t.dir}/base`, "."], evil(".wh..."), evil(".wh..")]);
  assertStringIncludes((await container(t, "/bin/sh")).err, "no such file"); // it hides all files below
  assertEquals(names(`${t.dir}/outside`), ["kept"]);
});

kernelTest(
  "a damaged layer is refused, and nothing of it is kept",
  needs,
  async (t) => {
    t.make("state");
    const [layer] = await writeLayout(`${t.dir}/layout`, [busybox(t)]);
    const path = `${t.dir}/layout/blobs/${layer?.digest.replace(":", "/")}`;
    const bytes = Deno.readFileSync(path);
    bytes[1000] = (bytes[1000] ?? 0) ^ 1;
    Deno.writeFileSync(path, bytes);
    const { code, err } = await container(t, "/bin/sh");
    assertEquals(code, 1);
    assertStringIncludes(err, "is damaged");
    assertEquals(names(`${t.dir}/state`), []);
  },
);

kernelTest("a container ends at SIGTERM, and leaves nothing behind", needs, async (t) => {
  t.make("state");
  Deno.chmodSync(t.dir, 0o700);
  await writeLayout(`${t.dir}/layout`, [busybox(t)]);
  const script = 'trap "exit 3" TERM; echo up; while :; do /bin/busybox sleep 0.1; done';
  const runner = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", example, `${t.dir}/layout`, `${t.dir}/state`, "/bin/sh", "-c", script],
    stdout: "piped",
  }).spawn();
  const reader = runner.stdout.getReader();
  await reader.read();
  runner.kill("SIGTERM");
  assertEquals((await runner.status).code, 3);
  await reader.cancel();
  const [id = ""] = names(`${t.dir}/state/containers`);
  assertEquals(leftovers(t, id), []);
});
