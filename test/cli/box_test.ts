import { treeOf } from "../../cli/changes.ts";
import type { Change, OverlayLayer } from "../../linux/sandbox/mod.ts";
import { assert, assertEquals, assertMatch } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { cli, denomount } from "./command.ts";

const needs = {
  tools: ["unshare", "sh", "bash", "mount", "git", "script"],
  permissions: { run: true, env: true, sys: true, net: true } as Deno.PermissionOptionsObject,
};
const command = `${Deno.execPath()} run --quiet -A ${cli}`;

/** Runs a line of bash(1) in a directory; "denomount" is the command. */
async function shell(line: string, cwd: string): Promise<{ code: number; out: string; err: string }> {
  const args = ["-c", `denomount() { ${command} "$@"; }\n${line}`];
  const { code, stdout, stderr } = await new Deno.Command("bash", { args, cwd, stdin: "null" }).output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

function project(t: KernelContext): string {
  const directory = t.make("project", "project/sub");
  for (const [name, text] of [["a", "one\n"], ["b", "two\n"], ["sub/c", "three\n"]]) {
    Deno.writeTextFileSync(`${directory}/${name}`, text ?? "");
  }
  return directory;
}

const CHANGE =
  "echo 1 >> a; rm b; rm -r sub; mkdir -p new/deep; seq 20 | (cd new/deep && xargs touch); ln -s a link; echo said; exit 3";

kernelTest(
  "try prints what a command would have changed, exits with its status, and changes nothing",
  needs,
  async (t) => {
    const cwd = project(t);
    const tree = await denomount(["try", "--", "sh", "-c", CHANGE], { cwd });
    assertEquals(tree, {
      code: 3,
      err: "",
      out: `said
${cwd}
├─ ~ a  6 B
├─ - b
├─ + link  -> a
├─ + new/  21 entries, 0 B
└─ - sub/
23 added, 1 modified, 2 removed
`,
    });
    const json = await denomount(["try", "--json", "--", "sh", "-c", CHANGE], { cwd });
    const [{ path, changes }] = JSON.parse(json.out);
    assertEquals([json.code, json.err, path, changes.length], [3, "said\n", cwd, 26]);
    assertEquals(changes.slice(0, 3).map((change: Change) => [change.kind, change.type, change.path]), [
      ["modified", "file", "a"],
      ["removed", "file", "b"],
      ["added", "symlink", "link"],
    ]);
    assertEquals(await Array.fromAsync(Deno.readDir(cwd), ({ name }) => name).then((all) => all.sort()), [
      "a",
      "b",
      "sub",
    ]);
    assertEquals(Deno.readTextFileSync(`${cwd}/a`), "one\n");
  },
);

kernelTest(
  "try --diff prints what patch(1) takes; --keep and --layer store the changes; nothing is overwritten",
  needs,
  async (t) => {
    const cwd = project(t);
    const script =
      "printf 'one\\n\\t2\\n' > a; rm b; printf 'no end' > n; head -c 9 /dev/zero > z; ls > /dev/null";
    const { code, out, err } = await denomount(["try", "--diff", "--", "sh", "-c", script], { cwd });
    assertEquals([code, err], [0, ""]);
    assertEquals(
      out,
      `--- a/a
+++ b/a
@@ -1,1 +1,2 @@
 one
+\t2
--- a/b
+++ /dev/null
@@ -1,1 +0,0 @@
-two
--- /dev/null
+++ b/n
@@ -0,0 +1,1 @@
+no end
\\ No newline at end of file
+ z: added, no text or too long to compare, 9 B
`,
    );
    const stored = await denomount([
      "try",
      "--keep",
      "../kept",
      "--layer",
      "../layer.tar",
      "--",
      "sh",
      "-c",
      "rm b; echo x > n",
    ], { cwd });
    assertEquals([stored.code, stored.err], [0, ""]);
    assertEquals(Deno.readTextFileSync(`${t.dir}/kept/n`), "x\n");
    assert(Deno.lstatSync(`${t.dir}/kept/b`).isCharDevice || Deno.lstatSync(`${t.dir}/kept/b`).size === 0);
    const listed = await new Deno.Command("tar", { args: ["tf", `${t.dir}/layer.tar`] }).output();
    assertEquals(new TextDecoder().decode(listed.stdout), "./\n.wh.b\nn\n");
    for (const [option, where] of [["--keep", "../kept"], ["--layer", "../layer.tar"]] as const) {
      const again = await denomount(["try", option, where, "--", "touch", "never"], { cwd });
      assertEquals(again.code, 1);
      assertMatch(again.err, new RegExp(`^denomount: ${option}: .*${where}`));
    }
  },
);

kernelTest(
  "sandbox has the words of the library, and the working directory also in /tmp",
  needs,
  async (t) => {
    const cwd = project(t);
    const look =
      "pwd; (echo x > a) 2>&-; cat a; (echo y > sub/c) 2>&- && cat sub/c; ls -A sub; echo $A$B$C; id -u; hostname; grep -c : /proc/net/dev";
    const plain = await shell(
      `B=2 C=3 denomount sandbox --env A=1 --env B --hostname box --uid 7 -- sh -c '${look}'`,
      cwd,
    );
    assertEquals(plain, { code: 0, err: "", out: `${cwd}\none\nc\n12\n7\nbox\n1\n` });
    const more = await shell(
      `denomount sandbox --writable . --hidden sub --network --clear-env --env PATH=/usr/bin:/bin -- sh -c '${look}'`,
      cwd,
    );
    assertMatch(more.out, new RegExp(`^${cwd}\nx\n\n`));
    assertEquals(Deno.readTextFileSync(`${cwd}/a`), "x\n");
    for (
      const [words, says] of [
        ["--dev none", "--dev is minimal or host"],
        ["--state x", "--state goes with one --overlay"],
        ["--env =x", "--env takes NAME or NAME=VALUE"],
        ["--writable /no/such", '/no/such does not exist; missing: "skip" leaves out what is missing'],
      ]
    ) {
      assertEquals(await shell(`denomount sandbox ${words} -- true`, cwd), {
        code: 1,
        out: "",
        err: `denomount: ${says}\n`,
      });
    }
    const missing = await shell(
      "denomount sandbox -- no-such-program; echo $?; denomount sandbox -- sh -c 'kill -9 $$'; echo $?",
      cwd,
    );
    assertEquals(missing.out, "1\n137\n");
    assertMatch(missing.err, /the command no-such-program can't be started in the box/);
  },
);

kernelTest("git and deno test run in a box", needs, async (t) => {
  const cwd = t.make("project");
  const git = "git -c user.name=a -c user.email=a@b";
  Deno.writeTextFileSync(`${cwd}/a_test.ts`, "Deno.test('a', () => {});");
  const { code, out, err } = await shell(
    `
    set -e; git init -q .; ${git} commit -q --allow-empty -m one
    denomount try --json --env HOME=/tmp -- sh -c 'set -e; git add a_test.ts; ${git} commit -qm two; git gc -q; git fsck --no-progress; git log --format=%s' > changes
    grep -c '"kind"' changes; git log --format=%s
    denomount sandbox --env DENO_DIR=/tmp/deno --env NO_COLOR=1 -- ${Deno.execPath()} test --no-check a_test.ts 2>&1`,
    cwd,
  );
  assertEquals([code, err], [0, "two\none\n"], out);
  assertMatch(out, /^\d+\none\n[^]*ok \| 1 passed/);
});

kernelTest("bwrap tells its descriptors what the box is, and exits as bubblewrap does", needs, async (t) => {
  const host = "--bind / / --tmpfs /mnt";
  const { out, err } = await shell(
    `
    denomount bwrap ${host} --unshare-all --proc /proc --info-fd 42 --json-status-fd 43 -- sh -c 'readlink /proc/self/ns/*; exit 42' 42>info 43>status > names
    echo $?; denomount bwrap ${host} --json-status-fd 43 / 43>failed; echo $?; denomount bwrap ${host} sh -c 'kill -9 $$'; echo $?
    denomount bwrap --bind /no/such /x true; echo $?; denomount bwrap --seccomp 9 true 9</dev/null; echo $?; denomount bwrap ${host} --info-fd 3 true; echo $?
    printf -- '--dir\\0/mnt/hello/world\\0' > args; echo data > data; mkfifo go; exec 5<>go; (sleep 0.3; echo waited > waited; echo >&5) &
    denomount bwrap ${host} --args 3 --file 4 /mnt/file --block-fd 5 sh -c 'ls -d /mnt/hello/world; cat waited; cat /mnt/file; echo closed >&3 || echo $?' 3<args 4<data
    denomount bwrap --version; denomount bwrap --help | head -1; denomount bwrap ${host} --level-prefix --chdir / --chdir / true 2>&1
    denomount bwrap -- --dev-bind / / true; echo $?`,
    t.dir,
  );
  assertEquals(
    out,
    "42\n1\n137\n1\n1\n1\n/mnt/hello/world\nwaited\ndata\n2\n" +
      "denomount 0.1.0, with the arguments of bubblewrap 0.11\nUsage: denomount bwrap [OPTION...] [--] CMD...\n" +
      "<4>bwrap: of several --chdir, the last one counts\n1\n",
  );
  assertMatch(err, /the descriptor 3 of --info-fd is not open/); // it is one of the runtime's own
  const info = JSON.parse(Deno.readTextFileSync(`${t.dir}/info`));
  const [first, last] = Deno.readTextFileSync(`${t.dir}/status`).trim().split("\n").map((line) =>
    JSON.parse(line)
  );
  assertEquals([first, last], [info, { "exit-code": 42 }]);
  assert(Number.isInteger(info["child-pid"]));
  const seen = Deno.readTextFileSync(`${t.dir}/names`);
  for (const name of ["ipc", "mnt", "net", "pid", "uts"]) {
    assert(seen.includes(`${name}:[${info[`${name}-namespace`]}]`), name);
  }
  assert(!Deno.readTextFileSync(`${t.dir}/failed`).includes("exit-code"));
});

kernelTest(
  "a signal ends the command in its box, and --die-with-parent the box with the parent",
  needs,
  async (t) => {
    const file = `${t.dir}/lock`;
    Deno.writeTextFileSync(file, "");
    const { out } = await shell(
      `
    denomount sandbox --writable ${t.dir} -- sh -c 'trap "exit 9" TERM; echo > ready; sleep 60 & wait' & box=$!
    while [ ! -e ready ]; do sleep 0.05; done; pkill -TERM -P $box 2>&- || kill -TERM $box; wait $box; echo $?
    sh -c '${command} bwrap --die-with-parent --bind / / --lock-file ${file} sh -c "echo > ${t.dir}/taken; exec sleep 61"; :' & parent=$!
    while [ ! -e taken ]; do sleep 0.05; done
    flock -n ${file} true; cat /proc/locks | grep -c ":$(stat -c %i ${file}) "; kill -9 $parent
    for i in $(seq 100); do grep -q ":$(stat -c %i ${file}) " /proc/locks || break; sleep 0.05; done; echo $((i < 100))`,
      t.dir,
    );
    assertEquals(out, "9\n1\n1\n");
  },
);

kernelTest(
  "on a terminal, a command has one of the box's own, with job control and Ctrl-C",
  { ...needs, deadline: 20 },
  async (t) => {
    const cwd = t.make("project");
    const child = new Deno.Command("script", {
      args: ["-qec", `stty cols 91 rows 23; ${command} try -- sh -i`, "/dev/null"],
      cwd,
      env: { TERM: "dumb", NO_COLOR: "1" },
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    const until = async (pattern: RegExp) => {
      while (!pattern.test(text)) {
        const { value, done } = await reader.read();
        if (done) throw new Error(`${pattern} is not in ${JSON.stringify(text)}`);
        text += value;
      }
    };
    const type = (keys: string) => writer.write(new TextEncoder().encode(keys));
    await until(/[$#] $/);
    await type("tty; stty size\r");
    await until(/\/dev\/pts\/0\r\n23 91\r\n[$#] $/);
    await type("cat\r");
    await until(/cat\r\n$/);
    await type("hello\r");
    await until(/hello\r\nhello\r\n$/);
    await type("\x03"); // Ctrl-C ends cat(1), not the shell
    await until(/\^C\r\n[$#] $/);
    await type("echo after $?; echo > made\r");
    await until(/after 130\r\n[$#] $/);
    await type("cat -\r");
    await until(/cat -\r\n$/);
    await type("again\r");
    await until(/again\r\nagain\r\n$/);
    await type("\x1a"); // Ctrl-Z
    await until(/Stopped.*\r\n[$#] $/);
    await type("exit 4\r");
    await until(/stopped jobs\.\r\n[$#] $/);
    await type("exit 4\r");
    await until(/project\r\n.*\+ made {2}1 B\r\n1 added/);
    await writer.close();
    while (!(await reader.read()).done);
    assertEquals([(await child.status).code, [...Deno.readDirSync(cwd)]], [4, []]);
  },
);

Deno.test("the tree of changes fits 40, 80 and 120 columns, in ASCII where the locale has nothing else", async () => {
  const change = (kind: "added" | "modified", path: string): Change => ({
    kind,
    path,
    type: "file",
    raw: new Uint8Array(),
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: 123456,
    mtime: new Date(0),
  });
  const long = "a_very_long_name_".repeat(9);
  const changes = [
    change("modified", `sub/${long}/ü\n\x1b[31m`),
    change("added", `sub/漢字${"漢字".repeat(40)}`),
    change("added", "short"),
  ];
  const overlay = {
    path: `/home/${long}`,
    upper: undefined,
    made: [],
    usesUserXattr: false,
  } as unknown as OverlayLayer;
  const before = Deno.env.get("LC_ALL");
  try {
    for (const locale of ["C.UTF-8", "C"]) {
      Deno.env.set("LC_ALL", locale);
      for (const width of [40, 80, 120]) {
        const lines = (await treeOf([{ overlay, changes }], { all: true, width })).map((line) =>
          line.replace(/\p{Cc}\[\d+m/gu, "")
        );
        for (const line of lines) {
          const columns = [...line].reduce(
            (sum, letter) => sum + (/\p{Script=Han}/u.test(letter) ? 2 : 1),
            0,
          );
          assert(columns <= width, `${columns}: ${line}`);
          assert(!/\p{Cc}/u.test(line), JSON.stringify(line));
          assert(locale !== "C" || /^[\x20-\x7e]*$/.test(line), line);
        }
        assert(lines.some((line) => line.endsWith("+ short  121 KiB")), lines.join("\n"));
      }
    }
  } finally {
    if (before === undefined) Deno.env.delete("LC_ALL");
    else Deno.env.set("LC_ALL", before);
  }
});
