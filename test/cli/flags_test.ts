import { assert, assertEquals, assertMatch } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { loopDevices, loopDevicesLeft, parseTable, readText } from "../kernel.ts";
import { explain, lookupMount } from "../../mod.ts";
import { newDevice } from "../loop/new_device.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";
import { cli, denomount } from "./command.ts";
import { command, listFile } from "./in_process.ts";

const needs = {
  tools: ["unshare", "nsenter", "mount", "umount"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
};
const TMPFS = { type: "tmpfs", source: "t", options: ["size=64k"] };

kernelTest(
  "up mounts here, or with --namespace in that namespace alone with sources from here",
  needs,
  async (t) => {
    t.make("target", "source");
    const target = `${t.dir}/target`;
    Deno.writeTextFileSync(`${t.dir}/source/file`, "from here");
    await using namespace = await MountNamespace.start();
    await namespace.run("mount", "-t", "tmpfs", "hides", `${t.dir}/source`);
    const list = listFile(t.dir, [{ type: "bind", source: `${t.dir}/source`, options: ["bind"] }]);
    const there = () =>
      parseTable(readText(`/proc/${namespace.pid}/mountinfo`) ?? "").filter(({ mountpoint }) =>
        mountpoint === target
      );
    // Another process: the descriptor of the namespace belongs to the mounts' handle until they are unmounted.
    const { code, out, err } = await denomount(["up", "--namespace", `${namespace.pid}`, list, target]);
    assertEquals([code, out, err, t.mounts(), there().length], [0, `${target}\n`, "", [], 1]);
    assertEquals(await namespace.run("cat", `${target}/file`), "from here");
    assertEquals(await command(["up", list, target]), { code: 0, out: `${target}\n`, err: "" });
    assertEquals([t.mounts().map(({ mountpoint }) => mountpoint), there().length], [["/target"], 1]);
    assertEquals((await command(["down", list, target])).code, 0);
  },
);

/** The ids that a file has at a mount: of a file that root owns, one id for the user and one for the group. */
function owner(path: string): [number | null, number | null] {
  const { uid, gid } = Deno.lstatSync(path);
  return [uid, gid];
}

kernelTest("idmap maps the ids by --uid and --gid, --readonly and --recursive", {
  ...needs,
  root: true,
  features: ["mountSetattr", "mappedTmpfs"],
}, async (t) => {
  t.make("source/inner", "target");
  const [source, target] = [`${t.dir}/source`, `${t.dir}/target`];
  await run("mount", "-t", "tmpfs", "-o", "size=64k", "inner", `${source}/inner`);
  const cases: [flags: string[], owner: [number, number], options: string[], mounts: string[]][] = [
    [["--uid", "0:5000:10"], [5000, 5000], ["idmapped"], ["/target"]],
    [["--uid", "0:5000:10", "--gid", "0:6000:10"], [5000, 6000], ["idmapped"], ["/target"]],
    [["--uid", "0:5000:10", "--readonly"], [5000, 5000], ["idmapped", "ro"], ["/target"]],
    [["--uid", "0:5000:10", "-r"], [5000, 5000], ["idmapped", "ro"], ["/target"]],
    [["--uid", "0:5000:10", "--recursive"], [5000, 5000], ["idmapped"], ["/target", "/target/inner"]],
    [["--uid", "0:5000:10", "-R"], [5000, 5000], ["idmapped"], ["/target", "/target/inner"]],
    [["--uid", "0:5000:10,10:7000:1", "-R", "-r"], [5000, 5000], ["idmapped", "ro"], [
      "/target",
      "/target/inner",
    ]],
  ];
  for (const [flags, ids, options, mounts] of cases) {
    assertEquals(await command(["idmap", ...flags, source, target]), { code: 0, out: "", err: "" });
    const rows = t.mounts().filter(({ mountpoint }) => mountpoint.startsWith("/target"));
    const found = rows.map(({ options }) => options.filter((word) => /^(ro|idmapped)$/.test(word)).sort());
    assertEquals(rows.map(({ mountpoint }) => mountpoint), mounts);
    assertEquals(found, mounts.map(() => options));
    assertEquals(owner(target), ids);
    assertEquals((await command(["umount", "-R", target])).code, 0);
  }
  await run("umount", `${source}/inner`);
});

/** What the kernel says of the loop device of a file below the test's directory. */
function loopState(t: KernelContext) {
  const [name = ""] = (loopDevices(t.dir)[0] ?? "").split(" ");
  const read = (file: string) => (readText(`/sys/block/${name}/${file}`) ?? "").trim();
  return {
    ro: read("ro"),
    autoclear: read("loop/autoclear"),
    dio: read("loop/dio"),
    offset: read("loop/offset"),
    sizelimit: read("loop/sizelimit"),
  };
}

kernelTest(
  "each flag of loop attach reaches the device, and loop ls prints it",
  { ...needs, root: true },
  async (t) => {
    const image = `${t.dir}/image`;
    Deno.writeFileSync(image, new Uint8Array(1 << 16));
    const plain = { ro: "0", autoclear: "0", dio: "0", offset: "0", sizelimit: "0" };
    const cases: [flags: string[], state: Record<string, string>, options: string][] = [
      [[], {}, ""],
      [["--readonly"], { ro: "1" }, "readonly"],
      [["-r"], { ro: "1" }, "readonly"],
      [["--direct"], { dio: "1" }, "direct"],
      [["--offset", "4096"], { offset: "4096" }, ""],
      [["--size-limit", "8192"], { sizelimit: "8192" }, ""],
      [["-r", "--direct", "--offset", "512", "--size-limit", "1024"], {
        ro: "1",
        dio: "1",
        offset: "512",
        sizelimit: "1024",
      }, "readonly,direct"],
    ];
    for (const [flags, state, options] of cases) {
      const { code, out, err } = await command(["loop", "attach", ...flags, image]);
      assertEquals([code, err], [0, ""]);
      const device = out.trim();
      assertEquals(loopDevices(t.dir), [`${device.slice("/dev/".length)} ${image}`]);
      const expected = { ...plain, ...state };
      assertEquals(loopState(t), expected);
      const listed = JSON.parse((await command(["loop", "ls", "--json"])).out);
      assertEquals(listed.find((each: { device: string }) => each.device === device), {
        device,
        backingFile: image,
        offset: Number(expected.offset),
        sizeLimit: Number(expected.sizelimit),
        autoclear: false,
        direct: expected.dio === "1",
        readonly: expected.ro === "1",
      });
      const [head = "", ...lines] = (await command(["loop", "ls"])).out.trim().split("\n");
      assertMatch(head, /^DEVICE +BACKING FILE +OFFSET +OPTIONS$/);
      const line = lines.find((each) => each.startsWith(`${device} `)) ?? "";
      assertEquals(line.split(/ +/), [device, image, expected.offset, ...options === "" ? [] : [options]]);
      assertEquals(await command(["loop", "detach", device]), { code: 0, out: "", err: "" });
      assertEquals(await loopDevicesLeft(t.dir), []);
    }
  },
);

kernelTest(
  "loop attach --autoclear attaches a device that the last close detaches",
  { ...needs, root: true },
  async (t) => {
    const image = `${t.dir}/image`;
    Deno.writeFileSync(image, new Uint8Array(1 << 16));
    let whileOpen;
    const write = (bytes: Uint8Array) => {
      whileOpen = loopState(t).autoclear;
      return bytes.length;
    };
    const { code, out } = await command(["loop", "attach", "--autoclear", image], { write });
    assertEquals([code, whileOpen], [0, "1"]);
    assertMatch(out, /^\/dev\/loop\d+\n$/);
    assertEquals(await loopDevicesLeft(t.dir), []);
  },
);

kernelTest(
  "loop ls prints no device that has lost its file since the kernel listed it",
  { ...needs, root: true },
  async (t) => {
    Deno.writeFileSync(`${t.dir}/image`, new Uint8Array(1 << 16));
    const device = (await command(["loop", "attach", `${t.dir}/image`])).out.trim();
    const listed = async (setUp: string) => {
      const script = `${setUp}; exec "$0" run --quiet -A ${cli} loop ls --json`;
      const json = await run(
        "unshare",
        "-m",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        Deno.execPath(),
      );
      return JSON.parse(json).some((each: { device: string }) => each.device === device);
    };
    const hide = `mount -t tmpfs hidden /sys/block/${device.slice("/dev/".length)}/loop`;
    assertEquals([await listed("true"), await listed(hide)], [true, false]);
    await command(["loop", "detach", device]);
    assertEquals(await loopDevicesLeft(t.dir), []);
  },
);

kernelTest(
  "loop detach detaches each DEVICE, and names one that is not attached",
  { ...needs, root: true, tools: [...needs.tools, "mknod"] },
  async (t) => {
    const devices: string[] = [];
    for (const name of ["one", "two", "three"]) {
      Deno.writeFileSync(`${t.dir}/${name}`, new Uint8Array(1 << 16));
      devices.push((await command(["loop", "attach", `${t.dir}/${name}`])).out.trim());
    }
    assertEquals(loopDevices(t.dir).length, 3);
    assertEquals((await command(["loop", "detach", ...devices])).code, 0);
    assertEquals(await loopDevicesLeft(t.dir), []);
    using empty = await newDevice(t.dir); // another process may have one of the three by now
    const { code, err } = await command(["loop", "detach", empty.path]);
    assertEquals([code, err.includes(empty.path), err.split("\n").length], [1, true, 2]);
  },
);

kernelTest("a backing file's control characters are escaped in loop ls, and not in its JSON", {
  ...needs,
  root: true,
}, async (t) => {
  const image = `${t.dir}/odd\x1bimage`;
  Deno.writeFileSync(image, new Uint8Array(1 << 16));
  const device = (await command(["loop", "attach", "-r", image])).out.trim();
  const { out } = await command(["loop", "ls"]);
  assert(out.includes(`${t.dir}/odd\\033image`) && !out.includes("\x1b"), out);
  const files = JSON.parse((await command(["loop", "ls", "--json"])).out).map((
    each: { backingFile: string },
  ) => each.backingFile);
  assert(files.includes(image));
  assertEquals((await command(["loop", "detach", device])).code, 0);
});

kernelTest(
  "explain prints the steps of explain(), as text or with --json, and mounts nothing",
  needs,
  async (t) => {
    const target = t.make("target");
    const list = [TMPFS, { type: "bind", source: "/usr", target: "usr", options: ["rbind", "ro"] }];
    const file = listFile(t.dir, list);
    const steps = explain(list, target);
    assertEquals(
      JSON.parse((await command(["explain", "--json", file, target])).out),
      JSON.parse(JSON.stringify(steps)),
    );
    const { out } = await command(["explain", file, target]);
    assertEquals(out, steps.map((step) => `${step.call}(${step.arguments})  // ${step.purpose}\n`).join(""));
    assertEquals(t.mounts(), []);
  },
);

kernelTest(
  "lookup prints the mount that contains the path, a field to a line or with --json",
  { ...needs, privateDirectory: true },
  async (t) => {
    t.make("target");
    await run("mount", "-t", "tmpfs", "-o", "size=64k,ro,nosuid", "odd", `${t.dir}/target`);
    const info = await lookupMount(`${t.dir}/target`);
    assertEquals(
      JSON.parse((await command(["lookup", "--json", `${t.dir}/target`])).out),
      JSON.parse(JSON.stringify(info)),
    );
    const { out } = await command(["lookup", `${t.dir}/target`]);
    assertEquals(
      out.trimEnd().split("\n").map((line) =>
        line.match(/^(.{12}) (.*)$/)?.slice(1).map((part) => part.trim())
      ),
      [
        ["mountpoint", `${t.dir}/target`],
        ["type", "tmpfs"],
        ["source", "odd"],
        ["root", "/"],
        ["options", "ro,nosuid,relatime"],
        ["file system", info.vfsOptions],
        ["propagation", "private"],
        ["device", `${info.major}:${info.minor}`],
        ["id", `${info.id}, below ${info.parent}`],
      ],
    );
    await run("umount", `${t.dir}/target`);
  },
);
