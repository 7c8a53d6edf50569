/**
 * Programs that use the sandbox as root and as an ordinary user: bundled into one file, which an ordinary user can read.
 *
 * @module
 */

import { assertEquals } from "../assert.ts";
import { hasRoot, type KernelContext, kernelTest, type Needs } from "../harness.ts";

/** The users that a test runs as. */
export type User = "root" | "user";

const UID = 12345;

/** A test's directory, and programs that run as its user. */
export interface UserContext extends KernelContext {
  /** Who runs the programs. */
  user: User;
  /** Their user id. */
  uid: number;
  /** The beginning of a command line that runs a program as the user. */
  as: string[];
  /** Writes a program, which finds `sandbox`, `fromBwrapArgs`, `dir` and `sh`; returns the command line that runs it. */
  program(body: string): Promise<string[]>;
  /** Runs a program, which prints JSON by `say()`, through another command; returns what it has said. */
  // deno-lint-ignore no-explicit-any
  run(body: string, through?: readonly string[]): Promise<any[]>;
}

/**
 * Registers a test once for root and once for an ordinary user; without root, or with `onlyUser`, for a user.
 *
 * @param name the rule that the test checks.
 * @param needs what it requires.
 * @param test the test.
 */
export function sandboxTest(
  name: string,
  needs: Needs & { onlyUser?: true },
  test: (t: UserContext) => Promise<void>,
): void {
  const users: User[] = hasRoot && !needs.onlyUser ? ["root", "user"] : ["user"];
  for (const user of users) {
    kernelTest(`${name} (${user})`, {
      notEmulated: "the bundler is downloaded",
      ...needs,
      features: ["mountSetattr", "openat2", ...needs.features ?? []],
      tools: ["unshare", "sh", "mount", "setpriv", ...needs.tools ?? []],
      permissions: { run: true, env: true, sys: true, net: true, ...needs.permissions },
    }, async (t) => {
      Deno.chmodSync(t.dir, 0o755);
      const drops = user === "user" && hasRoot;
      const uid = drops ? UID : Deno.uid() ?? 0;
      if (drops) Deno.chownSync(t.dir, UID, UID);
      const as = drops ? ["setpriv", `--reuid=${UID}`, `--regid=${UID}`, "--clear-groups"] : [];
      await test({
        ...t,
        user,
        uid,
        as,
        program: (body) => program(t.dir, as, body),
        run: (body, through) => run(t.dir, as, body, through),
      });
    });
  }
}

let library: Promise<string> | undefined;

/** The library in one file, made once: it needs no npm and no directory of the project. */
async function bundle(): Promise<string> {
  const directory = Deno.makeTempDirSync({ prefix: "sandbox-bundle-" });
  globalThis.addEventListener("unload", () => Deno.removeSync(directory, { recursive: true }));
  Deno.chmodSync(directory, 0o755);
  const url = (path: string) => JSON.stringify(new URL(`../../linux/${path}`, import.meta.url).href);
  Deno.writeTextFileSync(
    `${directory}/entry.ts`,
    `export * as linux from ${url("mod.ts")};
     export * from ${url("sandbox/mod.ts")};
     export { startBox } from ${url("sandbox/start.ts")};
     import { sandboxStage } from ${url("sandbox/mod.ts")};
     await sandboxStage();`,
  );
  const args = ["bundle", "--quiet", "-o", `${directory}/library.js`, `${directory}/entry.ts`];
  const { code, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return `${directory}/library.js`;
}

/** The file with the library, which the command line of a stage names. */
export function libraryPath(): Promise<string> {
  return library ??= bundle();
}

async function program(dir: string, as: string[], body: string): Promise<string[]> {
  const path = `${dir}/program-${crypto.randomUUID()}.js`;
  Deno.writeTextFileSync(
    path,
    `import { fromBwrapArgs, linux, sandbox, SandboxError, startBox } from ${
      JSON.stringify(await libraryPath())
    };
     const dir = ${JSON.stringify(dir)};
     const say = (value) => console.log(JSON.stringify(value));
     const sh = async (box, script, options = {}) => {
       const command = { args: ["-c", script], stdin: "null", stdout: "piped", stderr: "piped", ...options };
       const { code, stdout, stderr } = await box.spawn("sh", command).output();
       return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
     };
     ${body}`,
  );
  return [...as, Deno.execPath(), "run", "-A", "--no-config", "--no-lock", "--no-npm", "--no-remote", path];
}

/** The environment of the programs: PATH as that of an ordinary user, without sbin. */
export function environment(dir: string): Record<string, string> {
  return {
    PATH: "/usr/bin:/bin",
    HOME: dir,
    DENO_DIR: `${dir}/cache`,
    NO_COLOR: "1",
    SECRET_TOKEN: "secret",
  };
}

// deno-lint-ignore no-explicit-any
async function run(dir: string, as: string[], body: string, through: readonly string[] = []): Promise<any[]> {
  const [command = "", ...args] = [...as, ...through, ...await program(dir, [], body)];
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args,
    cwd: dir,
    env: environment(dir),
    clearEnv: true,
    stdin: "null",
  }).output();
  const [out = "", err = ""] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals(code, 0, `${out}\n${err}`);
  return out.split("\n").filter(Boolean).map((line) => JSON.parse(line));
}
