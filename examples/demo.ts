/**
 * Mounts this machine's directories as id-mapped overlay layers with a tmpfs and a read-only bind, and runs a command in
 * them: the command is root inside and unprivileged on the host, and writes and deletes files. The host's files stay
 * unchanged. Unmounts everything, and counts what is left behind.
 *
 *     deno task demo
 *
 * @module
 */

import {
  createUserNamespace,
  listMounts,
  type Mount,
  mountAll,
  MountError,
  type OwnedFd,
  prefixFilter,
  withReadonlyTempMount,
  withTempMount,
} from "../mod.ts";

const project = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

async function step<T>(what: string, run: () => T | Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await run();
  console.log(`\n${(performance.now() - start).toFixed(1).padStart(7)} ms  ${what}`);
  return result;
}

async function tree(target: string): Promise<void> {
  for (const { mountpoint, fsType, options } of await listMounts({ filter: prefixFilter(target) })) {
    const below = mountpoint.slice(target.length).split("/").length - 1;
    const name = below === 0 ? target : `└─ ${mountpoint.slice(target.length)}`;
    console.log(`            ${"   ".repeat(Math.max(0, below - 1))}${name}  (${fsType}, ${options})`);
  }
}

/** What a run may leave behind: mounts, loop devices, and temporary files. */
function machine(): string[] {
  const loops = [...Deno.readDirSync("/sys/block")].filter(({ name }) => {
    if (!name.startsWith("loop")) return false;
    return [...Deno.readDirSync(`/sys/block/${name}`)].some((entry) => entry.name === "loop");
  });
  const files = [...Deno.readDirSync("/tmp")].filter(({ name }) => name.startsWith("denomount-"));
  const mounts = Deno.readTextFileSync("/proc/self/mountinfo").trim().split("\n");
  return [...mounts, ...loops.map(({ name }) => name), ...files.map(({ name }) => name)].sort();
}

async function digest(path: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", await Deno.readFile(path));
  return new Uint8Array(hash).toHex();
}

const MAP = "0:100000:65536";
const maps = [`uidmap=${MAP}`, `gidmap=${MAP}`];

/** Why the layers can't be id-mapped: in a user namespace the kernel forbids it, and some file systems lack it. */
async function whyNotMapped(): Promise<string | undefined> {
  for (const source of [project, "/etc", "/usr"]) {
    try {
      await withReadonlyTempMount([{ type: "bind", source, options: maps }], () => {});
    } catch (error) {
      if (error instanceof MountError) return error.message;
      throw error;
    }
  }
}

/** Runs the commands with the tree as their root directory, in the user namespace if given. */
function runInside(root: string, userns: OwnedFd | undefined): Promise<Deno.CommandOutput> {
  const program = ["/bin/sh", "-c", commands];
  const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
  if (userns === undefined) return new Deno.Command("chroot", { args: [root, ...program], env }).output();
  const enter = [`--user=/proc/${Deno.pid}/fd/${userns.fd}`, "--setuid=0", "--setgid=0", `--root=${root}`];
  return new Deno.Command("nsenter", { args: [...enter, "--wd=.", ...program], env, cwd: root }).output();
}

const owner = (path: string) => {
  const { uid, gid } = Deno.statSync(path);
  return `${uid}:${gid}`;
};

// Every user owns the files of their checkout, so this works without root too.
const commands = `
  echo "I am uid $(id -u); /etc/hostname belongs to $(stat -c %u:%g /hostname), /usr to $(stat -c %u:%g /usr)"
  echo "I am in $(pwd), and see $(ls / | wc -l) names in /"
  echo changed > /deno.json && rm /README.md && echo new > /new-file && echo scratch > /tmp/scratch
  echo "after:  /deno.json says '$(cat /deno.json)', README.md $(test -e /README.md && echo exists || echo is gone)"
  if touch /usr/nothing 2>/tmp/why; then echo "/usr was written to"; else echo "writing to /usr: $(cat /tmp/why)"; fi`;

const before = machine();
const host = { deno: await digest(`${project}/deno.json`), readme: await digest(`${project}/README.md`) };

const obstacle = await whyNotMapped();
if (obstacle !== undefined) console.log(`without id maps: ${obstacle}`);
using userns = obstacle === undefined ? await createUserNamespace(MAP, MAP) : undefined;
const mapped = userns === undefined ? [] : maps;

// The upper directory can't be on an overlay, and the root of a container is one: use a tmpfs.
const good = await withTempMount([{ type: "tmpfs", source: "scratch" }], async (scratch) => {
  for (const name of ["upper", "work", "skeleton/tmp", "skeleton/usr", "root"]) {
    await Deno.mkdir(`${scratch}/${name}`, { recursive: true });
  }
  const layers = [`${scratch}/skeleton`, project, "/etc", "/usr"]; // /usr provides /bin, /lib and /lib64
  if (userns) await Deno.chown(`${scratch}/upper`, 100000, 100000); // the upper directory is not id-mapped
  const writable = [`upperdir=${scratch}/upper`, `workdir=${scratch}/work`];
  const mounts: Mount[] = [
    {
      type: "overlay",
      source: "demo",
      options: [`lowerdir=${layers.join(":")}`, ...writable, ...mapped],
    },
    { type: "tmpfs", source: "tmp", target: "/tmp", options: ["size=16m", "nosuid", "nodev"] },
    { type: "bind", source: "/usr", target: "/usr", options: ["bind", "ro", ...mapped] },
  ];
  const root = await step(
    userns
      ? "an id-mapped overlay of this checkout, /etc and /usr, with a tmpfs and a read-only bind on top"
      : "an overlay of this checkout, /etc and /usr, with a tmpfs and a read-only bind on top",
    () => mountAll(mounts, `${scratch}/root`),
  );
  await tree(`${scratch}/root`);

  const { code, stdout, stderr } = await step(
    "a command inside, which writes and deletes",
    () => runInside(`${scratch}/root`, userns),
  );
  const output = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  console.log(output.trim().replace(/^\s*/gm, "            "));
  if (code !== 0) console.log(`            exit status ${code}`);

  const changed = [...Deno.readDirSync(`${scratch}/upper`)].map(({ name }) => name).sort();
  console.log(`            in the upper directory now: ${changed.join(", ")}`);
  const files = [
    `/etc/hostname itself to ${owner("/etc/hostname")}`,
    `the new file to ${owner(`${scratch}/upper/new-file`)}`,
  ];
  console.log(`            on the host ${files.join(", ")}`);
  await step("all unmounted", () => root.unmount());
  return code === 0 && changed.join() === "README.md,deno.json,new-file";
});

const same = await digest(`${project}/deno.json`) === host.deno &&
  await digest(`${project}/README.md`) === host.readme;
console.log(`\nThe host's deno.json and README.md are ${same ? "unchanged" : "CHANGED"}.`);
const left = machine().filter((line) => !before.includes(line));
for (const line of left) console.log(`left behind: ${line}`);
console.log(`Left behind: ${left.length}`);
Deno.exit(same && good && left.length === 0 ? 0 : 1);
