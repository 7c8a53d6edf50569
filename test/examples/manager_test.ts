import { assertEquals, assertStringIncludes } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { loopDevicesLeft, names, readText } from "../kernel.ts";
import { project, say } from "../use/ways.ts";

const example = new URL("examples/manager.ts", project).pathname;

kernelTest("a root of erofs layers and an ext4 image keeps its files from run to run, also after a kill", {
  root: true,
  tools: ["mkfs.erofs", "mkfs.ext4", "busybox", "chroot"],
  permissions: { run: true, env: true },
}, async (t) => {
  t.make("base/bin", "app", "state");
  Deno.copyFileSync("/bin/busybox", `${t.dir}/base/bin/busybox`);
  Deno.chmodSync(`${t.dir}/base/bin/busybox`, 0o755);
  Deno.symlinkSync("busybox", `${t.dir}/base/bin/sh`);
  for (const layer of ["base", "app"]) {
    Deno.writeTextFileSync(`${t.dir}/${layer}/layer`, layer);
    const { code, err } = await say("mkfs.erofs", [
      "--quiet",
      `${t.dir}/${layer}.erofs`,
      `${t.dir}/${layer}`,
    ]);
    assertEquals(code, 0, err);
  }
  const args = (...command: string[]) => [
    ...["run", "--quiet", "-A", example, `${t.dir}/state`, "box"],
    ...command.length > 0
      ? [`${t.dir}/app.erofs`, `${t.dir}/base.erofs`, "--", "/bin/sh", "-c", ...command]
      : [],
  ];
  const run = (...command: string[]) => say(Deno.execPath(), args(...command), { env: { TMPDIR: t.dir } });
  const left = async () => [
    t.mounts(),
    await loopDevicesLeft(t.dir),
    names(`${t.dir}/state`).filter((name) => !/^activations/.test(name)),
  ];

  const first = await run("busybox cat /layer; echo; busybox ls; echo written > /new; exit 7");
  assertEquals([first.code, first.out], [7, ["app", "bin", "layer", "proc"]], first.err);
  assertEquals(await left(), [[], [], ["box.img"]]);
  assertEquals((await run("busybox cat /new")).out, ["written"]);

  const child = new Deno.Command(Deno.execPath(), {
    args: args("echo up; exec busybox sleep 60"),
    env: { TMPDIR: t.dir },
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  const [sleep] = (readText(`/proc/${child.pid}/task/${child.pid}/children`) ?? "").trim().split(" ");
  child.kill("SIGKILL");
  await child.status;
  Deno.kill(Number(sleep), "SIGKILL");
  await reader.cancel();

  const refused = await run("true");
  assertEquals(refused.code, 1);
  assertStringIncludes(refused.err, "box is running, or was killed");
  assertEquals((await run()).code, 0);
  assertEquals(await left(), [[], [], ["box.img"]]);
  assertEquals((await run("busybox cat /new")).out, ["written"]);
  assertEquals((await run()).err.trim(), 'no activation is called "box"');
});
