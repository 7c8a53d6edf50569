import { assert, assertEquals, assertMatch, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { linkText, names, parseTable, readText } from "../kernel.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";
import { denomount } from "./command.ts";
import { command, listFile } from "./in_process.ts";
import { at, denomountUnder, killedAt, leftBehind, MANAGED, mountedTypes } from "./managed.ts";

const needs = { permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject };
const DONE = { code: 0, out: "", err: "" };

async function activationNames(t: KernelContext): Promise<string[]> {
  return (await command(["activations", "--names", ...at(t)])).out.split("\n").slice(0, -1);
}

/** Fails unless nothing is mounted, and nothing left of the manager. */
async function assertNothingLeft(t: KernelContext): Promise<void> {
  assertEquals([t.mounts(), leftBehind(t), await activationNames(t)], [[], [], []]);
}

kernelTest(
  "up activates a list that needs it under the target's name, and down takes both off, by any path of the target",
  needs,
  async (t) => {
    const list = listFile(t.dir, MANAGED);
    const target = t.make("target");
    Deno.symlinkSync("target", `${t.dir}/link`);
    assertEquals(await command(["up", ...at(t), list, `${t.dir}/link`]), { ...DONE, out: `${target}\n` });
    assertEquals(t.mounts().map(({ mountpoint, fsType }) => [mountpoint.split("/")[1], fsType]), [
      ["manager", "tmpfs"],
      ["target", "overlay"],
    ]);
    assertEquals(await activationNames(t), [`up:${target}`]);
    Deno.writeTextFileSync(`${target}/new`, "");
    assertEquals(names(`${t.dir}${t.mounts()[0]?.mountpoint}/upper`), ["new"]);
    assertEquals(await command(["down", ...at(t), list, `${t.dir}/../${t.dir.slice(5)}/target/.`]), DONE);
    await assertNothingLeft(t);
    assertEquals(await command(["down", ...at(t), list, target]), DONE); // as umount of what is not mounted
    await assertNothingLeft(t);
  },
);

kernelTest("a list that needs no manager is mounted without one", needs, async (t) => {
  const list = listFile(t.dir, [{ type: "tmpfs", source: "t" }]);
  const target = t.make("target");
  assertEquals((await command(["up", ...at(t), list, target])).code, 0);
  assertEquals((await command(["down", ...at(t), list, target])).code, 0);
  assertEquals(names(t.dir), ["list.json", "target"]);
});

kernelTest("up --replace replaces what is mounted, and leaves it if the list fails or needs the manager", {
  ...needs,
  features: ["mountBeneath"],
}, async (t) => {
  const target = t.make("target");
  const list = (name: string, ...options: string[]) =>
    listFile(t.dir, [{ type: "tmpfs", source: name, options }]);
  const sources = () => t.mounts().map(({ source, mountpoint }) => [source, mountpoint]);
  assertEquals((await command(["up", list("old"), target])).code, 0);
  assertEquals(await command(["up", "--replace", list("new"), target]), { ...DONE, out: `${target}\n` });
  assertEquals(sources(), [["new", "/target"]]);
  const { code, err } = await command(["up", "--replace", list("wrong", "bogus"), target]);
  assertEquals([code, sources()], [1, [["new", "/target"]]]);
  assertStringIncludes(err, "bogus");
  const managed = await command(["up", ...at(t), "--replace", listFile(t.dir, MANAGED), target]);
  assertEquals([managed.code, sources(), leftBehind(t)], [1, [["new", "/target"]], []]);
  assertStringIncludes(managed.err, "denomount activate");
  const unprinted = await command(["up", "--replace", list("newer"), target], {
    write: () => {
      throw new Deno.errors.BrokenPipe("closed");
    },
  });
  assertEquals([unprinted.code, sources()], [1, [["newer", "/target"]]]); // the old one can't be mounted again
  const { out } = await command(["explain", "--replace", list("new"), target]);
  assertStringIncludes(out, `move_mount(mount, "${target}", MOVE_MOUNT_BENEATH)`);
  assertEquals(await command(["down", list("new"), target]), DONE);
  assertEquals(t.mounts(), []);
});

kernelTest("a second up of a target is refused, and the first stays", needs, async (t) => {
  const list = listFile(t.dir, MANAGED);
  const target = t.make("target");
  assertEquals((await command(["up", ...at(t), list, target])).code, 0);
  const before = t.mounts();
  assertEquals(await command(["up", ...at(t), list, target]), {
    code: 1,
    out: "",
    err: `denomount: a list is mounted on ${target} already, as the activation "up:${target}": ` +
      'unmount it with "denomount down"\n',
  });
  assertEquals([t.mounts(), leftBehind(t).length], [before, 1]);
  assertEquals((await command(["down", ...at(t), list, target])).code, 0);
});

kernelTest(
  "of two ups of one target at once, one mounts it and the other leaves nothing",
  needs,
  async (t) => {
    const list = listFile(t.dir, MANAGED);
    const target = t.make("target");
    for (let attempt = 0; attempt < 3; attempt++) {
      const both = await Promise.all([0, 1].map(() => denomount(["up", ...at(t), list, target])));
      assertEquals(both.map(({ code }) => code).sort(), [0, 1], both.map(({ err }) => err).join());
      const err = both.find(({ code }) => code === 1)?.err ?? "";
      assertMatch(err, /another process is just mounting or unmounting a list on|is mounted on .* already/);
      assertEquals([mountedTypes(t), leftBehind(t).length], [["tmpfs", "overlay"], 1]);
      assertEquals((await command(["down", ...at(t), list, target])).code, 0);
      await assertNothingLeft(t);
    }
  },
);

kernelTest("after a crash at any mount of up, up mounts the list, or down removes what is left", {
  ...needs,
  features: ["mountApi"],
  tools: ["strace"],
}, async (t) => {
  const list = listFile(t.dir, MANAGED);
  const target = t.make("target");
  const seen: string[] = [];
  const crash = async (call: string, when: number) => {
    const { signal } = await denomountUnder(killedAt(t, call, when), ["up", ...at(t), list, target]);
    seen.push(JSON.stringify([mountedTypes(t), await activationNames(t)]));
    return signal === "SIGKILL";
  };
  const whole = JSON.stringify([["tmpfs", "overlay"], [`up:${target}`]]);
  for (const call of ["mkdir", "move_mount"]) {
    let isKilled = true;
    for (let when = 2; isKilled; when++) { // the first move_mount is a probe
      isKilled = await crash(call, when);
      assertEquals(await command(["down", ...at(t), list, target]), DONE);
      await assertNothingLeft(t);
      await crash(call, when);
      const again = await command(["up", ...at(t), list, target]);
      // What is mounted completely stays, also if the process could not print it.
      assertEquals(
        [again.code, again.err.includes("already")],
        seen.at(-1) === whole ? [1, true] : [0, false],
      );
      assertEquals(JSON.stringify([mountedTypes(t), await activationNames(t)]), whole);
      assertEquals(await command(["down", ...at(t), list, target]), DONE);
      await assertNothingLeft(t);
    }
  }
  const between = JSON.stringify([["tmpfs"], [`up:${target}`]]); // activated, and not mounted
  const half = JSON.stringify([["tmpfs"], []]);
  assert([between, half, whole].every((state) => seen.includes(state)), seen.join("\n"));
});

kernelTest("after a crash of down, down completes it", { ...needs, tools: ["strace"] }, async (t) => {
  const list = listFile(t.dir, MANAGED);
  const target = t.make("target");
  for (const [call, when] of [["umount2", 1], ["rmdir", 1], ["rmdir", 2]] as const) {
    assertEquals((await command(["up", ...at(t), list, target])).code, 0);
    const { signal } = await denomountUnder(killedAt(t, call, when), ["down", ...at(t), list, target]);
    assertEquals([signal, leftBehind(t).length > 0], ["SIGKILL", true]);
    assertEquals(await command(["down", ...at(t), list, target]), DONE);
    assertEquals([t.mounts(), await activationNames(t)], [[], []]);
    assertEquals(await command(["sync", ...at(t)]), DONE); // removes a directory whose record is gone already
    await assertNothingLeft(t);
  }
});

kernelTest("after umount of the target, up mounts the list again, and down deactivates it", {
  ...needs,
  tools: ["umount"],
}, async (t) => {
  const list = listFile(t.dir, MANAGED);
  const target = t.make("target");
  for (const last of ["up", "down"]) {
    assertEquals((await command(["up", ...at(t), list, target])).code, 0);
    await run("umount", target);
    if (last === "up") assertEquals((await command(["up", ...at(t), list, target])).code, 0);
    assertEquals((await command(["down", ...at(t), list, target])).code, 0);
    await assertNothingLeft(t);
  }
});

kernelTest(
  "down deactivates a list whose target directory is gone",
  { ...needs, tools: ["umount"] },
  async (t) => {
    const list = listFile(t.dir, MANAGED);
    const target = t.make("target");
    assertEquals((await command(["up", ...at(t), list, target])).code, 0);
    await run("umount", target);
    Deno.removeSync(target);
    assertEquals(await command(["down", ...at(t), list, target]), DONE);
    await assertNothingLeft(t);
  },
);

kernelTest(
  "down leaves what up has not mounted, and says so",
  { ...needs, tools: ["mount", "umount"] },
  async (t) => {
    const list = listFile(t.dir, MANAGED);
    const target = t.make("target");
    await run("mount", "-t", "tmpfs", "-o", "size=64k", "foreign", target);
    const { code, err } = await command(["down", ...at(t), list, target]);
    assertEquals([code, t.mounts().map(({ source }) => source)], [1, ["foreign"]]);
    assertEquals(
      err,
      `denomount: ${target} is mounted, but not by "denomount up" with this list and this root directory: see --root\n`,
    );
    await run("umount", target);
  },
);

kernelTest("down of a busy target fails and keeps the activation, and --lazy takes both off", {
  ...needs,
  tools: ["sleep"],
}, async (t) => {
  const list = listFile(t.dir, MANAGED);
  const target = t.make("target");
  assertEquals((await command(["up", ...at(t), list, target])).code, 0);
  const holder = new Deno.Command("sleep", { args: ["60"], cwd: target }).spawn();
  try {
    const { code, err } = await command(["down", ...at(t), "--timeout", "0", list, target]);
    assertEquals([code, mountedTypes(t)], [1, ["tmpfs", "overlay"]]);
    assertStringIncludes(err, `sleep (pid ${holder.pid})`);
    assertEquals(await command(["down", ...at(t), "--lazy", list, target]), DONE);
    await assertNothingLeft(t);
  } finally {
    holder.kill("SIGKILL");
    await holder.status;
  }
});

kernelTest(
  "up --namespace mounts in that namespace what the manager has mounted here, and down takes both off",
  {
    ...needs,
    tools: ["unshare", "nsenter"],
  },
  async (t) => {
    const list = listFile(t.dir, MANAGED);
    const target = t.make("target");
    await using namespace = await MountNamespace.start();
    const there = () =>
      parseTable(readText(`/proc/${namespace.pid}/mountinfo`) ?? "").filter(({ mountpoint }) =>
        mountpoint === target
      );
    const flags = [...at(t), "--namespace", `${namespace.pid}`];
    // Another process: the descriptor of the namespace belongs to the mounts' handle until they are unmounted.
    const { code, out, err } = await denomount(["up", ...flags, list, target]);
    assertEquals([code, out, err, mountedTypes(t)], [0, `${target}\n`, "", ["tmpfs"]]);
    assertEquals(there().map(({ fsType }) => fsType), ["overlay"]);
    assertEquals(await activationNames(t), [`up:${target} in ${linkText(`/proc/${namespace.pid}/ns/mnt`)}`]);
    // The same target in this namespace is another one.
    assertEquals((await command(["up", ...at(t), list, target])).code, 0);
    assertEquals((await denomount(["up", ...flags, list, target])).code, 1);
    assertEquals((await command(["down", ...at(t), list, target])).code, 0);
    assertEquals([mountedTypes(t), there().length], [["tmpfs"], 1]);
    assertEquals(await command(["down", ...flags, list, target]), DONE);
    assertEquals(there(), []);
    await assertNothingLeft(t);
    const gone = await command(["up", ...at(t), "--namespace", "999999999", list, target]);
    assertEquals(gone.code, 1);
    assertStringIncludes(gone.err, "there is no process 999999999");
  },
);

kernelTest("up that fails, or can't print its mountpoints, leaves nothing", needs, async (t) => {
  const target = t.make("target");
  const list = listFile(t.dir, MANAGED);
  const { code } = await command(["up", ...at(t), list, target], {
    write: () => {
      throw new Deno.errors.BrokenPipe("closed");
    },
  });
  assertEquals(code, 1);
  await assertNothingLeft(t);
  const bad = listFile(t.dir, [...MANAGED, { type: "bind", source: `${t.dir}/missing` }], "bad.json");
  const failed = await command(["up", ...at(t), bad, target]);
  assertEquals([failed.code, failed.err.split("\n").length], [1, 2]);
  assertStringIncludes(failed.err, "missing");
  await assertNothingLeft(t);
  const nowhere = await command(["up", ...at(t), list, `${t.dir}/nowhere`]);
  assertEquals([nowhere.code, nowhere.out], [1, ""]);
  await assertNothingLeft(t);
});

kernelTest("run mounts a list that needs the manager, also in a namespace of its own, and leaves nothing", {
  ...needs,
  tools: ["unshare", "stat"],
}, async (t) => {
  const list = listFile(t.dir, MANAGED);
  for (const flags of [[], ["--private"]]) {
    const { code, out, err } = await denomount([
      ...["run", ...flags, ...at(t), list, "--", "sh", "-c", "stat -fc %T .; exit 7"],
    ]);
    assertEquals([code, out, err], [7, "overlayfs\n", ""]);
    await assertNothingLeft(t);
  }
});

kernelTest(
  "an instruction for the manager that its entry's type does not name is refused by its name",
  needs,
  async (t) => {
    const word = `X-containerd.mkdir.path=${t.dir}/new`;
    const list = listFile(t.dir, [{ type: "tmpfs", source: "t", options: [`size=64k,${word}`] }]);
    for (const args of [["up", ...at(t), list, t.make("target")], ["run", ...at(t), list, "true"]]) {
      assertEquals(await command(args), {
        code: 1,
        out: "",
        err: `denomount: "${word}" needs the modifier "mkdir/" before the type\n`,
      });
      await assertNothingLeft(t);
    }
  },
);

kernelTest(
  "explain of a list that needs the manager names the command that prepares it",
  needs,
  async (t) => {
    assertEquals(await command(["explain", listFile(t.dir, MANAGED), t.dir]), {
      code: 1,
      out: "",
      err:
        'denomount: this list is for the mount manager: "denomount activate NAME FILE" prints the list that ' +
        '"denomount explain" takes\n',
    });
  },
);
