import { assert, assertEquals } from "../assert.ts";
import { readText } from "../kernel.ts";
import { sandboxTest, type UserContext } from "./users.ts";

const source = new URL("./escape.c", import.meta.url).pathname;
const MACHINE = ["/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness"];

async function call(command: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await new Deno.Command(command, { args }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
}

/** A directory with mounts of all kinds, and one with protected paths. */
async function prepare({ dir, make, uid }: UserContext): Promise<AsyncDisposable> {
  make(
    ...["tmpfs", "ramfs", "bind", "lower", "upper", "work", "overlay", "proc", "covered"].map((name) =>
      `host/${name}`
    ),
    ...["protected", "deep/er/protected", "free"].map((name) => `mine/${name}`),
  );
  const host = `${dir}/host`;
  const mounts = [
    ["-t", "tmpfs", "tmpfs", `${host}/tmpfs`],
    ["-t", "ramfs", "ramfs", `${host}/ramfs`],
    ["--bind", `${host}/lower`, `${host}/bind`],
    [
      "-t",
      "overlay",
      "-o",
      `lowerdir=${host}/lower,upperdir=${host}/upper,workdir=${host}/work`,
      "o",
      `${host}/overlay`,
    ],
    ["-t", "proc", "proc", `${host}/proc`],
    // A mount that another one covers.
    ["-t", "tmpfs", "tmpfs", `${host}/covered`],
    ["-t", "tmpfs", "tmpfs", `${host}/covered`],
  ];
  for (const args of mounts) await call("mount", ...args);
  for (const name of ["file", "tmpfs/file", "ramfs/file", "lower/file", "bound"]) {
    Deno.writeTextFileSync(`${host}/${name}`, "untouched");
  }
  await call("mount", "--bind", `${host}/file`, `${host}/bound`);
  await call("mknod", "-m", "666", `${host}/disk`, "b", "7", "0");
  await call("mknod", "-m", "666", `${host}/null`, "c", "1", "3");
  for (const name of ["protected/file", "deep/er/protected/file", "free/file", "config", "secret"]) {
    Deno.writeTextFileSync(`${dir}/mine/${name}`, "untouched");
  }
  await call("chown", "-R", `${uid}:${uid}`, `${dir}/mine`, `${host}/file`, `${host}/tmpfs`, `${host}/lower`);
  await call(
    "chmod",
    "-R",
    "a+rwX",
    `${host}/file`,
    `${host}/tmpfs`,
    `${host}/ramfs`,
    `${host}/lower`,
    `${host}/upper`,
  );
  await call("cc", "-o", `${dir}/escape`, source);
  Deno.copyFileSync(`${dir}/escape`, `${host}/set-user-id`);
  await call("chmod", "4755", `${host}/set-user-id`);
  const mountpoints = ["bound", "tmpfs", "ramfs", "bind", "overlay", "proc", "covered", "covered"];
  return { [Symbol.asyncDispose]: () => call("umount", ...mountpoints.map((name) => `${host}/${name}`)) };
}

sandboxTest("each attempt of a hostile command to leave its box is refused", {
  root: true,
  tools: ["cc", "mknod", "umount"],
  notEmulated: "it needs a compiler",
}, async (t) => {
  await using _mounts = await prepare(t);
  const machine = MACHINE.map(readText);
  const key = 1 + Math.floor(Math.random() * 1e9);
  // Without capabilities: the kernel lets no process without them trace one that has some.
  const noCapabilities = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
  const [program = "", ...args] = [...t.user === "root" ? noCapabilities : t.as, "sleep", "100"];
  await using victim = new Deno.Command(program, { args }).spawn();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const [{ out, err }, tree] = await t.run(
    `
    const mine = dir + "/mine";
    await using box = await sandbox({
      writable: [mine],
      readonly: [dir + "/host", dir + "/escape", mine + "/protected", mine + "/config", mine + "/deep/er/protected",
        mine + "/held"],
      hidden: [mine + "/secret"],
    });
    say(await sh(box, "${t.dir}/escape ${t.dir}/host " + mine + " ${port} ${victim.pid} ${key}"));
    say((await sh(box, "cat " + mine + "/secret; cd " + mine + "; find . | sort")).out); // the box is alive
  `,
    [`${t.dir}/escape`, "--host", `${key}`],
  );
  const lines: string[] = out.trimEnd().split("\n");
  assertEquals([lines.pop(), err], ["end", ""]);
  assertEquals(lines.filter((line) => !/: refused E[A-Z0-9]+$/.test(line)), []);
  assert(lines.length >= 95, `${lines.length} attempts`);
  assertEquals(
    tree.trim().split("\n"),
    [
      ".",
      "./config",
      "./deep",
      "./deep/er",
      "./deep/er/protected",
      "./deep/er/protected/file",
      "./free",
      "./free/file",
    ]
      .concat("./held", "./protected", "./protected/file", "./secret"),
  );
  for (const name of ["file", "tmpfs/file", "ramfs/file", "lower/file", "bound", "overlay/file"]) {
    assertEquals(Deno.readTextFileSync(`${t.dir}/host/${name}`), "untouched");
  }
  for (const name of ["protected/file", "deep/er/protected/file", "config", "secret"]) {
    assertEquals(Deno.readTextFileSync(`${t.dir}/mine/${name}`), "untouched");
  }
  assertEquals(MACHINE.map(readText), machine);
  assertEquals([...Deno.readDirSync(`${t.dir}/host/upper`)].length, 0);
  victim.kill("SIGKILL"); // it throws if the command has ended it
  await victim.status;
});
