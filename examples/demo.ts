/**
 * The main job on real input: this system's own directories as overlay layers, a tmpfs and a read-only bind on top, a
 * command inside that writes and deletes, the host untouched, everything taken down, and a count of what is left.
 *
 *     deno task demo
 *
 * @module
 */

import { listMounts, type Mount, mountAll, prefixFilter, withTempMount } from "../mod.ts";

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

/** What a run may leave behind: mounts, loop devices, files of ours in the temporary folder. */
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

// Anybody owns the files of the checkout, so this works without root as well.
const commands = `
  echo "I am in $(pwd), and see $(ls / | wc -l) names in /"
  echo changed > /deno.json && rm /README.md && echo new > /new-file && echo scratch > /tmp/scratch
  echo "after:  /deno.json says '$(cat /deno.json)', README.md is $(test -e /README.md && echo there || echo gone)"
  if touch /usr/nothing 2>/tmp/why; then echo "/usr was written to"; else echo "writing to /usr: $(cat /tmp/why)"; fi`;

const before = machine();
const host = { deno: await digest(`${project}/deno.json`), readme: await digest(`${project}/README.md`) };

// The upper directory must not itself be on an overlay, which a container's root is: a tmpfs is never one.
const good = await withTempMount([{ type: "tmpfs", source: "scratch" }], async (scratch) => {
  for (const name of ["upper", "work", "skeleton/tmp", "skeleton/usr", "root"]) {
    await Deno.mkdir(`${scratch}/${name}`, { recursive: true });
  }
  const layers = [`${scratch}/skeleton`, project, "/etc", "/usr"]; // of /usr come /bin, /lib and /lib64
  const writable = [`upperdir=${scratch}/upper`, `workdir=${scratch}/work`];
  const mounts: Mount[] = [
    {
      type: "overlay",
      source: "demo",
      options: [`lowerdir=${layers.join(":")}`, ...writable],
    },
    { type: "tmpfs", source: "tmp", target: "/tmp", options: ["size=16m", "nosuid", "nodev"] },
    { type: "bind", source: "/usr", target: "/usr", options: ["rbind", "ro"] },
  ];
  const root = await step(
    "an overlay of this checkout, /etc and /usr, with a tmpfs and a read-only bind on top",
    () => mountAll(mounts, `${scratch}/root`),
  );
  await tree(`${scratch}/root`);

  const { code, stdout, stderr } = await step(
    "a command inside, which writes and deletes",
    () =>
      new Deno.Command("chroot", {
        args: [`${scratch}/root`, "/bin/sh", "-c", commands],
        env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
      }).output(),
  );
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  console.log(said.trim().replace(/^\s*/gm, "            "));
  if (code !== 0) console.log(`            it ended with exit status ${code}`);

  const changed = [...Deno.readDirSync(`${scratch}/upper`)].map(({ name }) => name).sort();
  console.log(`            in the upper directory now: ${changed.join(", ")}`);
  await step("everything down again", () => root.unmount());
  return code === 0 && changed.join() === "README.md,deno.json,new-file";
});

const same = await digest(`${project}/deno.json`) === host.deno &&
  await digest(`${project}/README.md`) === host.readme;
console.log(`\nThe host's deno.json and README.md are ${same ? "as they were" : "CHANGED"}.`);
const left = machine().filter((line) => !before.includes(line));
for (const line of left) console.log(`left behind: ${line}`);
console.log(`Left behind: ${left.length}`);
Deno.exit(same && good && left.length === 0 ? 0 : 1);
