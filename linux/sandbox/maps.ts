/**
 * The id maps of a box with ranges of ids, written by the process that has started it.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { openPidfd, pidInProc } from "../pidfd.ts";
import { findProgram, runHelper } from "../path/program.ts";
import { type IdMapping, mapFileText, parseIdMappings } from "../spec/id_mapping.ts";
import { O_WRONLY } from "../syscalls/constants.ts";
import { getegid, geteuid, open, write } from "../syscalls/mod.ts";
import { SandboxError } from "./error.ts";
import type { IdRanges } from "./steps.ts";

/**
 * Refuses id maps that can't be.
 *
 * @param ranges the maps.
 * @returns the maps as lists.
 * @throws {TypeError} for a map that is malformed.
 */
export function mapsOf({ uidMap, gidMap }: IdRanges): { uidMap: IdMapping[]; gidMap: IdMapping[] } {
  const list = (map: string | readonly IdMapping[]) => {
    mapFileText(map);
    return typeof map === "string" ? parseIdMappings(map) : [...map];
  };
  return { uidMap: list(uidMap), gidMap: list(gidMap) };
}

/**
 * Writes the id maps of a process that has just made its user namespace: directly, or by newuidmap(1) and newgidmap(1) for
 * a user who has ranges in /etc/subuid and /etc/subgid.
 *
 * @param pid the process, a child of this one.
 * @param ranges the maps.
 * @returns the ids that the process has to take, where its own are not mapped.
 * @throws {SandboxError} if the maps can't be written.
 */
export async function writeMaps(pid: number, ranges: IdRanges): Promise<{ uid?: number; gid?: number }> {
  const { uidMap, gidMap } = mapsOf(ranges);
  using process = openPidfd(pid);
  const inProc = pidInProc(process);
  for (const [name, map] of [["uid", uidMap], ["gid", gidMap]] as const) {
    try {
      using file = open(`/proc/${inProc}/${name}_map`, O_WRONLY);
      write(file.fd, new TextEncoder().encode(mapFileText(map)), `${name}_map`);
    } catch (error) {
      if (!isErrno(error, "EPERM")) throw error;
      await writeByHelper(`new${name}map`, pid, map);
    }
  }
  const isMapped = (map: readonly IdMapping[], id: number) =>
    map.some(({ hostId, size }) => id >= hostId && id < hostId + size);
  if (isMapped(uidMap, geteuid()) && isMapped(gidMap, getegid())) return {};
  return { uid: uidMap[0]?.containerId ?? 0, gid: gidMap[0]?.containerId ?? 0 };
}

async function writeByHelper(name: string, pid: number, map: readonly IdMapping[]): Promise<void> {
  const program = findProgram(name);
  const file = name === "newuidmap" ? "/etc/subuid" : "/etc/subgid";
  if (program === undefined) {
    throw new SandboxError(
      `the ids of the box can't be mapped: only root maps ids of other users, unless ${name} does for the ranges in ${file}; install the package uidmap`,
      { code: "EPERM", syscall: "write" },
    );
  }
  const numbers = map.flatMap(({ containerId, hostId, size }) => [containerId, hostId, size]);
  const { code, said } = await runHelper(program, [pid, ...numbers].map(String));
  if (code === 0) return;
  throw new SandboxError(`the ids of the box can't be mapped: ${said} (by the ranges in ${file})`, {
    code: "EPERM",
    syscall: "write",
  });
}
