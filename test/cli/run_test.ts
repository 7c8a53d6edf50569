import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { linkText, names, parseTable, readText } from "../kernel.ts";
import { cli, denomount, exitCode } from "./command.ts";
import { command, listFile } from "./in_process.ts";

const needs = {
  tools: ["unshare", "mount"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
};
const TMPFS = { type: "tmpfs", source: "t", options: ["size=64k"] };

/** The mounts in the namespace of a process, in the temporary directories of the command. */
function temporaryMounts(pid: number): number {
  return parseTable(readText(`/proc/${pid}/mountinfo`) ?? "").filter(({ mountpoint }) =>
    /\/denomount-\w{6}\//.test(mountpoint)
  ).length;
}

kernelTest(
  "run mounts in its namespace, also a shared one, and with --private in a new one that it does not see",
  needs,
  async (t) => {
    const list = listFile(t.dir, [TMPFS]);
    for (const [flags, isPrivate] of [[[], false], [["--private"], true]] as const) {
      const script = `readlink /proc/self/ns/mnt; pwd; echo "$DENOMOUNT_ROOT"; grep -c . "$0"; cat`;
      const shared = ["-m", "--propagation", "shared", Deno.execPath()]; // as "/" is on most machines
      const child = new Deno.Command("unshare", {
        args: [...shared, "run", "--quiet", "-A", cli, "run", ...flags, list, "--", "sh", "-c", script, list],
        stdin: "piped",
        stdout: "piped",
      }).spawn();
      const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      while (text.split("\n").length < 5) {
        const { value, done } = await reader.read();
        assert(!done, text);
        text += value;
      }
      const [namespace, directory, root, lines] = text.split("\n");
      const own = linkText(`/proc/${child.pid}/ns/mnt`);
      assertEquals([namespace === own, directory, lines], [!isPrivate, root, "1"]);
      assertEquals(temporaryMounts(child.pid), isPrivate ? 0 : 1);
      await child.stdin.close();
      assertEquals(await exitCode(child), 0);
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
  assertEquals(temporaryMounts(Deno.pid), 0);
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
