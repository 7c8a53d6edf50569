import { mount, SyscallError } from "../../mod.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { AT_FDCWD, O_PATH, open, OPEN_TREE_CLONE, openTree } from "../../linux/mod.ts";
import {
  attachMount,
  fdPath,
  openTarget,
  openTopMount,
  resolveTarget,
} from "../../linux/path/mount_target.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertThrows } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";

const withoutMountApi = () => pretendMissing("mountApi", "mountSetattr", "overlayLayers", "openat2");

for (const api of ["fsopen(2) and open_tree(2)", "mount(2)"]) {
  const select = () => api === "mount(2)" ? withoutMountApi() : { [Symbol.dispose]() {} };

  kernelTest(
    `no symbolic link and no .. leads a mount out of its target, with ${api}`,
    {},
    async (t) => {
      using _ = select();
      t.make("root/outside", "outside");
      Deno.symlinkSync("/outside", `${t.dir}/root/absolute`);
      Deno.symlinkSync("../../outside", `${t.dir}/root/relative`);
      for (const target of ["absolute", "relative", "../outside", "/../../outside"]) {
        await using stack = await mount({ type: "tmpfs", source: "t", target }, `${t.dir}/root`);
        assertEquals(stack.mountpoints, [`${t.dir}/root/outside`]);
        assertEquals(t.mounts().map((row) => row.mountpoint), ["/root/outside"]);
      }
    },
  );
}

for (const api of ["openat2(2)", "readlink(2)"]) {
  const select = () => api === "readlink(2)" ? pretendMissing("openat2") : { [Symbol.dispose]() {} };

  kernelTest(`a path inside a target stays inside it, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("root/inside/below", "inside", "elsewhere");
    Deno.symlinkSync("/inside", `${t.dir}/root/absolute`);
    Deno.symlinkSync("../../inside", `${t.dir}/root/relative`);
    Deno.symlinkSync("inside/../..", `${t.dir}/root/up`);
    Deno.symlinkSync("root", `${t.dir}/link`);
    const expected: [target: string, inside: string, path: string][] = [
      ["root", "", "root"],
      ["root", "/", "root"],
      ["root", "/inside", "root/inside"],
      ["root", "/absolute/below", "root/inside/below"],
      ["root", "/relative", "root/inside"],
      ["root", "/up", "root"],
      ["root", "/up/inside", "root/inside"],
      ["link", "", "root"],
      ["link", "/absolute", "root/inside"],
      ["link/../elsewhere", "", "elsewhere"],
      ["link/inside/..", "/inside", "root/inside"],
      ["root/../elsewhere", "", "elsewhere"],
      ["root/../root", "/inside", "root/inside"],
    ];
    for (const [target, inside, path] of expected) {
      using opened = openTarget(`${t.dir}/${target}`, inside);
      assertEquals(opened.path, `${t.dir}/${path}`, `${target} ${inside}`);
      assertEquals(fdPath(opened), opened.path);
      using resolved = await resolveTarget(`${t.dir}/${target}`, inside);
      assertEquals(fdPath(resolved), opened.path, `${target} ${inside}`);
    }
    const error = assertThrows(() => openTarget(`${t.dir}/root`, "/none"), SyscallError);
    assertEquals(error.code, "ENOENT");
  });
}

kernelTest(
  "a relative target has an absolute path, and a link with .. is followed as the kernel does",
  {},
  (t) => {
    t.make("a/b", "c/a");
    Deno.symlinkSync(`${t.dir}/a/b`, `${t.dir}/c/link`);
    const before = Deno.cwd();
    try {
      Deno.chdir(t.dir);
      using relative = openTarget("a", "/b");
      assertEquals(relative.path, `${t.dir}/a/b`);
      using above = openTarget(`${t.dir}/c/link/..`);
      assertEquals(above.path, `${t.dir}/a`); // not c
    } finally {
      Deno.chdir(before);
    }
  },
);

kernelTest("the top mount is that of the directory, not of another one at its path", {
  features: ["mountApi"],
}, async (t) => {
  t.make("a", "b");
  using directory = open(`${t.dir}/a`, O_PATH);
  await using _tmpfs = await mount({ type: "tmpfs", source: "top" }, `${t.dir}/a`);
  {
    using top = openTopMount(directory);
    assert(Deno.statSync(`${t.dir}/a`).isDirectory);
    assertEquals([top.path, fdPath(top)], [`${t.dir}/a`, `${t.dir}/a`]);
  }
  using other = open(`${t.dir}/b`, O_PATH);
  Deno.renameSync(`${t.dir}/b`, `${t.dir}/c`);
  Deno.mkdirSync(`${t.dir}/b`);
  using found = openTopMount(other);
  assertEquals([found.path, fdPath(found)], [`${t.dir}/c`, `${t.dir}/c`]);
});

kernelTest("a directory on a file is ENOTDIR, and any other refusal of move_mount(2) keeps its errno", {
  features: ["mountApi"],
}, (t) => {
  t.make("directory", "other");
  Deno.writeTextFileSync(`${t.dir}/file`, "");
  const clone = (name: string) => openTree(AT_FDCWD, `${t.dir}/${name}`, OPEN_TREE_CLONE);
  const codeOf = (mount: OwnedFd, target: string) => {
    using file = openTarget(`${t.dir}/${target}`);
    return assertThrows(() => attachMount(mount, file), SyscallError).code;
  };
  using directory = clone("directory");
  using file = clone("file");
  assertEquals([codeOf(directory, "file"), codeOf(file, "directory")], ["ENOTDIR", "ENOTDIR"]);
  using noMount = open(`${t.dir}/other`, O_PATH); // a directory of a mount, which can't be moved
  assertEquals(codeOf(noMount, "directory"), "EINVAL");
});

const library = new URL("../../linux/path/mount_target.ts", import.meta.url).href;
const filter = new URL("../syscalls/with_filter.ts", import.meta.url).pathname;
const OPENAT2 = "437"; // asm-generic/unistd.h

/** Opens a path inside a target in another process, behind a launcher; returns what it prints. */
async function openInChild(t: KernelContext, launcher: readonly string[]): Promise<string> {
  t.make("root/inside", "inside");
  Deno.symlinkSync("../../inside", `${t.dir}/root/relative`);
  Deno.writeTextFileSync(
    `${t.dir}/program.ts`,
    `import { openTarget } from ${JSON.stringify(library)};
    console.log(openTarget(${JSON.stringify(t.dir)} + "/root", "/relative").path);`,
  );
  const deno = [Deno.execPath(), "run", "-A", "--quiet", "--no-check", "--no-config"];
  const [program = "", ...args] = [...launcher, ...deno, `${t.dir}/program.ts`];
  const { stdout, stderr } = await new Deno.Command(program, { args }).output();
  return new TextDecoder().decode(stdout).trim() || new TextDecoder().decode(stderr);
}

kernelTest("without openat2(2), a link with .. stays inside the target", {
  root: true,
  permissions: { run: true },
}, async (t) => {
  for (const errno of ["ENOSYS", "EPERM"]) {
    const launcher = [Deno.execPath(), "run", "-A", "--quiet", "--no-check", filter, OPENAT2, errno];
    assertEquals(await openInChild(t, launcher), `${t.dir}/root/inside`, errno);
    Deno.removeSync(`${t.dir}/root/relative`);
  }
});

kernelTest("a rename anywhere while .. is resolved is no error: openat2(2) is tried again", {
  features: ["openat2"],
  tools: ["strace"],
  permissions: { run: true },
}, async (t) => {
  // The probe, the path without links, and then the lookup that fails.
  const launcher = ["strace", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "--trace=openat2"];
  assertEquals(
    await openInChild(t, [...launcher, "--inject=openat2:error=EAGAIN:when=3"]),
    `${t.dir}/root/inside`,
  );
});
