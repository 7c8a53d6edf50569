import { assertEquals, assertMatch } from "../assert.ts";
import { sandboxTest } from "./users.ts";

// What a line of arguments makes, as bubblewrap itself makes it: owners, modes, contents, what can be written, environment.
const LOOK = `
  cd /; for path in $LOOK_AT; do
    stat -c '%n %F %a %u %g' "$path" 2>&1; [ -f "$path" ] && head -c 100 "$path" 2>&-
    (: >> "$path/.made") 2>&- && rm "$path/.made" && echo "can be written"
    (: >> "$path") 2>&- && echo "can be changed"
  done; pwd; env | sort | grep -v ^_=; id -u; id -g; hostname; cat /proc/net/dev 2>&- | grep -c :; exit $STATUS`;

sandboxTest("a box by bubblewrap's words is as the one that bubblewrap makes", {
  onlyUser: true,
  tools: ["bwrap"],
}, async (t) => {
  const differences = await t.run(`
    Deno.mkdirSync(dir + "/a/sub", { recursive: true }); Deno.mkdirSync(dir + "/b");
    Deno.writeTextFileSync(dir + "/a/file", "text"); Deno.writeTextFileSync(dir + "/a/sub/file", "deep");
    Deno.writeTextFileSync(dir + "/other", "other"); Deno.chmodSync(dir + "/other", 0o640);
    Deno.symlinkSync("sub", dir + "/a/link");
    const SYSTEM = "--ro-bind /usr /usr --ro-bind /etc /etc --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64";
    const lines = [
      ["--ro-bind / /", "/etc/passwd /tmp /"],
      ["--ro-bind / / --dev /dev --proc /proc --unshare-all --tmpfs /tmp", "/tmp /dev /dev/null /dev/ptmx"],
      [SYSTEM, "/ /usr /bin /etc/passwd"],
      [SYSTEM + " --bind DIR/a /x/y --ro-bind DIR/a/sub /x/y/sub", "/x/y /x/y/file /x/y/sub /x/y/sub/file"],
      [SYSTEM + " --ro-bind DIR/a /x --bind DIR/a/sub /x/sub", "/x /x/file /x/sub /x/sub/file"],
      [SYSTEM + " --bind DIR/a /x --ro-bind DIR/other /x/link/file", "/x/sub/file"],
      [SYSTEM + " --bind DIR/a /x --tmpfs /x --bind-try DIR/none /x/none --ro-bind-try DIR/other /x/o", "/x /x/none /x/o"],
      [SYSTEM + " --perms 0700 --dir /p/q --perms 1777 --tmpfs /t --dir /d --chmod 0511 /d", "/p /p/q /t /d"],
      [SYSTEM + " --tmpfs /t --dir /t/d --remount-ro /t --tmpfs /t/d", "/t /t/d"],
      [SYSTEM + " --symlink /etc/passwd /s --symlink nowhere /n", "/s /n"],
      [SYSTEM + " --unshare-user --uid 7 --gid 8 --unshare-uts --hostname box --unshare-net --proc /proc", "/"],
      [SYSTEM + " --clearenv --setenv A 1 --setenv PATH /usr/bin --setenv B 2 --unsetenv A --chdir /usr", "/"],
      [SYSTEM + " --setenv HOME /etc", "/"],
    ];
    const environment = { PATH: "/usr/bin:/bin", HOME: dir, LANG: "C" };
    const show = ({ code, stdout }) => code + "\\n" + new TextDecoder().decode(stdout);
    for (const [words, paths] of lines) {
      const args = ["--cap-drop", "ALL", ...words.replaceAll("DIR", dir).split(" "), "--setenv", "LOOK_AT", paths, "--setenv", "STATUS", "3",
        "sh", "-c", ${JSON.stringify(LOOK)}];
      const theirs = show(await new Deno.Command("/usr/bin/bwrap", { args, env: environment, clearEnv: true, cwd: dir, stderr: "null" }).output());
      const plan = await fromBwrapArgs(args, { env: environment });
      await using box = await plan.start();
      const ours = show(await plan.spawn(box, { stdout: "piped", stderr: "piped" }).output());
      if (ours !== theirs || !ours.startsWith("3\\n")) say({ words, ours, theirs });
    }
  `);
  assertEquals(differences, []);
});

sandboxTest("the arguments of gemini-cli run unchanged", { onlyUser: true }, async (t) => {
  const [answer] = await t.run(`
    const work = dir + "/work";
    for (const name of ["", "/.git", "/secrets", "/notes"]) Deno.mkdirSync(work + name);
    for (const name of [".gitignore", ".geminiignore", ".env", "file"]) Deno.writeTextFileSync(work + "/" + name, "mine");
    Deno.writeTextFileSync(dir + "/mask", ""); Deno.chmodSync(dir + "/mask", 0);
    Deno.symlinkSync(work, dir + "/workspace");
    const workspace = dir + "/workspace";
    const argv = ["--unshare-all", "--new-session", "--die-with-parent", "--share-net",
      "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
      "--bind-try", dir + "/gemini", dir + "/gemini",
      "--bind-try", workspace, workspace, "--bind-try", work, work,
      "--ro-bind-try", work + "/notes", work + "/notes"];
    for (const name of [".gitignore", ".geminiignore", ".git"]) {
      argv.push("--ro-bind", workspace + "/" + name, workspace + "/" + name, "--ro-bind", work + "/" + name, work + "/" + name);
    }
    argv.push("--tmpfs", work + "/secrets", "--remount-ro", work + "/secrets", "--ro-bind", "/dev/null", "/etc/hostname",
      "--bind", dir + "/mask", work + "/.env",
      "--", "sh", "-c", "cd " + work + "; echo 1 > file; echo 2 > made; for path in .gitignore .git/hooks notes/x secrets/x /etc/x; do " +
        "(echo 3 > $path) 2>&- && echo wrote $path; done; cat .env /etc/hostname; ls secrets; ps -o sid= -p $$; echo $$; readlink /proc/self/ns/net");
    const plan = await fromBwrapArgs(argv);
    await using box = await plan.start();
    const { code, stdout, stderr } = await plan.spawn(box, { stdout: "piped", stderr: "piped" }).output();
    say({ code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr),
      made: Deno.readTextFileSync(work + "/file") + Deno.readTextFileSync(work + "/made"), dies: plan.diesWithParent, net: Deno.readLinkSync("/proc/self/ns/net") });
  `);
  assertEquals([answer.code, answer.made, answer.dies], [0, "1\n2\n", true]);
  assertMatch(answer.out, /^\s*(\d+)\n\1\n.*\n$/); // nothing was written, shown or found; a session of its own
  assertEquals(answer.out.split("\n").at(-2), answer.net); // --share-net
  assertMatch(answer.err, /\.env: Permission denied/);
});

sandboxTest("the arguments of Anthropic's sandbox-runtime run unchanged", {}, async (t) => {
  const [answer] = await t.run(`
    const project = dir + "/project", secret = dir + "/secret";
    for (const name of ["", "/.git", "/.git/hooks", "/.vscode"]) Deno.mkdirSync(project + name);
    Deno.mkdirSync(secret);
    for (const path of [project + "/.bashrc", secret + "/key", dir + "/netrc", dir + "/fake"]) Deno.writeTextFileSync(path, "secret");
    const server = Deno.listen({ transport: "unix", path: dir + "/http.sock" });
    const same = (option, ...paths) => paths.flatMap((path) => [option, path, path]);
    const argv = ["--new-session", "--die-with-parent", "--unsetenv", "SECRET_TOKEN", "--setenv", "KEY", "masked",
      "--unshare-net", ...same("--bind", dir + "/http.sock"), "--setenv", "HTTP_PROXY", "http://localhost:3128",
      ...same("--ro-bind", "/"), ...same("--bind", project),
      "--tmpfs", secret, "--ro-bind", "/dev/null", dir + "/netrc", "--ro-bind", dir + "/fake", project + "/.bashrc",
      ...same("--ro-bind", project + "/.git/hooks", project + "/.vscode"),
      "--dev", "/dev", "--unshare-pid", "--unshare-user", "--cap-drop", "ALL", "--proc", "/proc",
      "--", "/bin/bash", "-c", "cd " + project + "; echo 1 > file; for path in .git/hooks/x .vscode/x /etc/x ../x; do " +
        "(echo 3 > $path) 2>&- && echo wrote $path; done; ls -A ../secret; cat ../netrc; test -S ../http.sock && echo socket; " +
        "echo [$SECRET_TOKEN] $KEY $HTTP_PROXY; grep CapEff /proc/self/status; grep -c : /proc/net/dev"];
    const plan = await fromBwrapArgs(argv);
    await using box = await plan.start();
    const { code, stdout } = await plan.spawn(box, { stdout: "piped", stderr: "piped" }).output();
    server.close();
    say({ code, out: new TextDecoder().decode(stdout), made: Deno.readTextFileSync(project + "/file") });
  `);
  assertEquals([answer.code, answer.made], [0, "1\n"]);
  assertEquals(answer.out, "socket\n[] masked http://localhost:3128\nCapEff:\t0000000000000000\n1\n");
});
