import { mount, MountError, unmountAll } from "../../mod.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { kernelTest } from "../harness.ts";

const tools = ["mount.fuse3", "bindfs", "fuse-overlayfs", "fusermount3", "fusermount"];

kernelTest("bindfs mounts through mount.fuse3 and unmounts through fusermount3", {
  root: true,
  tools: ["mount.fuse3", "bindfs", "fusermount3"],
}, async (t) => {
  t.make("source", "target");
  Deno.writeTextFileSync(`${t.dir}/source/file`, "hello");
  {
    const m = { type: "fuse3.bindfs", source: `${t.dir}/source`, options: ["ro", "x-comment"] };
    await using _stack = await mount(m, `${t.dir}/target`);
    assertEquals(t.mounts().map((row) => row.fsType), ["fuse"]);
    assertEquals(Deno.readTextFileSync(`${t.dir}/target/file`), "hello");
  }
  assertEquals(t.mounts(), []);
});

kernelTest("fuse-overlayfs mounts through mount.fuse", {
  root: true,
  tools: ["mount.fuse3", "fuse-overlayfs"],
  permissions: { run: true },
}, async (t) => {
  t.make("lower", "upper", "work", "target");
  Deno.writeTextFileSync(`${t.dir}/lower/file`, "hello");
  const options = [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`];
  await using _stack = await mount(
    { type: "fuse.fuse-overlayfs", source: "overlay", options },
    `${t.dir}/target`,
  );
  Deno.writeTextFileSync(`${t.dir}/target/new`, "new");
  assertEquals(Deno.readTextFileSync(`${t.dir}/upper/new`), "new");
});

kernelTest("a helper that fails is an error with its exit status, and nothing is mounted", {
  root: true,
  tools: ["mount.fuse3", "bindfs"],
}, async (t) => {
  t.make("target");
  const error = await assertRejects(
    () => mount({ type: "fuse3.bindfs", source: `${t.dir}/none` }, `${t.dir}/target`),
    MountError,
  );
  assertStringIncludes(error.message, "mount.fuse3 failed with exit status");
  assertEquals(t.mounts(), []);
});

/** Installs a shell script as the helper, for the length of a scope. `$REAL` in it is the real one. */
function fakeHelper(dir: string, script: string): Disposable {
  Deno.mkdirSync(`${dir}/programs`, { recursive: true });
  const path = `${dir}/programs/mount.fuse3`;
  Deno.writeTextFileSync(path, `#!/bin/sh\nREAL=/usr/sbin/mount.fuse3\n${script}\n`);
  Deno.chmodSync(path, 0o755);
  const before = Deno.env.get("PATH") ?? "";
  Deno.env.set("PATH", `${dir}/programs:${before}`);
  return { [Symbol.dispose]: () => Deno.env.set("PATH", before) };
}

kernelTest(
  "if a helper fails, the FUSE mount that it made is detached, and never the mount of another process",
  { root: true, tools: [...tools, "mount"], permissions: { run: true, env: true } },
  async (t) => {
    t.make("source", "target");
    const foreign = 'mount -t tmpfs foreign "$2"';
    const cases: [script: string, left: string[]][] = [
      ['"$REAL" "$@"; exit 1', []],
      [`${foreign}; exit 1`, ["tmpfs"]],
      [`${foreign}; exit 0`, ["tmpfs"]],
      [`"$REAL" "$@"; ${foreign}; exit 1`, ["fuse", "tmpfs"]],
    ];
    for (const [script, left] of cases) {
      using _ = fakeHelper(t.dir, script);
      const mounting = () =>
        mount(
          { type: "fuse3.bindfs", source: `${t.dir}/source` },
          `${t.dir}/target`,
        );
      await assertRejects(mounting, MountError, "mount.fuse3");
      assertEquals(t.mounts().map(({ fsType }) => fsType), left, script);
      await unmountAll(`${t.dir}/target`);
    }
  },
);

// The three tests below start a process: SIGCHLD, a reaper and the working directory concern the whole process.
const library = new URL("../../mod.ts", import.meta.url).href;
const script = `
  import { mount, unmountAll } from ${JSON.stringify(library)};
  const [dir] = Deno.args;
  await mount({ type: "fuse3.bindfs", source: dir + "/source" }, dir + "/target");
  const table = new TextDecoder().decode(Deno.readFileSync("/proc/self/mountinfo"));
  if (!table.includes(dir + "/target ")) throw new Error("not mounted");
  await unmountAll(dir + "/target");
  let failed = "";
  try {
    await mount({ type: "fuse3.bindfs", source: dir + "/none" }, dir + "/target");
  } catch (error) {
    failed = error.message;
  }
  console.log("failure:", failed);
  Deno.exit(0);`;

async function shell(command: string, dir: string, source: string): Promise<string> {
  Deno.writeTextFileSync(`${dir}/script.ts`, source);
  const { stdout, stderr, code } = await new Deno.Command("/bin/sh", {
    args: ["-c", command, Deno.execPath(), dir],
    cwd: dir,
  }).output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assertEquals(code, 0, text);
  return text;
}

const all = { root: true, tools, permissions: { run: true } as Deno.PermissionOptionsObject };

kernelTest("FUSE mounts and their failures work while SIGCHLD is ignored", all, async (t) => {
  t.make("source", "target");
  const said = await shell(`trap "" CHLD; exec "$0" run -A --no-config "$1/script.ts" "$1"`, t.dir, script);
  assertStringIncludes(said, "failure: cannot mount");
  assertEquals(t.mounts(), []);
});

kernelTest(
  "FUSE mounts and their failures work beside a thread that reaps every child",
  all,
  async (t) => {
    t.make("source", "target");
    const reaper = `
    const reaperCode = \`
      const { symbols } = Deno.dlopen("libc.so.6", { waitpid: { parameters: ["i32", "pointer", "i32"], result: "i32" } });
      const reap = () => { for (let i = 0; i < 1000; i++) symbols.waitpid(-1, null, 1); setTimeout(reap, 0); };
      reap();
      self.postMessage("ready");\`;
    const worker = new Worker("data:text/javascript," + encodeURIComponent(reaperCode), { type: "module" });
    await new Promise((resolve) => worker.onmessage = resolve);`;
    const said = await shell(`exec "$0" run -A --no-config "$1/script.ts" "$1"`, t.dir, reaper + script);
    assertStringIncludes(said, "failure: cannot mount");
    assertEquals(t.mounts(), []);
  },
);

kernelTest(
  "mount.fuse3 in the working directory is never run, even if PATH names it",
  all,
  async (t) => {
    t.make("source", "target");
    Deno.writeTextFileSync(`${t.dir}/mount.fuse3`, `#!/bin/sh\ntouch ${t.dir}/hacked\nexit 1\n`);
    Deno.writeTextFileSync(`${t.dir}/bindfs`, `#!/bin/sh\ntouch ${t.dir}/hacked\nexit 1\n`);
    for (const name of ["mount.fuse3", "bindfs"]) Deno.chmodSync(`${t.dir}/${name}`, 0o755);
    for (const path of [".:$PATH", ":$PATH", "$PWD:$PATH", "../$(basename $PWD):$PATH", "$PATH:"]) {
      await shell(
        `PATH="${path}"; export PATH; exec "$0" run -A --no-config "$1/script.ts" "$1"`,
        t.dir,
        script,
      );
    }
    assert(
      ![...Deno.readDirSync(t.dir)].some(({ name }) => name === "hacked"),
      "the program in the working directory was run",
    );
  },
);
