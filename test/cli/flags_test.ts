import { assert, assertEquals, assertMatch } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { linkText, loopDevices, names, parseTable, readText } from "../kernel.ts";
import { explain, lookupMount } from "../../mod.ts";
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

kernelTest(
  "up unmounts the list if a signal arrives while it is mounted, and exits with the signal's status",
  {
    ...needs,
    tools: ["strace"],
  },
  async (t) => {
    const target = t.make("target");
    const list = listFile(t.dir, [{ ...TMPFS }, { ...TMPFS }]);
    for (
      const [signal, status] of [["SIGTERM", 143], ["SIGINT", 130], ["SIGHUP", 129], [
        "SIGQUIT",
        131,
      ]] as const
    ) {
      const child = new Deno.Command("strace", {
        args: [
          "-f",
          "-qq",
          "--seccomp-bpf",
          ...["-o", `${t.dir}/trace`, "-e", "trace=move_mount", "-e", "inject=move_mount:delay_exit=200000"],
          ...[Deno.execPath(), "run", "--quiet", "-A", cli, "up", list, target],
        ],
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      while (t.mounts().length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      const [pid] = (readText(`/proc/${child.pid}/task/${child.pid}/children`) ?? "").trim().split(" ");
      Deno.kill(Number(pid), signal);
      const { code, stdout } = await child.output();
      assertEquals([code, new TextDecoder().decode(stdout), t.mounts()], [status, "", []]);
    }
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
      assertEquals(loopDevices(t.dir), []);
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
    for (let wait = 0; wait < 100 && loopDevices(t.dir).length > 0; wait++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assertEquals(loopDevices(t.dir), []);
  },
);

kernelTest(
  "loop detach detaches each DEVICE, and names one that is not attached",
  { ...needs, root: true },
  async (t) => {
    const devices: string[] = [];
    for (const name of ["one", "two", "three"]) {
      Deno.writeFileSync(`${t.dir}/${name}`, new Uint8Array(1 << 16));
      devices.push((await command(["loop", "attach", `${t.dir}/${name}`])).out.trim());
    }
    assertEquals(loopDevices(t.dir).length, 3);
    assertEquals((await command(["loop", "detach", ...devices])).code, 0);
    assertEquals(loopDevices(t.dir), []);
    const again = await command(["loop", "detach", devices[0] ?? ""]);
    assertEquals([again.code, again.err.includes(devices[0] ?? "?"), again.err.split("\n").length], [
      1,
      true,
      2,
    ]);
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
  needs,
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

/** The mounts of this namespace in the temporary directories of the command. */
function temporaryMounts(): number {
  return parseTable(readText("/proc/self/mountinfo") ?? "").filter(({ mountpoint }) =>
    /\/denomount-\w{6}\//.test(mountpoint)
  ).length;
}

kernelTest(
  "run mounts in this namespace, and with --private in a new one that this one does not see",
  needs,
  async (t) => {
    const list = listFile(t.dir, [TMPFS]);
    const own = linkText("/proc/self/ns/mnt");
    for (const [flags, isPrivate] of [[[], false], [["--private"], true]] as const) {
      const script = `readlink /proc/self/ns/mnt; pwd; echo "$DENOMOUNT_ROOT"; grep -c . "$0"; cat`;
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "-A", cli, "run", ...flags, list, "--", "sh", "-c", script, list],
        stdin: "piped",
        stdout: "piped",
      }).spawn();
      const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      while (text.split("\n").length < 5) text += (await reader.read()).value ?? "";
      const [namespace, directory, root, lines] = text.split("\n");
      assertEquals([namespace === own, directory, lines], [!isPrivate, root, "1"]);
      assertEquals(temporaryMounts(), isPrivate ? 0 : 1);
      await child.stdin.close();
      assertEquals((await child.status).code, 0);
      await reader.cancel();
    }
  },
);

kernelTest(
  "run --chroot makes the mount the root directory, also with --private; its words are the command's",
  needs,
  async (t) => {
    t.make("root/dev");
    const file = listFile(t.dir, [
      { type: "bind", source: `${t.dir}/root`, options: ["bind"] },
      ...["usr", "bin", "lib", "lib64"].flatMap((name) =>
        names("/").includes(name)
          ? [{ type: "bind", source: `/${name}`, target: name, options: ["rbind", "ro", "X-mount.mkdir"] }]
          : []
      ),
    ]);
    const echo = ["/bin/sh", "-c", 'cd /; ls -d dev; ls -d proc etc 2>&1 | grep -c cannot; echo "$0" "$@"'];
    for (const flags of [["--chroot"], ["--chroot", "--private"], ["--private", "--chroot"]]) {
      for (const separator of [[], ["--"]]) {
        const words = ["--private", "--", "-x", "--chroot"];
        const { code, out, err } = await denomount(["run", ...flags, file, ...separator, ...echo, ...words]);
        assertEquals([code, out], [0, `dev\n2\n${words.join(" ")}\n`], err);
      }
    }
  },
);

kernelTest("run --private detaches a busy mount at once", needs, async (t) => {
  const pidFile = `${t.dir}/pid`;
  const daemon = ["sh", "-c", `sleep 60 > /dev/null 2>&1 & echo $! > ${pidFile}; exit 3`];
  const start = performance.now();
  const { code, err } = await denomount(["run", "--private", listFile(t.dir, [TMPFS]), "--", ...daemon]);
  Deno.kill(Number(Deno.readTextFileSync(pidFile)), "SIGKILL");
  assertEquals([code, err], [3, ""]);
  assert(performance.now() - start < 2000);
});

kernelTest("run exits with 128 and the number of the signal that ended its command", needs, async (t) => {
  const list = listFile(t.dir, [TMPFS]);
  for (const [signal, status] of [["KILL", 137], ["TERM", 143]] as const) {
    assertEquals((await command(["run", list, "--", "sh", "-c", `kill -${signal} $$`])).code, status);
  }
  assertEquals((await command(["run", list, "--", "sh", "-c", "exit 255"])).code, 255);
  const missing = await command(["run", list, "--", "no-such-program"]);
  assertEquals([missing.code, missing.err], [1, 'denomount: program not found: "no-such-program"\n']);
  assertEquals(temporaryMounts(), 0);
});

kernelTest(
  "run names the package of a program that is not installed",
  needs,
  async (t) => {
    const hide = (name: string) =>
      ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].filter((directory) => names(directory).includes(name))
        .map((directory) => `mount --bind /dev/null ${directory}/${name}`);
    const list = listFile(t.dir, [TMPFS]);
    for (
      const [program, flag, name] of [["chroot", "--chroot", "coreutils"], [
        "unshare",
        "--private",
        "util-linux",
      ]] as const
    ) {
      const script = [...hide(program), `exec "$@"`].join("; ");
      const args = [Deno.execPath(), "run", "--quiet", "-A", cli, "run", flag, list, "/bin/true"];
      const { code, stderr } = await new Deno.Command("unshare", {
        args: ["-m", "--propagation", "private", "sh", "-c", script, "sh", ...args],
      }).output();
      assertEquals([code, new TextDecoder().decode(stderr)], [
        1,
        `denomount: program not found: "${program}": install the package ${name}\n`,
      ]);
    }
  },
);
