import { assert, assertEquals, assertMatch, assertStringIncludes } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { loopDevicesLeft, names } from "../kernel.ts";
import { run } from "../namespace/namespaces.ts";
import { cli, denomount } from "./command.ts";
import { command, listFile } from "./in_process.ts";
import {
  at,
  denomountUnder,
  isRunning,
  killedAt,
  leftBehind,
  MANAGED,
  mountedTypes,
  sleepingMkfs,
} from "./managed.ts";

const needs = { permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject };
const failed = (err: string) => ({ code: 1, out: "", err: `denomount: ${err}\n` });
const DONE = { code: 0, out: "", err: "" };

kernelTest(
  "activate prints the list that remains, which up takes, and deactivate unmounts the rest",
  needs,
  async (t) => {
    const list = listFile(t.dir, MANAGED);
    const target = t.make("target");
    const { code, out, err } = await command(["activate", ...at(t), "box", list]);
    assertEquals([code, err, mountedTypes(t)], [0, "", ["tmpfs"]]);
    const [base] = t.mounts().map(({ mountpoint }) => t.dir + mountpoint);
    assertEquals(JSON.parse(out), [{
      type: "overlay",
      source: "overlay",
      options: ["lowerdir=/usr", `upperdir=${base}/upper`, `workdir=${base}/work`],
    }]);
    assertEquals((await command(["up", "-", target], { input: out })).code, 0);
    assertEquals(mountedTypes(t), ["tmpfs", "overlay"]);
    assertEquals((await command(["down", "-", target], { input: out })).code, 0);
    assertEquals(await command(["deactivate", ...at(t), "box"]), DONE);
    assertEquals([mountedTypes(t), leftBehind(t)], [[], []]);
  },
);

kernelTest(
  "activate takes its list from standard input, and --temporary mounts all of it",
  needs,
  async (t) => {
    const { code, out } = await command(["activate", ...at(t), "--temporary", "box", "-"], {
      input: JSON.stringify(MANAGED),
    });
    assertEquals([code, mountedTypes(t)], [0, ["tmpfs", "overlay"]]);
    const last = `${t.dir}${t.mounts()[1]?.mountpoint}`;
    assertEquals(JSON.parse(out), [{ type: "bind", source: last, options: ["rbind"] }]);
    assertEquals((await command(["deactivate", "box", ...at(t)])).code, 0);
  },
);

kernelTest(
  "activations prints names, states and labels; --label filters, --json has the mounts, --names the names",
  needs,
  async (t) => {
    const list = listFile(t.dir, MANAGED);
    assertEquals(await command(["activations", ...at(t)]), { ...DONE, out: "NAME  STATE  MOUNTS  LABELS\n" });
    await command(["activate", ...at(t), "--label", "app=web", "--label", "note=a=b", "one", list]);
    await command([
      "activate",
      ...at(t),
      "--label",
      "app=web",
      "--label",
      "app=",
      "two\x1b[31m",
      listFile(t.dir, [], "none"),
    ]);
    assertEquals((await command(["activations", ...at(t)])).out.split("\n").map((line) => line.split(/ +/)), [
      ["NAME", "STATE", "MOUNTS", "LABELS"],
      ["one", "active", "1", "app=web", "note=a=b"],
      ["two\\033[31m", "active", "0", "app="],
      [""],
    ]);
    assertEquals((await command(["activations", ...at(t), "--names"])).out, "one\ntwo\\033[31m\n");
    assertEquals((await command(["activations", ...at(t), "--names", "--label", "app=web"])).out, "one\n");
    assertEquals(
      (await command(["activations", ...at(t), "--names", "--label", "app=web", "--label", "note=c"])).out,
      "",
    );
    const [one, two] = JSON.parse((await command(["activations", ...at(t), "--json"])).out);
    assertEquals(Object.keys(one).sort(), ["active", "labels", "name", "system"]);
    assertEquals([one.name, one.labels], ["one", { app: "web", note: "a=b" }]);
    const [{ mountedAt, mountPoint, ...mount }] = one.active;
    assertEquals(mount, { type: "tmpfs", source: "base", options: ["size=1m"], data: {} });
    assertEquals([mountPoint], t.mounts().map(({ mountpoint }) => t.dir + mountpoint));
    assertMatch(mountedAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assertEquals(one.system.map(({ type }: { type: string }) => type), ["overlay"]);
    assertEquals(two, { name: "two\x1b[31m", active: [], system: [], labels: { app: "" } });
    for (const name of ["one", "two\x1b[31m"]) {
      assertEquals(
        (await command(["deactivate", ...at(t), name])).code,
        0,
      );
    }
  },
);

kernelTest("activations, sync and the names make no directory where there is none", needs, async (t) => {
  for (const args of [["activations"], ["activations", "--json"], ["activations", "--names"], ["sync"]]) {
    assertEquals((await command([...args, ...at(t)])).code, 0);
    assertEquals(names(t.dir), []);
  }
});

kernelTest("a usage error of the manager's commands is one line and status 2", needs, async (t) => {
  const list = listFile(t.dir, MANAGED);
  for (
    const [args, word] of [
      [["activate"], "NAME"],
      [["activate", "box"], "FILE"],
      [["activate", "box", list, "more"], "too many arguments"],
      [["activate", "box", list, "--label", "app"], "Must be KEY=VALUE"],
      [["activate", "box", list, "--label", "=x"], "Must be KEY=VALUE"],
      [["activate", "box", list, "--lazy"], "--lazy"],
      [["activate", "box", list, "--root"], "--root"],
      [["deactivate"], "NAME"],
      [["deactivate", "a", "b"], "too many arguments"],
      [["deactivate", "a", "--timeout", "soon"], "milliseconds"],
      [["deactivate", "a", "--temporary"], "--temporary"],
      [["activations", "a"], "too many arguments"],
      [["activations", "--label", "x"], "Must be KEY=VALUE"],
      [["sync", "a"], "too many arguments"],
      [["sync", "--json"], "--json"],
    ] as const
  ) {
    const { code, out, err } = await command([...args, ...args.includes("--root" as never) ? [] : at(t)]);
    assertEquals([code, out, err.trimEnd().split("\n").length], [2, "", 1], args.join(" "));
    assertStringIncludes(err, word);
    assertEquals(names(t.dir), ["list.json"]);
  }
});

kernelTest("a call that fails is one line and status 1, and leaves nothing", needs, async (t) => {
  const list = listFile(t.dir, MANAGED);
  const file = (mounts: unknown[]) => listFile(t.dir, mounts, "other.json");
  const activate = (path: string, name = "box") => command(["activate", ...at(t), name, path]);
  assertEquals(await command(["deactivate", ...at(t), "box"]), failed('no activation is called "box"'));
  assertEquals(await activate(`${t.dir}/missing`), failed(`${t.dir}/missing does not exist`));
  assertEquals(
    await activate(list, ""),
    failed("the name of an activation is a text of at least one character, without NUL"),
  );
  assertEquals(
    await activate(file([{ type: "format/bind", source: "{{ mount 0 }}" }])),
    failed('the template "{{ mount 0 }}" is wrong: no mount is before it'),
  );
  const outside = [{ type: "mkdir/tmpfs", source: "t", options: ["X-containerd.mkdir.path=/srv/x"] }];
  assertEquals(
    await activate(file(outside)),
    failed(`mkdir makes nothing at "/srv/x": it is in none of ${t.dir}/manager`),
  );
  const missing = await activate(
    file([...MANAGED, { type: "format/bind", source: "/missing" }, { type: "loop", source: "/x" }]),
  );
  assertEquals([missing.code, missing.out, missing.err.split("\n").length], [1, "", 2]);
  assertEquals(
    await command(["activate", "--root", "relative:colon", "box", list]),
    failed(
      `the manager can't use "${Deno.cwd()}/relative:colon": it has a colon, comma, quote, backslash or space in it`,
    ),
  );
  Deno.chmodSync(t.make("open"), 0o777);
  assertEquals(
    await command(["activate", "--root", `${t.dir}/open`, "box", list]),
    failed(`other users can write to "${t.dir}/open": they could replace what is mounted in it`),
  );
  Deno.mkdirSync(`${t.dir}/damaged`, { mode: 0o700 });
  Deno.writeTextFileSync(`${t.dir}/damaged/activations.db`, "not a database".repeat(100));
  for (const args of [["activate", "box", list], ["activations"], ["sync"], ["deactivate", "box"]]) {
    const { code, err } = await command([...args, "--root", `${t.dir}/damaged`]);
    assertEquals([code, err.split("\n").length], [1, 2], err);
    assertStringIncludes(err, "it is damaged");
  }
  assertEquals([mountedTypes(t), leftBehind(t)], [[], []]);
  assertEquals((await activate(list)).code, 0);
  assertEquals(await activate(list), failed('the activation "box" exists already'));
  assertEquals(mountedTypes(t), ["tmpfs"]);
  assertEquals((await command(["deactivate", ...at(t), "box"])).code, 0);
});

kernelTest("--allow-dir lets mkdir/ and mkfs/ make files in more directories, also relative ones", {
  ...needs,
  root: true,
  tools: ["mkfs.ext4"],
}, async (t) => {
  t.make("one", "two");
  const list = listFile(t.dir, [
    { type: "mkfs/ext4", source: `${t.dir}/one/data.img`, options: ["X-containerd.mkfs.size=8MiB", "loop"] },
    {
      type: "format/mkdir/bind",
      source: "{{ mount 0 }}",
      options: [`X-containerd.mkdir.path=${t.dir}/two/dir:700`],
    },
  ]);
  const args = ["activate", "box", list, ...at(t)];
  assertEquals((await command([...args, "--allow-dir", `${t.dir}/two`])).code, 1);
  const { code, err } = await denomount([...args, "--allow-dir", "one", "--allow-dir", `${t.dir}/two`], {
    cwd: t.dir,
  });
  assertEquals([code, err, mountedTypes(t)], [0, "", ["ext4"]]);
  assertEquals((await command(["deactivate", "box", ...at(t)])).code, 0);
  // The data stays.
  assertEquals([names(`${t.dir}/one`), names(`${t.dir}/two`), await loopDevicesLeft(t.dir)], [
    ["data.img"],
    ["dir"],
    [],
  ]);
});

kernelTest("deactivate of a busy mount fails after --timeout and names the process, and --lazy detaches it", {
  ...needs,
  tools: ["sleep"],
}, async (t) => {
  assertEquals((await command(["activate", ...at(t), "box", listFile(t.dir, MANAGED)])).code, 0);
  const holder = new Deno.Command("sleep", { args: ["60"], cwd: `${t.dir}${t.mounts()[0]?.mountpoint}` })
    .spawn();
  try {
    const { code, out, err } = await command(["deactivate", ...at(t), "--timeout", "0", "box"]);
    assertEquals([code, out], [1, ""]);
    assertStringIncludes(err, `sleep (pid ${holder.pid})`);
    assertEquals(mountedTypes(t), ["tmpfs"]);
    assertStringIncludes((await command(["activations", ...at(t)])).out, "box");
    assertEquals(await command(["deactivate", ...at(t), "--lazy", "box"]), DONE);
    assertEquals([mountedTypes(t), leftBehind(t)], [[], []]);
  } finally {
    holder.kill("SIGKILL");
    await holder.status;
  }
});

kernelTest("activate is undone if the list that remains can't be printed", needs, async (t) => {
  const args = ["activate", ...at(t), "box", listFile(t.dir, MANAGED)];
  const { code, err } = await command(args, {
    write: () => {
      throw new Deno.errors.BrokenPipe("closed");
    },
  });
  assertEquals([code, err], [1, "denomount: cannot write to standard output: closed\n"]);
  assertEquals([mountedTypes(t), leftBehind(t), (await command(["activations", "--names", ...at(t)])).out], [
    [],
    [],
    "",
  ]);
});

kernelTest("activate prints its progress if mkfs takes more than a second, on a terminal only", {
  ...needs,
  root: true,
  tools: ["sh", "sleep"],
}, async (t) => {
  Deno.writeTextFileSync(`${t.make("bin")}/mkfs.ext4`, "#!/bin/sh\nsleep 1.5\necho no >&2\nexit 1\n", {
    mode: 0o755,
  });
  const path = Deno.env.get("PATH") ?? "";
  Deno.env.set("PATH", `${t.dir}/bin:${path}`);
  try {
    const list = listFile(t.dir, [
      { type: "mkfs/ext4", source: `${t.dir}/manager/data.img`, options: ["X-containerd.mkfs.size=8MiB"] },
    ]);
    const why = `denomount: mkfs.ext4 can't make the image "${t.dir}/manager/data.img": no\n`;
    for (const isTerminal of [true, false]) {
      const { code, out, err } = await command(["activate", ...at(t), "box", list], { isTerminal });
      assertEquals([code, out], [1, ""]);
      assertEquals(err.startsWith("\r\x1b[Kactivating box, 1 s"), isTerminal);
      assertEquals(err.slice(err.indexOf("denomount: ")), why);
      assertEquals([mountedTypes(t), leftBehind(t)], [[], []]);
    }
  } finally {
    Deno.env.set("PATH", path);
  }
});

for (const [signal, status] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  kernelTest(
    `${signal} in the middle of activate ends mkfs, undoes what was done, and exits with ${status}`,
    {
      ...needs,
      root: true,
      tools: ["sh", "sleep"],
    },
    async (t) => {
      const { env, running } = sleepingMkfs(t);
      const list = listFile(t.dir, [
        ...MANAGED,
        {
          type: "mkfs/ext4",
          source: `${t.dir}/manager/data.img`,
          options: ["X-containerd.mkfs.size=8MiB", "loop"],
        },
      ]);
      for (
        const args of [["activate", ...at(t), "box", list], ["up", ...at(t), list, t.make("target")], [
          "run",
          ...at(t),
          list,
          "true",
        ]]
      ) {
        const child = new Deno.Command(Deno.execPath(), {
          args: ["run", "--quiet", "-A", cli, ...args],
          env,
          stdout: "piped",
          stderr: "piped",
        }).spawn();
        const mkfs = await running();
        assert(isRunning(mkfs) && mountedTypes(t).length > 0);
        child.kill(signal);
        const { code, stdout, stderr } = await child.output();
        assertEquals([code, stdout.length, new TextDecoder().decode(stderr)], [status, 0, ""], args[0]);
        while (isRunning(mkfs)) await new Promise((resolve) => setTimeout(resolve, 5));
        assertEquals([mountedTypes(t), leftBehind(t)], [[], []], args[0]);
        assertEquals((await command(["activations", ...at(t), "--names"])).out, "");
      }
    },
  );
}

kernelTest(
  "sync undoes what a killed activate has left, and finds what was unmounted by hand, as after a reboot",
  {
    ...needs,
    tools: ["strace", "umount"],
  },
  async (t) => {
    const list = listFile(t.dir, MANAGED);
    const { signal } = await denomountUnder(killedAt(t, "mkdir", 3), [
      "activate",
      ...at(t),
      "crashed",
      list,
    ]);
    assertEquals([signal, mountedTypes(t)], ["SIGKILL", ["tmpfs"]]);
    assertEquals((await command(["activations", ...at(t), "--names"])).out, ""); // not complete
    assertEquals((await command(["activate", ...at(t), "gone", list])).code, 0);
    assertEquals((await command(["activate", ...at(t), "kept", list])).code, 0);
    const [gone] = JSON.parse((await command(["activations", ...at(t), "--json"])).out);
    await run("umount", gone.active[0].mountPoint);
    assertEquals(await command(["sync", ...at(t)]), { ...DONE, out: "removed crashed\nlost gone\n" });
    assertEquals(mountedTypes(t), ["tmpfs"]);
    assertEquals(await command(["sync", ...at(t)]), { ...DONE, out: "lost gone\n" });
    assertEquals((await command(["activations", ...at(t)])).out.split("\n")[1]?.split(/ +/), [
      "gone",
      "lost",
      "1",
    ]);
    assertEquals(JSON.parse((await command(["activations", ...at(t), "--json"])).out)[0].lost, true);
    assertEquals((await command(["activate", ...at(t), "gone", list])).code, 0);
    assertEquals([await command(["sync", ...at(t)]), mountedTypes(t)], [DONE, ["tmpfs", "tmpfs"]]);
    for (const name of ["gone", "kept"]) {
      assertEquals((await command(["deactivate", ...at(t), name])).code, 0);
    }
    assertEquals([mountedTypes(t), leftBehind(t)], [[], []]);
  },
);

kernelTest(
  "of two processes that activate one name, one wins, and the other fails and leaves nothing",
  needs,
  async (t) => {
    const list = listFile(t.dir, MANAGED);
    for (let attempt = 0; attempt < 3; attempt++) {
      const both = await Promise.all([0, 1].map(() => denomount(["activate", ...at(t), "box", list])));
      const [winner, loser] = both.sort((a, b) => a.code - b.code);
      assertEquals([winner?.code, loser?.code, loser?.out], [0, 1, ""], loser?.err);
      assertMatch(
        loser?.err ?? "",
        /^denomount: the activation "box" (exists already|is just being activated)\n$/,
      );
      assertEquals([mountedTypes(t), leftBehind(t).length], [["tmpfs"], 1]);
      const removed = await Promise.all([0, 1].map(() => denomount(["deactivate", ...at(t), "box"])));
      assert(removed.some(({ code }) => code === 0));
      assertEquals([mountedTypes(t), leftBehind(t)], [[], []]);
    }
  },
);

kernelTest("an ordinary user has a manager of the user's own, which mounts in a user namespace only", {
  root: true,
  tools: ["setpriv", "unshare"],
  permissions: { run: true, env: true },
}, async (t) => {
  // The user can't read root's cache of Deno: everything is in one file.
  const program = `${t.dir}/denomount.js`;
  await run(Deno.execPath(), "bundle", "--quiet", "-o", program, cli);
  const list = listFile(t.dir, MANAGED);
  for (const path of [t.dir, t.make("home"), t.make("state")]) Deno.chmodSync(path, 0o777);
  const nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
  const asUser = async (wrapper: string[], args: string[], env: Record<string, string>) => {
    const command = [
      ...wrapper,
      Deno.execPath(),
      "run",
      "-A",
      "--no-config",
      "--no-npm",
      "--no-remote",
      program,
      ...args,
    ];
    const { code, stdout, stderr } = await new Deno.Command("setpriv", {
      args: [...nobody, ...command],
      env: { DENO_DIR: `${t.dir}/cache`, NO_COLOR: "1", HOME: `${t.dir}/home`, ...env },
    }).output();
    return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
  };
  const namespace = ["unshare", "-Urm"];
  const refused = await asUser([], ["activate", "box", list], {});
  assertEquals([refused.code, refused.out], [1, ""]);
  assertStringIncludes(refused.err, "cannot mount tmpfs");
  assertEquals(names(`${t.dir}/home/.local/state/denomount`).filter((name) => name.startsWith("a-")), []);
  const state = { XDG_STATE_HOME: `${t.dir}/state` };
  for (
    const [wrapper, env, directory] of [
      [namespace, {}, "home/.local/state/denomount"],
      [namespace, state, "state/denomount"],
    ] as const
  ) {
    const { code, out, err } = await asUser([...wrapper], ["activate", "box", list], env);
    assertEquals([code, err], [0, ""]);
    assertStringIncludes(out, `upperdir=${t.dir}/${directory}/a-`);
    // The mounts are gone with their namespace.
    assertEquals((await asUser([], ["sync"], env)).out, "lost box\n");
    assertEquals((await asUser([], ["deactivate", "box"], env)).code, 0);
    assertEquals((await asUser([], ["run", list, "--", "stat", "-fc", "%T", "."], env)).out, "overlayfs\n");
    assertEquals(names(`${t.dir}/${directory}`), ["activations.db"]);
  }
  const homeless = await asUser([], ["activations"], { HOME: "" });
  assertEquals(
    homeless,
    failed("neither XDG_STATE_HOME nor HOME names a directory for the mount manager: use --root"),
  );
  assertEquals(mountedTypes(t), []);
});

Deno.test(
  "up, ls and others load no database, no gRPC and no argument parser: what needs them does when it runs",
  {
    permissions: { run: true, read: true },
  },
  async () => {
    const graph = JSON.parse(await run(Deno.execPath(), "info", "--json", cli));
    interface Dependency {
      isDynamic?: boolean;
      code?: { specifier?: string };
      type?: unknown;
    }
    const modules: { specifier: string; dependencies?: Dependency[] }[] = graph.modules;
    const seen = new Set<string>();
    const visit = (specifier: string) => {
      if (seen.has(specifier)) return;
      seen.add(specifier);
      const { dependencies = [] } = modules.find((each) => each.specifier === specifier) ?? {};
      for (const { isDynamic, code } of dependencies) {
        if (!isDynamic && code?.specifier) visit(code.specifier);
      }
    };
    visit(new URL(`file://${cli}`).href);
    for (const name of ["up", "down", "mount", "umount", "list", "watch", "commands"]) {
      visit(new URL(`cli/${name}.ts`, `file://${cli}`).href);
    }
    assert(seen.size > 100, `${seen.size} modules`);
    assertEquals(
      [...seen].filter((specifier) => /^node:(?!async_hooks)|commander|grpc|string-width/.test(specifier)),
      [],
    );
    assert(modules.some(({ specifier }) => specifier === "node:sqlite"), "the graph has it");
  },
);
