/**
 * What each operation needs, found by running it with less and less until it fails: Linux capabilities, and permissions
 * of Deno. Each try is a process of its own, in a mount namespace that ends with it and with a /tmp of its own.
 *
 * @module
 */

import { type Operation, operations } from "./operations.ts";

/** What an operation has. */
export interface Rights {
  /** Linux capabilities, as setpriv(1) names them. */
  capabilities: readonly string[];
  /** Names of Deno's permissions. */
  permissions: readonly string[];
}

/** How a try went. */
export type Outcome = "worked" | { name: string; message: string; code?: string };

/** An operation and the least that it works with. */
export interface Needs extends Rights {
  /** The operation's name. */
  operation: string;
  /** What it said without each of them. */
  without: Record<string, Outcome>;
}

const child = new URL("child.ts", import.meta.url).pathname;
// Reading and writing are granted where temporary mounts are, and nowhere else.
const flags: Record<string, string> = {
  ffi: "--allow-ffi",
  read: "--allow-read=/tmp",
  write: "--allow-write=/tmp",
  run: "--allow-run",
  env: "--allow-env",
  net: "--allow-net",
  sys: "--allow-sys",
};

/** Linux's capabilities, by capability(7). */
export const everyCapability: readonly string[] = [
  "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service",
  "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin",
  "sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override",
  "mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore",
].join(" ").split(" ");

/** Every permission of Deno's that could matter. */
export const everyPermission: readonly string[] = Object.keys(flags);

/** Where the tries are made: a directory with what the operations need. */
export async function makeFiles(dir: string, tools: readonly string[]): Promise<void> {
  for (const name of ["source", "other", "upper", "work", "target", "temporary", "tmp/dir"]) {
    await Deno.mkdir(`${dir}/${name}`, { recursive: true });
  }
  await Deno.writeFile(`${dir}/image`, new Uint8Array(1 << 20));
  if (tools.includes("mkfs.ext4")) {
    await new Deno.Command("mkfs.ext4", { args: ["-q", `${dir}/image`], stdout: "null", stderr: "null" })
      .output();
  }
}

/**
 * Makes an operation with some rights and no others.
 *
 * @param name the operation.
 * @param dir where {@linkcode makeFiles} was.
 * @param rights what it has.
 * @param where with a terminal, Deno would prompt for what is missing, and nobody would answer.
 * @returns how it went.
 */
export async function attempt(
  name: string,
  dir: string,
  rights: Rights,
  where: "terminal" | "pipes" = "pipes",
): Promise<Outcome> {
  const prepare = operations[name]?.prepare
    ? '"$0" run --quiet --no-config -A "$1" prepare "$2" /tmp/dir >&2 &&'
    : "";
  const bounding = ["-all", ...rights.capabilities.map((capability) => `+${capability}`)].join(",");
  const given = rights.permissions.map((permission) => flags[permission] ?? "");
  const command = `setpriv --bounding-set "$4" --inh-caps=-all "$0" run --quiet --no-config ${
    given.join(" ")
  } "$1" run "$2" /tmp/dir`;
  const script = `
    ${["true", ...kept.map(keep)].join(" && ")} || exit 1
    mount --bind "$3" "$3/tmp/dir" && mount --rbind "$3/tmp" /tmp || exit 1
    ${prepare} exec ${where === "pipes" ? command : inTerminal(command)}`;
  const { stdout, stderr } = await new Deno.Command("unshare", {
    args: ["-m", "--propagation", "private", "sh", "-c", script, Deno.execPath(), child, name, dir, bounding],
    stdin: "null",
  }).output();
  const said = new TextDecoder().decode(stdout).trim();
  if (said === "worked") return "worked";
  if (said.startsWith("{")) return JSON.parse(said);
  throw new Error(`${name}: ${said} ${new TextDecoder().decode(stderr)}`);
}

// What a try is made of may itself be below the /tmp that it does not see.
const kept = [new URL("../..", import.meta.url).pathname, Deno.execPath(), Deno.env.get("DENO_DIR") ?? "/"]
  .filter((path) => path.startsWith("/tmp/"));

/** Shows a path in the new /tmp as well. */
function keep(path: string): string {
  const there = `"$3${path}"`;
  const make = path === Deno.execPath() ? `touch ${there}` : `mkdir -p ${there}`;
  return `mkdir -p "$(dirname ${there})" && ${make} && mount --rbind "${path}" ${there}`;
}

/** With the shell's parameters in the environment, because script(1) runs the command in a shell of its own. */
function inTerminal(command: string): string {
  const inner = command.replaceAll(/"\$(\d)"/g, '"$P$1"');
  return `env P0="$0" P1="$1" P2="$2" P4="$4" timeout 20 script -qec '${inner}' /dev/null`;
}

/** Finds what an operation needs. */
export async function derive(name: string, dir: string, guesses: readonly Rights[]): Promise<Needs> {
  const outcomes = new Map<string, Outcome>();
  const having = async (rights: Rights) => {
    const key = JSON.stringify(rights);
    const outcome = outcomes.get(key) ?? await attempt(name, dir, rights);
    outcomes.set(key, outcome);
    return outcome;
  };
  const all: Rights = { capabilities: everyCapability, permissions: everyPermission };
  const start = await firstThatWorks([...guesses, all], having);
  const capabilities = await least(start.capabilities, (capabilities) => having({ ...start, capabilities }));
  const permissions = await least(start.permissions, (permissions) => having({ capabilities, permissions }));
  const without: Record<string, Outcome> = {};
  for (const one of capabilities) {
    without[one] = await having({ capabilities: capabilities.filter((other) => other !== one), permissions });
  }
  for (const one of permissions) {
    without[one] = await having({ capabilities, permissions: permissions.filter((other) => other !== one) });
  }
  return { operation: name, capabilities, permissions, without };
}

async function firstThatWorks(
  all: readonly Rights[],
  having: (rights: Rights) => Promise<Outcome>,
): Promise<Rights> {
  let outcome: Outcome | undefined;
  for (const rights of all) {
    outcome = await having(rights);
    if (outcome === "worked") return rights;
  }
  throw new Error(`it does not even work with everything: ${JSON.stringify(outcome)}`);
}

/** Leaves out as many as it can, halves at first, then one by one, until none can be left out. */
async function least(
  all: readonly string[],
  having: (some: readonly string[]) => Promise<Outcome>,
): Promise<readonly string[]> {
  let kept = all;
  for (let size = Math.ceil(all.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < kept.length;) {
      const fewer = kept.toSpliced(at, size);
      if (await having(fewer) === "worked") kept = fewer;
      else at += size;
    }
  }
  return kept;
}

/** Finds it for every operation whose programs are there, so many at a time. */
export async function deriveAll(
  dir: string,
  hasTools: (operation: Operation) => boolean,
  jobs: number,
): Promise<Needs[]> {
  const found: Needs[] = [];
  const left = Object.entries(operations).filter(([, operation]) => hasTools(operation)).map(([name]) =>
    name
  );
  const lane = async (number: number) => {
    const place = `${dir}/${number}`;
    await makeFiles(place, ["mkfs.ext4"]);
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      found.push(await derive(name, place, guesses(found)));
    }
  };
  await Promise.all(Array.from({ length: jobs }, (_, number) => lane(number)));
  const order = Object.keys(operations);
  return found.sort((a, b) => order.indexOf(a.operation) - order.indexOf(b.operation));
}

/** Most need what another one needs. */
function guesses(found: readonly Needs[]): Rights[] {
  const sets = new Map(found.map(({ capabilities, permissions }) => [
    JSON.stringify([capabilities, permissions]),
    { capabilities, permissions },
  ]));
  return [...sets.values()].sort((a, b) =>
    a.capabilities.length + a.permissions.length - b.capabilities.length - b.permissions.length
  );
}
