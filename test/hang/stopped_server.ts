/**
 * A FUSE file system whose server is stopped: some of its paths are cached, and some are not.
 *
 * @module
 */

import { isMountpoint } from "../../mod.ts";
import type { KernelContext } from "../harness.ts";

const LIFETIME = 45; // seconds, after which calls that hang fail, so that the test fails instead of hanging

/** A FUSE mount whose server is stopped. */
export interface StoppedServer extends AsyncDisposable {
  /** A path that the kernel has not looked up. */
  readonly uncached: string;
  /** A directory that is in the dentry cache. */
  readonly cached: string;
  /** A file that is in the dentry cache. */
  readonly cachedFile: string;
  /** A symbolic link that is in the dentry cache; only the server knows its target. */
  readonly cachedLink: string;
}

/**
 * Mounts a bindfs at `server`, looks up some of its paths, and stops it. `link` leads to the mount.
 *
 * @param t the test.
 * @returns the mount; its end kills the server and unmounts it.
 */
export async function stoppedServer(t: KernelContext): Promise<StoppedServer> {
  const source = t.make("server-source/unseen", "server-source/cached", "server-source");
  const root = t.make("server");
  Deno.writeFileSync(`${t.dir}/server-source/file`, new Uint8Array(1 << 20));
  await Deno.remove(`${t.dir}/server-source/symlink`).catch(() => {});
  Deno.symlinkSync("cached", `${t.dir}/server-source/symlink`);
  await Deno.remove(`${t.dir}/link`).catch(() => {});
  Deno.symlinkSync("server", `${t.dir}/link`);
  const args = [
    "-f",
    "-o",
    "entry_timeout=3600,attr_timeout=3600",
    `${source.replace(/\/unseen$/, "")}`,
    root,
  ];
  const server = new Deno.Command("bindfs", { args }).spawn();
  while (!(await isMountpoint(root))) await new Promise((resolve) => setTimeout(resolve, 5));
  for (const name of ["cached", "file"]) Deno.statSync(`${root}/${name}`);
  Deno.lstatSync(`${root}/symlink`);
  server.kill("SIGSTOP");
  const script = `timeout ${LIFETIME} cat; kill -KILL ${server.pid}`;
  const watchdog = new Deno.Command("sh", { args: ["-c", script], stdin: "piped", stdout: "null" }).spawn();
  return {
    uncached: `${root}/unseen`,
    cached: `${root}/cached`,
    cachedFile: `${root}/file`,
    cachedLink: `${root}/symlink`,
    async [Symbol.asyncDispose]() {
      watchdog.kill("SIGKILL");
      await watchdog.status;
      await watchdog.stdin.close().catch(() => {});
      server.kill("SIGKILL");
      await server.status;
      await new Deno.Command("umount", { args: ["-l", root], stderr: "null" }).output();
      await new Promise((resolve) => setTimeout(resolve, 50)); // calls that wait for the server fail by then
    },
  };
}
