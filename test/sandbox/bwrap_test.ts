import { assert, assertEquals, assertMatch, assertRejects } from "../assert.ts";
import { fromBwrapArgs } from "../../linux/sandbox/mod.ts";
import { sandboxTest } from "./users.ts";

// `bwrap(words)` runs a line of arguments, and `fails(words)` says why one is refused. Words are separated by spaces.
const PRELUDE = `
  const split = (words) => Array.isArray(words) ? words : words.split(/\\s+/).filter(Boolean);
  const bwrap = async (words, options = {}) => {
    const plan = await fromBwrapArgs(split(words), options);
    await using box = await plan.start();
    const streams = { stdin: "null", stdout: "piped", stderr: "piped" };
    const { code, stdout, stderr } = await plan.spawn(box, streams).output();
    return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
  };
  const fails = async (words) => {
    try { await bwrap(words); return "nothing"; } catch (error) { return error.name + ": " + error.message; }
  };
  const all = async (lines) => { const answers = []; for (const line of lines) answers.push(await bwrap(line)); return answers; };
  const HOST = ["--bind", "/", "/", "--tmpfs", "/mnt"]; // the test's directory is in /tmp
  const inHost = (words, script) => bwrap([...HOST, ...split(words), "sh", "-c", script]);
  const mode = (path) => (Deno.lstatSync(path).mode & 0o7777).toString(8);
`;

sandboxTest(
  "bubblewrap's words: mounts of every kind work with and without namespaces of users and processes",
  {},
  async (t) => {
    const [codes, symlinked, dev, shadow, missing] = await t.run(`${PRELUDE}
      const codes = [];
      for (const words of ["", "--unshare-user-try", "--unshare-pid", "--unshare-user-try --unshare-pid"]) {
        codes.push((await inHost(words + " --unshare-net --proc /proc --dev /dev --mqueue /dev/mqueue --unshare-ipc", "true")).code);
      }
      say(codes);
      say((await inHost("--dir /mnt/dir --symlink dir /mnt/link --bind /etc /mnt/link", "ls /mnt/dir/passwd")).out);
      say((await inHost("--unshare-pid --proc /proc --dev /dev", "ls /dev; : > /dev/null && mkdir /dev/made && cat /proc/1/comm")).out);
      say(await inHost("--unshare-net --bind /etc/shadow /mnt/foo", "cat /mnt/foo"));
      say(await fails("--bind / / --bind /no/such /dest --bind-try /no/such/either /dest true"));
    `);
    assertEquals(codes, [0, 0, 0, 0]);
    assertEquals(symlinked, "/mnt/dir/passwd\n");
    assertMatch(
      dev,
      /core\nfd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n/,
    );
    if (t.uid !== 0) assertMatch(shadow.err, /Permission denied/);
    assertMatch(missing, /can't bind \/no\/such on \/dest: .*ENOENT/);
  },
);

sandboxTest(
  "bubblewrap's words: symbolic links, and the modes of what is made",
  { onlyUser: true },
  async (t) => {
    const [links, modes, parents, tmpfs, umask, files] = await t.run(`${PRELUDE}
    Deno.mkdirSync(dir + "/some"); Deno.writeTextFileSync(dir + "/file", "");
    const link = dir + "/link";
    const made = ["--ro-bind", "/", "/", "--bind", dir, dir];
    say([
      (await bwrap([...made, "--symlink", "/dev/null", link, "true"])).code,
      Deno.readLinkSync(link),
      (await bwrap([...made, "--symlink", "/dev/null", link, "true"])).code,
      await fails([...made, "--symlink", "/dev/full", link, "true"]),
      Deno.readLinkSync(link),
    ]);
    Deno.umask(0o077);
    Deno.mkdirSync(dir + "/existed"); Deno.chmodSync(dir + "/existed", 0o710);
    await bwrap([...HOST, ...split(\`--bind \${dir}/some \${dir}/for-dir --bind \${dir}/file \${dir}/for-file
      --perms 1741 --dir \${dir}/1741 --dir \${dir}/755 --perms 0741 --dir \${dir}/existed
      --dir \${dir}/changed --chmod 1755 \${dir}/changed\`), "true"]);
    say(["for-dir", "for-file", "1741", "755", "existed", "changed"].map((name) => mode(dir + "/" + name)));
    const parents = ["1777", "0755", "0644", "0750", "0720", "0640", "0700", "0600", "0705", "0604", "0000"];
    await bwrap([...HOST, ...parents.flatMap((perms) => ["--perms", perms, "--dir", dir + "/of-" + perms + "/dir"]), "true"]);
    say(parents.map((perms) => mode(dir + "/of-" + perms)));
    for (const perms of parents) {
      for (const sub of ["", "/dir"]) Deno.chmodSync(dir + "/of-" + perms + sub, 0o700); Deno.removeSync(dir + "/of-" + perms, { recursive: true });
    }
    const stat = (words) => inHost(words, "stat -fc '%b %S' /mnt/t; stat -c %a /mnt/t");
    say((await Promise.all(["--tmpfs /mnt/t", "--perms 01777 --size 1048576 --tmpfs /mnt/t",
      "--size 1048576 --perms 01777 --tmpfs /mnt/t"].map(stat))).map(({ out }) => {
        const [blocks, size, mode] = out.trim().split(/\\s/); return [mode, blocks * size === 1048576]; }));
    say((await inHost("", "umask")).out);
    const nothing = linux.open("/dev/null", 0).fd;
    say(await Promise.all(["--file", "--perms 0640 --file", "--bind-data", "--perms 0640 --bind-data",
      "--ro-bind-data", "--perms 0640 --ro-bind-data"].map(async (words) =>
        (await inHost(words + " " + nothing + " /mnt/f", "stat -c %a /mnt/f; (echo x > /mnt/f) 2>&- || echo ro")).out)));
  `);
    assertEquals([links[0], links[1], links[2], links[4]], [0, "/dev/null", 0, "/dev/null"]);
    assertMatch(links[3], /can't make symlink at .*: another file is there/);
    assertEquals(modes, ["755", "444", "1741", "755", "710", "1755"]);
    assertEquals(parents, ["755", "755", "755", "750", "750", "750", "700", "700", "705", "705", "700"]);
    assertEquals(umask, "0077\n");
    assertEquals(tmpfs, [["755", false], ["1777", true], ["1777", true]]);
    assertEquals(files, ["666\n", "640\n", "600\n", "640\n", "600\nro\n", "640\nro\n"]);
  },
);

sandboxTest(
  "bubblewrap's words: environment, name, directory and arguments of the command",
  { onlyUser: true },
  async (t) => {
    const [environment, names, arguments_, directories, status, life] = await t.run(`${PRELUDE}
    const env = { PATH: Deno.env.get("PATH"), FOO: "wrong", BAR: "baz", HOME: dir };
    const inEnv = async (words, script) => (await bwrap([...HOST, ...split(words), "sh", "-c", script], { env })).out;
    say([
      await inEnv("--setenv FOO bar", 'echo "$FOO$BAR"'),
      await inEnv("--unsetenv FOO", 'echo "$FOO$BAR"'),
      (await bwrap([...HOST, "--clearenv", "/usr/bin/env"], { env })).out,
      await inEnv("--setenv FOO 1 --clearenv --setenv PATH /usr/bin", 'echo "[$FOO$BAR]"'),
    ]);
    say([
      await inEnv("", "echo $0"), await inEnv("--argv0 right", "echo $0"),
    ]);
    Deno.mkdirSync(dir + "/bin");
    Deno.writeTextFileSync(dir + "/bin/--name", "#!/bin/sh\\necho hello", { mode: 0o755 });
    const args = (words) => {
      const file = linux.memfdCreate("args");
      linux.write(file.fd, new TextEncoder().encode(words.join("\\0") + "\\0")); linux.lseekStart(file.fd);
      return String(file.fd);
    };
    const one = args(["--dir", "/mnt/hello/one"]), two = args(["--dir", "/mnt/hello/two words"]);
    say([
      (await inHost("--args " + one + " --args " + two, "ls /mnt/hello")).out,
      (await bwrap([...HOST, "--", "--name"], { env: { PATH: dir + "/bin:/usr/bin" } })).out,
      await fails([...HOST, "--", "--dev-bind", "/dev", "/dev", "true"]),
    ]);
    say([
      (await inHost("", "pwd")).out, (await inHost("--chdir /usr", "pwd; echo $PWD")).out,
      (await bwrap(["--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib64", "/lib64",
        "--symlink", "usr/lib", "/lib", "pwd"])).out, await fails([...HOST, "--chdir", "/no/such", "true"]),
    ]);
    say([(await inHost("", "exit 42")).code, (await inHost("", "kill -TERM $$")).code, await fails([...HOST, "/no/such"]),
      await fails([...HOST, "/"])]);
    say((await inHost("--unshare-all --hostname inside --uid 5 --gid 6 --proc /proc --dev /dev",
      "hostname; id -u; id -g; grep -c : /proc/net/dev; grep CapEff /proc/self/status")).out);
  `);
    assertEquals(environment, ["barbaz\n", "baz\n", `PWD=${t.dir}\n`, "[]\n"]);
    assertEquals(names, ["sh\n", "right\n"]);
    assertEquals(arguments_.slice(0, 2), ["one\ntwo words\n", "hello\n"]);
    assertMatch(arguments_[2], /the command --dev-bind can't be started/);
    assertEquals(directories.slice(0, 3), [`${t.dir}\n`, "/usr\n/usr\n", "/\n"]);
    assertMatch(directories[3], /the working directory \/no\/such is not in the box/);
    assertEquals(status.slice(0, 2), [42, 143]);
    assertMatch(status[2], /ENOENT/);
    assertMatch(status[3], /EACCES/);
    assertEquals(life, "inside\n5\n6\n1\nCapEff:\t0000000000000000\n");
  },
);

sandboxTest("bubblewrap's words: overlays, descriptors, and the order of the words", {}, async (t) => {
  const [overlays, tmp, readonly, escaped, fds, order] = await t.run(`${PRELUDE}
    const at = (name, files) => {
      Deno.mkdirSync(dir + "/" + name);
      for (const [file, text] of Object.entries(files)) Deno.writeTextFileSync(dir + "/" + name + "/" + file, text);
      return dir + "/" + name;
    };
    const lower1 = at("lower1", { a: "1", b: "2" }), lower2 = at("lower2", { b: "3" });
    const upper = at("upper", { a: "4" }), work = at("work", {});
    const both = ["--overlay-src", lower1, "--overlay-src", lower2];
    const cat = async (words, script) => (await bwrap([...HOST, ...words, "sh", "-c", "cd /mnt/x/y; " + script])).out;
    say([
      await cat(["--overlay-src", lower1, "--overlay", upper, work, "/mnt/x/y"], "cat a b"),
      await cat([...both, "--overlay", upper, work, "/mnt/x/y"], "cat a b; printf 5 > b; cat b"),
      Deno.readTextFileSync(upper + "/b"), Deno.readTextFileSync(lower2 + "/b"),
    ]);
    say([
      await cat([...both, "--tmp-overlay", "/mnt/x/y"], "cat a b; printf 6 > b; cat b"),
      await cat(["--overlay-src", lower1, "--tmp-overlay", "/mnt/x/y", "--overlay-src", lower2, "--tmp-overlay", "/mnt/z"],
        "cat b; printf 4 > b; cat b /mnt/z/b"),
    ]);
    say(await cat([...both, "--ro-overlay", "/mnt/x/y"], "cat a b; (printf 7 > b) 2>&-; cat b"));
    const odd = [at('lower ":,\\\\', { a: "1" }), at('upper ":,\\\\', {}), at('work ":,\\\\', {})];
    say([await cat(["--overlay-src", odd[0], "--overlay", odd[1], odd[2], "/mnt/x/y"], "cat a; printf 2 > a; cat a"),
      Deno.readTextFileSync(odd[0] + "/a"), Deno.readTextFileSync(odd[1] + "/a")]);
    const fd = linux.open(lower1, linux.O_PATH ?? 0o10000000).fd;
    const bound = await bwrap([...HOST, "--bind-fd", String(fd), "/mnt/b", "--ro-bind-fd", String(fd), "/mnt/r", "sh", "-c",
      "cat /mnt/b/a; (echo > /mnt/r/a) 2>&1"]);
    const plan = await fromBwrapArgs([...HOST, "--bind-fd", String(fd), "/mnt/b", "true"]);
    Deno.renameSync(lower1, dir + "/moved"); Deno.symlinkSync("/etc", lower1);
    let replaced; try { await using box = await plan.start(); replaced = box.cwd; } catch (error) { replaced = error.message; }
    say([bound.out, replaced, await fails([...HOST, "--bind-fd", "999", "/mnt/b", "true"])]);
    say([
      (await bwrap(["--ro-bind", "/", "/", "--tmpfs", "/mnt", "--bind", upper, "/mnt/u", "--ro-bind", upper, "/mnt/u", "sh", "-c",
        "(echo > /mnt/u/c) 2>&1"])).out,
      (await bwrap(["--bind", "/", "/", "--tmpfs", "/mnt", "--ro-bind", lower2, "/mnt/u", "--tmpfs", "/mnt", "sh", "-c",
        "ls -A /mnt"])).out,
      (await inHost("--dir /mnt/d --file " + linux.open("/dev/null", 0).fd + " /mnt/d/f --remount-ro /mnt", "(echo > /mnt/g) 2>&1; ls /mnt/d")).out,
    ]);
  `);
  assertEquals(overlays, ["42", "435", "5", "3"]);
  assertEquals(tmp, ["136", "243"]);
  assertEquals(readonly, "133");
  assertEquals(escaped, ["12", "1", "2"]);
  assertMatch(fds[0], /^1.*Read-only file system/);
  assertMatch(fds[1], /another file is at its path/);
  assertMatch(fds[2], /the descriptor 999 of --bind-fd is not open/);
  assertMatch(order[0], /Read-only file system/);
  assertEquals(order[1], "");
  assertMatch(order[2], /Read-only file system\nf\n$/);
});

sandboxTest(
  "bubblewrap's words: user namespaces can be switched off in a box",
  { onlyUser: true },
  async (t) => {
    const answers = await t.run(`${PRELUDE}
    say(await all([
      "--dev-bind / / true",
      "--unshare-user --disable-userns --dev-bind / / true",
      "--unshare-user --disable-userns --dev-bind / / unshare -U true",
      ["--unshare-user", "--disable-userns", "--dev-bind", "/", "/", "sh", "-c",
        "echo 100 > /proc/sys/user/max_user_namespaces; unshare -U true"],
      "--unshare-user --dev-bind / / unshare -U true",
    ]).then((answers) => answers.map(({ code }) => code)));
    say(await fails("--assert-userns-disabled --dev-bind / / true"));
  `);
    assertEquals(answers[0], [0, 0, 1, 1, 0]);
    assertMatch(answers[1], /--assert-userns-disabled/);
  },
);

Deno.test("bubblewrap's words that are wrong, or that a box does not have, are refused by name", async () => {
  const wrong: [words: string, says: RegExp][] = [
    ["--size 0 --tmpfs /a true", /--size takes/],
    ["--size 12bogus --tmpfs /a true", /--size takes/],
    ["--size -12345678 --tmpfs /a true", /--size takes/],
    ["--size 18446744073709551616 --tmpfs /a true", /--size takes/],
    ["--size 9223372036854775809 --tmpfs /a true", /--size takes/],
    ["--perms 0640 --perms 0640 --tmpfs /a true", /--perms stands twice/],
    ["--size 1 --size 1 --tmpfs /a true", /--size stands twice/],
    ["--perms 0640 --bind / / true", /--bind makes no file/],
    ["--perms 8 --dir /a true", /octal/],
    ["--size 1 --dir /a true", /--dir is not --tmpfs/],
    ["--perms 0640 true", /--perms is for the option after it, and none/],
    ["--overlay u w /tmp true", /--overlay needs an --overlay-src/],
    ["--tmp-overlay /tmp true", /--tmp-overlay needs an --overlay-src/],
    ["--overlay-src /a --ro-overlay /tmp true", /--ro-overlay needs two --overlay-src/],
    ["--overlay-src /tmp true", /--overlay-src is for the option after it/],
    ["--overlay-src /tmp --chdir / true", /--overlay-src is for --overlay/],
    ["--bind / ", /--bind needs SRC and DEST/],
    ["--no-such true", /"--no-such" is no option/],
    ["--ro-bind / /", /a command is missing/],
    ["--hostname x true", /--hostname needs --unshare-uts/],
    ["--disable-userns true", /--disable-userns needs --unshare-user/],
    ["--setenv A=B c true", /no name of a variable/],
    ["--uid x --unshare-user true", /--uid takes an id/],
    ["--info-fd x true", /--info-fd takes the number/],
    ["--seccomp 9 true", /--seccomp is not supported: a box has no filter/],
    ["--add-seccomp-fd 9 true", /--add-seccomp-fd is not supported/],
    ["--exec-label x true", /--exec-label is not supported: .*SELinux/],
    ["--file-label x true", /--file-label is not supported/],
    ["--cap-add ALL true", /--cap-add is not supported/],
    ["--as-pid-1 true", /--as-pid-1 is not supported/],
    ["--userns 5 true", /--userns is not supported/],
    ["--userns2 5 true", /--userns2 is not supported/],
    ["--userns-block-fd 5 true", /--userns-block-fd is not supported/],
    ["--pidns 5 true", /--pidns is not supported/],
  ];
  for (const [words, says] of wrong) {
    const error = await assertRejects(
      () => fromBwrapArgs(words.split(" ").filter(Boolean), { env: {} }),
      TypeError,
    );
    assertMatch(error.message, says);
  }
  await assertRejects(() => fromBwrapArgs(["--size", "", "--tmpfs", "/a", "true"], { env: {} }), TypeError);
  const { warnings } = await fromBwrapArgs(["--chdir", "/", "--chdir", "/", "true"], { env: {} });
  assertEquals(warnings, ["of several --chdir, the last one counts"]);
  assert((await fromBwrapArgs(["--help"], { env: {} })).asksFor === "help");
});
