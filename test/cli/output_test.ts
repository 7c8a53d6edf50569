import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { columns, escapeControl, sizeText } from "../../cli/print.ts";
import { errorMessage, holderLines } from "../../cli/errors.ts";
import { withNamespaceErrors } from "../../cli/namespace.ts";
import { treeLines } from "../../cli/tree.ts";
import { milliseconds, pid } from "../../cli/arguments.ts";
import { BusyError, SyscallError } from "../../mod.ts";
import { command, listFile } from "./in_process.ts";

const needs = { permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject };
const ESC = "\x1b";

kernelTest(
  "the exit status is 0 for success and help, 1 for a failed call, 2 for a usage error",
  needs,
  async (t) => {
    const cases: [status: number, args: string[]][] = [
      [0, ["lookup", "/proc"]],
      [0, ["--help"]],
      [0, ["-h"]],
      [0, ["help"]],
      [0, ["help", "umount"]],
      [0, ["loop", "attach", "--help"]],
      [0, ["--version"]],
      [0, ["-V"]],
      [1, ["lookup", `${t.dir}/missing`]],
      [1, ["up", `${t.dir}/missing`, t.dir]],
      [1, ["run", listFile(t.dir, []), "--", "/no/such/program"]],
      [2, []],
      [2, ["loop"]],
      [2, ["bogus"]],
      [2, ["loop", "bogus"]],
      [2, ["lookup"]],
      [2, ["lookup", "a", "b"]],
      [2, ["lookup", "--bogus", "a"]],
      [2, ["idmap", "a", "b"]],
      [2, ["completions", "tcsh"]],
      [2, ["completions", "constructor"]],
      [2, ["umount", "--timeout", "-1", "a"]],
      [2, ["umount", "--timeout", "1.5", "a"]],
      [2, ["umount", "--timeout", "", "a"]],
      [2, ["umount", "--namespace", "0", "a"]],
      [2, ["umount", "--namespace", "-1", "a"]],
      [2, ["loop", "attach", "--offset", "1k", "a"]],
      [2, ["loop", "attach", "--size-limit", "x", "a"]],
    ];
    for (const [status, args] of cases) {
      const { code, out, err } = await command(args);
      assertEquals(code, status, `${args.join(" ")}: ${err}`);
      assertEquals([out !== "", err !== ""], [status === 0, status !== 0], args.join(" "));
      const isUsage = args.length === 0 || args.join() === "loop";
      if (status !== 0 && !isUsage) assertMatch(err, /^denomount: [^\n]+\n$/, args.join(" "));
      if (status === 2 && !isUsage) assertMatch(err, /; see denomount( [a-z]+)* --help\n$/);
    }
  },
);

kernelTest("an error prints the control characters of an argument escaped, in one line", needs, async (t) => {
  const odd = `odd${ESC}]0;\n\u202ename`;
  for (
    const args of [
      ["lookup", `${t.dir}/${odd}`],
      ["umount", `${t.dir}/${odd}`],
      ["up", `${t.dir}/${odd}`, t.dir],
      ["down", `${t.dir}/${odd}`, t.dir],
      ["run", listFile(t.dir, []), "--", `/${odd}`],
      ["loop", "attach", `${t.dir}/${odd}`],
      [odd],
      ["ls", `--${odd}`],
      ["completions", odd],
    ]
  ) {
    const { code, out, err } = await command(args);
    assert(code !== 0 && out === "", args.join(" "));
    assertMatch(err, /^denomount: [^\p{Cc}\u202e]+\n$/u);
    assert(err.includes("odd\\033]0;") && err.includes("\\342\\200\\256name"), err);
  }
});

kernelTest(
  "the mountpoints and the steps of a list are printed with control characters escaped",
  needs,
  async (t) => {
    const target = t.make(`odd${ESC}\n\u202ename`);
    const list = listFile(t.dir, [{ type: "tmpfs", source: "t", options: ["size=64k"] }]);
    const printed = `${t.dir}/odd\\033\\012\\342\\200\\256name`;
    assertEquals(await command(["up", list, target]), { code: 0, out: `${printed}\n`, err: "" });
    const lookup = await command(["lookup", target]);
    assertEquals([lookup.code, lookup.out.includes(ESC), lookup.out.split("\n")[0]], [
      0,
      false,
      `mountpoint   ${printed}`,
    ]);
    const { out } = await command(["explain", list, target]);
    assert(
      ![ESC, "\u202e"].some((character) => out.includes(character)) && out.includes("\\342\\200\\256name"),
      out,
    ); // the arguments are JSON strings
    assertEquals((await command(["down", list, target])).code, 0);
  },
);

Deno.test("control and bidirectional characters and bytes that are not UTF-8 are printed as octal escapes", () => {
  const cases: [text: string, escaped: string][] = [
    ["plain /path with spaces", "plain /path with spaces"],
    ["\u00e9 \u4e2d \u{1f600}", "\u00e9 \u4e2d \u{1f600}"],
    ["\0\t\n\r\x1b\x1f\x7f", "\\000\\011\\012\\015\\033\\037\\177"],
    ["\u0080\u009b\u00a0", "\\302\\200\\302\\233\u00a0"],
    [
      "\u200e\u202a\u202e\u2066\u2069",
      "\\342\\200\\216\\342\\200\\252\\342\\200\\256\\342\\201\\246\\342\\201\\251",
    ],
    ["\udc80\udcff", "\\200\\377"],
    ["\\012", "\\134012"],
    ["\\01 \\x \\089", "\\01 \\x \\089"],
  ];
  for (const [text, escaped] of cases) assertEquals(escapeControl(text), escaped);
});

const failed = (errno: number, path?: string) => new SyscallError({ syscall: "call", errno, path });

Deno.test("the error of a call names the path, the call and the errno, and what to do", () => {
  const cases: [errno: number, message: string][] = [
    [1, "/p: not permitted: run as root (call: EPERM)"],
    [2, "/p does not exist (call: ENOENT)"],
    [13, "no access to /p: run as root (call: EACCES)"],
    [16, "/p is in use (call: EBUSY)"],
    [20, "/p does not exist: a component of the path is not a directory (call: ENOTDIR)"],
  ];
  for (const [errno, message] of cases) assertEquals(errorMessage(failed(errno, "/p")), message);
  const invalid = failed(22, "/p");
  assertEquals(errorMessage(invalid), invalid.message);
  const pathless = failed(2);
  assertEquals(errorMessage(pathless), pathless.message);
  assertEquals(errorMessage("text"), "text");
  const both = new SuppressedError(new Error("clean-up"), new Error("first"));
  assertEquals(errorMessage(both), "first; then clean-up");
});

Deno.test("a busy mount's holders follow the error, also if the error has a cause", () => {
  const holder = { kind: "mount", mountpoint: `/p/odd${ESC}`, fsType: "tmpfs" } as const;
  const busy = new BusyError(failed(16, "/p"), [holder]);
  assertEquals(errorMessage(busy), "/p is in use (call: EBUSY)");
  assertEquals(holderLines(busy), ["  the tmpfs mount on /p/odd\\033"]);
  assertEquals(holderLines(new Error("outer", { cause: busy })), holderLines(busy));
  assertEquals([holderLines(new Error("other")), holderLines("text")], [[], []]);
});

Deno.test("an error about another process's mount namespace names the process; any other error is unchanged", async () => {
  const fail = (properties: { syscall: string; errno: number; path?: string }, pid: number | undefined) =>
    assertRejects(() =>
      withNamespaceErrors(pid, () => {
        throw new SyscallError(properties);
      }), Error);
  const [setns, pidfd] = [{ syscall: "setns", errno: 1 }, { syscall: "pidfd_open", errno: 3 }];
  const permission = /^no permission to access the mount namespace of process 7: run as root \(.*\)$/;
  assertMatch((await fail(setns, 7)).message, permission);
  assertMatch((await fail({ syscall: "open", errno: 13, path: "/proc/7/ns/mnt" }, 7)).message, permission);
  assertMatch((await fail(pidfd, 7)).message, /^there is no process 7 \(.*\)$/);
  assertMatch(
    (await fail({ syscall: "open", errno: 2, path: "/proc/7/ns/mnt" }, 7)).message,
    /^there is no process 7 /,
  );
  for (const path of ["/proc/77/ns/mnt", "/proc/8/ns/mnt", "/mnt"]) {
    assert((await fail({ syscall: "open", errno: 2, path }, 7)) instanceof SyscallError, path);
  }
  assert((await fail({ syscall: "setns", errno: 12 }, 7)) instanceof SyscallError);
  assert((await fail(setns, undefined)) instanceof SyscallError);
  assertEquals(await withNamespaceErrors(7, () => "result"), "result");
});

kernelTest("output that is written in parts is complete", needs, async () => {
  const whole = await command(["lookup", "--json", "/proc"]);
  assertEquals(
    await command(["lookup", "--json", "/proc"], { write: (bytes) => Math.min(7, bytes.length) }),
    whole,
  );
  assertEquals(JSON.parse(whole.out).mountpoint, "/proc");
});

kernelTest(
  "an error of the output is one line, with the error of undoing the change after it",
  needs,
  async (t) => {
    const target = t.make("target");
    const list = listFile(t.dir, [{ type: "tmpfs", source: "t", options: ["size=64k"] }]);
    const fail = () => {
      throw new Error("No space left");
    };
    const plain = await command(["up", list, target], { write: fail });
    assertEquals([plain.code, t.mounts()], [1, []]);
    assertEquals(plain.err, "denomount: cannot write to standard output: No space left\n");
    const files: Deno.FsFile[] = [];
    const write = () => {
      files.push(Deno.createSync(`${target}/held`));
      return fail();
    };
    const { code, err } = await command(["up", list, target], { write });
    assertEquals([code, t.mounts().length], [1, 1]);
    assertMatch(
      err,
      /^denomount: cannot write to standard output: No space left; then .*target is in use \(umount2: EBUSY\)\n/,
    );
    for (const file of files) file.close();
    assertEquals((await command(["umount", target])).code, 0);
  },
);

kernelTest("an empty list prints nothing, also on a full disk", needs, async (t) => {
  const write = () => {
    throw new Error("No space left");
  };
  assertEquals(await command(["up", listFile(t.dir, []), t.dir], { write }), { code: 0, out: "", err: "" });
});

kernelTest("an error that can't be printed keeps its exit status", needs, async (t) => {
  const writeSync = Deno.stderr.writeSync;
  const args = ["lookup", `${t.dir}/missing`];
  assertEquals(
    (await command(args, {
      writeError: () => {
        throw new Error("closed");
      },
    })).code,
    1,
  );
  assertEquals(Deno.stderr.writeSync, writeSync);
});

kernelTest(
  "progress is printed after each second, erased at the end, and goes to a terminal only",
  needs,
  async (t) => {
    const target = t.make(`odd${ESC}`);
    const list = listFile(t.dir, [{ type: "tmpfs", source: "t", options: ["size=64k"] }]);
    assertEquals(await command(["up", list, target], { isTerminal: true }).then(({ err }) => err), "");
    {
      using _file = Deno.createSync(`${target}/file`);
      const args = ["umount", "--timeout", "1100", target];
      const shown = await command(args, { isTerminal: true });
      const erase = "\r\x1b[K";
      assert(shown.err.startsWith(`${erase}unmounting ${t.dir}/odd\\033, 1 s${erase}denomount: `), shown.err);
      const inPipe = await command(args);
      assert(inPipe.err.startsWith("denomount: "), inPipe.err);
    }
    assertEquals((await command(["down", list, target])).code, 0);
  },
);

kernelTest(
  "a list is read from a file, or from standard input for -, and its errors name it",
  needs,
  async (t) => {
    const target = t.make("target");
    const json = JSON.stringify([{ type: "tmpfs", source: "t", options: ["size=64k"] }]);
    assertEquals((await command(["up", "-", target], { input: json })).code, 0);
    assertEquals((await command(["down", "-", target], { input: json })).code, 0);
    assertEquals(t.mounts(), []);
    const broken = `${t.dir}/broken`;
    Deno.writeTextFileSync(broken, "[{");
    for (const [file, input, name] of [["-", "[{", "standard input"], [broken, json, broken]] as const) {
      const { code, err } = await command(["up", file, target], { input });
      assertEquals([code, err.startsWith(`denomount: ${name}: `)], [1, true], err);
    }
    const missing = await command(["down", `${t.dir}/missing`, target]);
    assertEquals([missing.code, missing.err], [1, `denomount: ${t.dir}/missing does not exist\n`]);
    const directory = await command(["up", t.dir, target]);
    assertEquals(directory.code, 1);
    assertMatch(directory.err, new RegExp(`^denomount: .*${t.dir}.*\n$`));
  },
);

Deno.test("numbers in arguments are whole, and a process ID is positive", () => {
  assertEquals([milliseconds("0"), milliseconds("1500"), pid("1"), pid("4194304")], [0, 1500, 1, 4194304]);
  for (const text of ["", "-1", "1.5", "1e3", "0x10", " 1", "x", "1s"]) {
    assertThrows(() => milliseconds(text), Error);
    assertThrows(() => pid(text), Error);
  }
  for (const text of ["0", "01", "12345678901"]) assertThrows(() => pid(text), Error);
});

Deno.test("sizes have binary units, with a digit after the point below 10", () => {
  const cases: [number, string][] = [
    [0, "0 B"],
    [1, "1 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [1536, "1.5 KiB"],
    [10240, "10 KiB"],
    [2 ** 20, "1.0 MiB"],
    [5 * 2 ** 30, "5.0 GiB"],
    [2 ** 40, "1.0 TiB"],
    [2 ** 50, "1.0 PiB"],
    [2 ** 61, "2048 PiB"],
  ];
  for (const [bytes, text] of cases) assertEquals(sizeText(bytes), text);
});

Deno.test("the last node of each level ends its branch", () => {
  const leaf = (value: string) => ({ value, children: [] });
  const nodes = [{ value: "a", children: [leaf("b"), { value: "c", children: [leaf("d")] }] }, {
    value: "e",
    children: [leaf("f")],
  }];
  assertEquals(treeLines(nodes).map(({ branches, value }) => branches + value), [
    "├─ a",
    "│  ├─ b",
    "│  └─ c",
    "│     └─ d",
    "└─ e",
    "   └─ f",
  ]);
});

Deno.test("a table has two spaces between its columns and none at the end of a line", async () => {
  assertEquals(await columns(["A", "B"], [["long", "x"], ["y", ""]]), "A     B\nlong  x\ny");
});
