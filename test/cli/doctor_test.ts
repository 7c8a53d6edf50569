import { assert, assertEquals, assertMatch } from "../assert.ts";
import { hasRoot, kernelTest } from "../harness.ts";
import { names, readText } from "../kernel.ts";
import { featureVersions, kernelFeatures } from "../../mod.ts";
import { cli } from "./command.ts";
import { command } from "./in_process.ts";

const needs = {
  tools: ["unshare", "setpriv", "mount"],
  permissions: { run: true, env: true, sys: true } as Deno.PermissionOptionsObject,
};

interface Finding {
  name: string;
  state: "yes" | "no" | "older";
  note?: string;
}

/** Runs `doctor --json` through a program and its arguments. */
async function doctorIn(
  ...wrapper: string[]
): Promise<{ code: number; find: (name: string) => Finding | undefined }> {
  const [program = "", ...args] = [
    ...wrapper,
    Deno.execPath(),
    "run",
    "--quiet",
    "-A",
    cli,
    "doctor",
    "--json",
  ];
  const { code, stdout, stderr } = await new Deno.Command(program, { args }).output();
  const text = new TextDecoder().decode(stdout);
  assert(text.startsWith("{"), new TextDecoder().decode(stderr));
  const { findings }: { findings: Finding[] } = JSON.parse(text);
  return { code, find: (start) => findings.find(({ name }) => name.startsWith(start)) };
}

kernelTest("doctor finds what this kernel has, and prints it as text or with --json", needs, async () => {
  const { code, out } = await command(["doctor", "--json"]);
  const { kernel, deno, findings }: { kernel: string; deno: string; findings: Finding[] } = JSON.parse(out);
  assertEquals([code, kernel, deno], [0, readText("/proc/sys/kernel/osrelease")?.trim(), Deno.version.deno]);
  const state = (start: string) => findings.find(({ name }) => name.startsWith(start))?.state;
  assertEquals([state("mounting"), state("user namespaces")], ["yes", "yes"]);
  assertEquals(state("FUSE"), names("/dev").includes("fuse") ? hasRoot ? "yes" : state("FUSE") : "no");
  const supported = Object.values(kernelFeatures());
  assertEquals(
    findings.filter(({ state }) => state === "older").length,
    supported.filter((works) => !works).length,
  );
  const text = await command(["doctor"]);
  const [head, ...lines] = text.out.trimEnd().split("\n");
  assertEquals(head, `Linux ${kernel}, ${Deno.build.arch}, Deno ${deno}`);
  assertEquals(
    lines,
    findings.map(({ name, state, note }) =>
      `${state.padEnd(5)}  ${name}${note === undefined ? "" : `: ${note}`}`
    ),
  );
});

kernelTest("doctor names the kernel that a feature needs, and what happens without it", {
  ...needs,
  root: true,
}, async () => {
  const OPENAT2 = "437"; // asm/unistd.h, on all architectures
  const filter = new URL("../syscalls/with_filter.ts", import.meta.url).pathname;
  const { code, find } = await doctorIn(Deno.execPath(), "run", "-A", filter, OPENAT2, "ENOSYS");
  assertEquals([code, find("safe path resolution")], [0, {
    name: "safe path resolution (openat2)",
    state: "older",
    note: `needs Linux ${featureVersions.openat2}; each path component is opened separately`,
  }]);
});

kernelTest("doctor exits with status 1 if this user can mount nothing, not even in a user namespace", {
  ...needs,
  root: true,
}, async () => {
  const dropped = ["setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin", "--"];
  const unprivileged = await doctorIn(...dropped);
  assertEquals([unprivileged.code, unprivileged.find("user namespaces")?.state], [0, "yes"]);
  assertEquals(unprivileged.find("mounting"), {
    name: "mounting (CAP_SYS_ADMIN)",
    state: "no",
    note: "run as root, or in a user namespace (unshare -Urm)",
  });
  assertEquals(unprivileged.find("the kernel's features")?.state, "no");
  assertEquals(unprivileged.find("safe path resolution"), undefined);
  const script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"';
  const none = await doctorIn("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", ...dropped);
  assertEquals([none.code, none.find("mounting")?.state], [1, "no"]);
  assertEquals(none.find("user namespaces")?.state, "no");
  assertMatch(none.find("user namespaces")?.note ?? "", /user\.max_user_namespaces/);
  const root = await doctorIn("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh");
  assertEquals([root.code, root.find("mounting")?.state, root.find("user namespaces")?.state], [
    0,
    "yes",
    "no",
  ]);
});

kernelTest("doctor finds that a process without CAP_SETGID has user namespaces for its own id only", {
  ...needs,
  root: true,
}, async () => {
  const { code, find } = await doctorIn("setpriv", "--inh-caps=-setgid", "--bounding-set=-setgid", "--");
  assertEquals([code, find("user namespaces")], [0, {
    name: "user namespaces",
    state: "yes",
    note: "for your own id only",
  }]);
});

kernelTest(
  "doctor says how to get a device or a program that is missing",
  { ...needs, root: true },
  async (t) => {
    t.make("dev");
    const programs: [name: string, purpose: string, debianPackage: string][] = [
      ["mount.fuse3", "FUSE mounts", "fuse3"],
      ["fusermount3", "FUSE without root", "fuse3"],
      ["unshare", "run without root and run --private", "util-linux"],
      ["chroot", "run --chroot", "coreutils"],
      ["mkfs.ext4", "images that the mount manager makes", "e2fsprogs"],
      ["mkfs.xfs", "images that the mount manager makes", "xfsprogs"],
      ["mkfs.btrfs", "images that the mount manager makes", "btrfs-progs"],
    ];
    const hidden = programs.flatMap(([name]) =>
      ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin"].filter((directory) =>
        names(directory).includes(name)
      )
        .map((directory) => `mount --bind /dev/null ${directory}/${name}`)
    );
    const nodes = ["null", "urandom", "random", "zero", "tty"].map((name) =>
      `touch ${t.dir}/dev/${name}; mount --bind /dev/${name} ${t.dir}/dev/${name}`
    );
    const script = ["set -e", ...hidden, ...nodes, `mount --rbind ${t.dir}/dev /dev`, 'exec "$@"'].join("\n");
    const { code, find } = await doctorIn(
      "unshare",
      "-m",
      "--propagation",
      "private",
      "sh",
      "-c",
      script,
      "sh",
    );
    assertEquals(code, 0);
    assertEquals(find("loop devices"), {
      name: "loop devices",
      state: "no",
      note: "/dev/loop-control does not exist: modprobe loop, as root",
    });
    assertEquals(find("FUSE"), {
      name: "FUSE",
      state: "no",
      note: "/dev/fuse does not exist: modprobe fuse",
    });
    for (const [name, purpose, debianPackage] of programs) {
      assertEquals(find(name), {
        name: `${name}, for ${purpose}`,
        state: "no",
        note: `install the package ${debianPackage}`,
      });
    }
  },
);

kernelTest("doctor says whether the mount manager's record can be used, and makes none", {
  ...needs,
  root: true,
}, async () => {
  const record = async (...script: string[]) => {
    const all = ["set -e", "mount -t tmpfs -o size=1m,mode=755 t /var/lib", ...script, 'exec "$@"'].join(
      "\n",
    );
    const { code, find } = await doctorIn("unshare", "-m", "--propagation", "private", "sh", "-c", all, "sh");
    assertEquals(code, 0);
    return find("the mount manager's record");
  };
  const name = "the mount manager's record";
  const root = "/var/lib/denomount";
  assertEquals(await record(), { name, state: "yes", note: `made in ${root} at the first use` });
  const command = `${Deno.execPath()} run --quiet -A ${cli}`;
  assertEquals(await record(`echo '[]' | ${command} activate box - > /dev/null`), {
    name,
    state: "yes",
    note: `in ${root}, activations: 1`,
  });
  assertEquals(await record(`mkdir -m 777 ${root}`), {
    name,
    state: "no",
    note: `other users can write to "${root}": they could replace what is mounted in it`,
  });
  const damaged = await record(`mkdir -m 700 ${root}`, `yes damaged | head -c 9999 > ${root}/activations.db`);
  assertEquals(damaged?.state, "no");
  assertMatch(damaged?.note ?? "", /activations\.db.*it is damaged/);
  const unchanged = await record(`(${command} doctor > /dev/null; test ! -e ${root})`);
  assertEquals(unchanged?.note, `made in ${root} at the first use`);
});
