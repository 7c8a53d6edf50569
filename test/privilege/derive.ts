/**
 * Finds the Linux capabilities and Deno permissions that each operation requires, by removing them until it fails. Each
 * attempt is a process with a private mount namespace and a private /tmp.
 *
 * @module
 */

import { type Operation, operations } from "./operations.ts";

/** The rights of an operation. */
export interface Rights {
  /** Linux capabilities, as setpriv(1) names them. */
  capabilities: readonly string[];
  /** Deno permissions, by name. */
  permissions: readonly string[];
}

/** The result of an attempt. */
export type Outcome = "worked" | { name: string; message: string; code?: string };

/** An operation and the minimal rights that it requires. */
export interface Needs extends Rights {
  /** The name of the operation. */
  operation: string;
  /** The error without each of the rights. */
  without: Record<string, Outcome>;
}

const child = new URL("child.ts", import.meta.url).pathname;
// Reading and writing are granted for temporary mounts only.
const flags: Record<string, string> = {
  ffi: "--allow-ffi",
  read: "--allow-read=/tmp",
  write: "--allow-write=/tmp",
  run: "--allow-run",
  env: "--allow-env",
  net: "--allow-net",
  sys: "--allow-sys",
};

/** The Linux capabilities of capabilities(7). */
export const everyCapability: readonly string[] = [
  "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service",
  "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin",
  "sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override",
  "mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore",
].join(" ").split(" ");

/** The Deno permissions that an operation could require. */
export const everyPermission: readonly string[] = Object.keys(flags);

/** Creates the files that the operations require. */
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
 * Runs an operation with the given rights only.
 *
 * @param name the operation.
 * @param dir the directory that {@linkcode makeFiles} has filled.
 * @param rights the rights.
 * @param where "terminal" runs it on a terminal, on which Deno can prompt for missing permissions.
 * @returns the result.
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

// The project, Deno and its cache may be below the /tmp that an attempt hides.
const kept = [new URL("../..", import.meta.url).pathname, Deno.execPath(), Deno.env.get("DENO_DIR") ?? "/"]
  .filter((path) => path.startsWith("/tmp/"));

/** Binds a path into the private /tmp. */
function keep(path: string): string {
  const copy = `"$3${path}"`;
  const make = path === Deno.execPath() ? `touch ${copy}` : `mkdir -p ${copy}`;
  return `mkdir -p "$(dirname ${copy})" && ${make} && mount --rbind "${path}" ${copy}`;
}

/** Passes the shell's parameters through the environment, because script(1) starts another shell. */
function inTerminal(command: string): string {
  const inner = command.replaceAll(/"\$(\d)"/g, '"$P$1"');
  return `env P0="$0" P1="$1" P2="$2" P4="$4" timeout 20 script -qec '${inner}' /dev/null`;
}

/** Finds the minimal rights of an operation. */
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
  const capabilities = await minimize(
    start.capabilities,
    (capabilities) => having({ ...start, capabilities }),
  );
  const permissions = await minimize(
    start.permissions,
    (permissions) => having({ capabilities, permissions }),
  );
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
  throw new Error(`it fails even with all rights: ${JSON.stringify(outcome)}`);
}

/** The minimal subset that works: removes halves first, then smaller parts, then single elements. */
async function minimize(
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

/** Finds the minimal rights of every operation with installed programs, several at the same time. */
export async function deriveAll(
  dir: string,
  hasTools: (operation: Operation) => boolean,
  jobs: number,
): Promise<Needs[]> {
  const found: Needs[] = [];
  const left = Object.entries(operations).filter(([, operation]) => hasTools(operation)).map(([name]) =>
    name
  );
  const worker = async (number: number) => {
    const workDir = `${dir}/${number}`;
    await makeFiles(workDir, ["mkfs.ext4"]);
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      found.push(await derive(name, workDir, guesses(found)));
    }
  };
  await Promise.all(Array.from({ length: jobs }, (_, number) => worker(number)));
  const order = Object.keys(operations);
  return found.sort((a, b) => order.indexOf(a.operation) - order.indexOf(b.operation));
}

/** The rights of earlier operations, the fewest first: most operations require the same. */
function guesses(found: readonly Needs[]): Rights[] {
  const sets = new Map(found.map(({ capabilities, permissions }) => [
    JSON.stringify([capabilities, permissions]),
    { capabilities, permissions },
  ]));
  return [...sets.values()].sort((a, b) =>
    a.capabilities.length + a.permissions.length - b.capabilities.length - b.permissions.length
  );
}
