/**
 * Reads the state of the kernel, and ends processes, through libc: without the library under test, and without Deno's permissions for /proc.
 *
 * @module
 */

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  opendir: { parameters: ["buffer"], result: "pointer" },
  readdir: { parameters: ["pointer"], result: "pointer" },
  closedir: { parameters: ["pointer"], result: "i32" },
  kill: { parameters: ["i32", "i32"], result: "i32" },
});

const c = (text: string) => new TextEncoder().encode(text + "\0");

/** The bytes of a file; undefined if it can't be opened. */
export function readBytes(path: string): Uint8Array<ArrayBuffer> | undefined {
  const fd = libc.open(c(path), 0o2000000, 0);
  if (fd < 0) return undefined;
  const chunks: number[] = [];
  const buffer = new Uint8Array(65536);
  for (let n = libc.read(fd, buffer, 65536n); n > 0; n = libc.read(fd, buffer, 65536n)) {
    for (const byte of buffer.subarray(0, Number(n))) chunks.push(byte);
  }
  libc.close(fd);
  return Uint8Array.from(chunks);
}

/** The text of a file; undefined if it can't be opened. */
export function readText(path: string): string | undefined {
  const bytes = readBytes(path);
  return bytes && new TextDecoder().decode(bytes);
}

/** The target of a symbolic link; undefined if the path is not a symbolic link. */
export function linkText(path: string): string | undefined {
  const buffer = new Uint8Array(4096);
  const length = Number(libc.readlink(c(path), buffer, 4096n));
  return length < 0 ? undefined : new TextDecoder().decode(buffer.subarray(0, length));
}

/** The sorted names in a directory; none if it can't be opened. */
export function names(path: string): string[] {
  const directory = libc.opendir(c(path));
  if (directory === null) return [];
  const found: string[] = [];
  for (let entry = libc.readdir(directory); entry !== null; entry = libc.readdir(directory)) {
    found.push(new Deno.UnsafePointerView(entry).getCString(19)); // d_name of struct dirent, glibc with 64-bit offsets
  }
  libc.closedir(directory);
  return found.filter((name) => name !== "." && name !== "..").sort();
}

/** A row of the mount table. */
export interface Row {
  /** The mountpoint. */
  mountpoint: string;
  /** The directory of the file system that is mounted. */
  root: string;
  /** The options of the mount. */
  options: string[];
  /** The propagation fields. */
  optional: string;
  /** The file system type. */
  fsType: string;
  /** The source. */
  source: string;
  /** The options of the superblock. */
  superOptions: string;
}

/** The mount table of this process. */
export function mountTable(pid: number | "self" = "self"): Row[] {
  return parseTable(readText(`/proc/${pid}/mountinfo`) ?? "");
}

/** Parses the text of a mount table and decodes its octal escapes. */
export function parseTable(table: string): Row[] {
  const plain = (text = "") =>
    decodeURIComponent(
      text.replaceAll("%", "%25").replace(/\\([0-7]{3})/g, (_, octal) => {
        return "%" + parseInt(octal, 8).toString(16).padStart(2, "0");
      }),
    );
  return table.trim().split("\n").map((line) => {
    const [left = "", right = ""] = line.split(" - ");
    const [, , , root, mountpoint, options = "", ...optional] = left.split(" ");
    const [fsType = "", source, ...superOptions] = right.split(" ");
    return {
      mountpoint: plain(mountpoint),
      root: plain(root),
      options: options.split(","),
      optional: optional.join(" "),
      fsType,
      source: plain(source),
      superOptions: superOptions.join(" "),
    };
  });
}

/** The loop devices with a backing file below a directory, as "loopN backing-file". */
export function loopDevices(directory: string): string[] {
  return names("/sys/block").filter((name) => name.startsWith("loop")).flatMap((name) => {
    const file = readText(`/sys/block/${name}/loop/backing_file`);
    return file === undefined || !file.includes(directory) ? [] : [`${name} ${file.trim()}`];
  });
}

/**
 * The loop devices that stay attached to files below a directory. The kernel detaches a device when its last user closes
 * it, and another process may just be looking at all devices: this waits for some seconds.
 */
export async function loopDevicesLeft(directory: string): Promise<string[]> {
  for (let tries = 0; tries < 500 && loopDevices(directory).length > 0; tries++) {
    await new Promise((done) => setTimeout(done, 20));
  }
  return loopDevices(directory);
}

/**
 * The open descriptors of this process, without the runtime's event descriptors, pipes and sockets, and the files that
 * test/hang/sampler.ts reads on its own thread.
 */
export function openFiles(): string[] {
  return names("/proc/self/fd").flatMap((fd) => {
    const target = linkText(`/proc/self/fd/${fd}`);
    return target === undefined ||
        /^(anon_inode:\[event|anon_inode:\[pidfd|pipe:|socket:|\/proc\/\d+\/task\/\d+\/(sched)?stat$)/.test(
          target,
        )
      ? []
      : [`${fd} ${target}`];
  });
}

/** The number of threads of a process that wait in poll(2). */
export function pollingThreads(pid: number): number {
  const POLL = Deno.build.arch === "x86_64" ? "7 " : "73 "; // asm/unistd.h: poll, or ppoll on architectures without poll
  const calls = names(`/proc/${pid}/task`).map((id) => readText(`/proc/${pid}/task/${id}/syscall`) ?? "");
  return calls.filter((call) => call.startsWith(POLL)).length;
}

/** The arguments of each process, with a NUL after each argument. */
export function processCommands(): string[] {
  return names("/proc").filter((name) => /^\d+$/.test(name)).map((pid) =>
    readText(`/proc/${pid}/cmdline`) ?? ""
  );
}

/** A process that another one has started, directly or not. */
export interface Descendant {
  /** Its pid. */
  pid: number;
  /** Its command line. */
  command: string;
}

/** The processes that a process has started, directly or not, and that have not ended. */
export function descendants(pid: number): Descendant[] {
  const children = names(`/proc/${pid}/task`).flatMap((thread) =>
    (readText(`/proc/${pid}/task/${thread}/children`) ?? "").split(" ").filter(Boolean).map(Number)
  );
  return children.flatMap((child) => [
    { pid: child, command: (readText(`/proc/${child}/cmdline`) ?? "").replaceAll("\0", " ").trim() },
    ...descendants(child),
  ]);
}

/** Kills the processes that a process has started, directly or not, except some; those that have ended are nothing. */
export function killDescendants(pid: number, except: readonly number[] = []): void {
  for (const child of descendants(pid)) if (!except.includes(child.pid)) libc.kill(child.pid, 9);
}

/** What each thread of a process waits for in the kernel, and the command lines of the processes that it has started. */
export function waits(pid: number): string[] {
  const threads = names(`/proc/${pid}/task`).map((thread) => {
    const read = (file: string) => (readText(`/proc/${pid}/task/${thread}/${file}`) ?? "").trim();
    return `${read("comm")} in ${read("wchan")}, system call ${read("syscall").split(" ")[0]}`;
  });
  const counted = Map.groupBy(threads, (thread) => thread);
  return [
    ...[...counted].map(([thread, { length }]) => `${length} thread${length > 1 ? "s" : ""} ${thread}`),
    ...descendants(pid).map((child) => `process ${child.pid}: ${child.command}`),
  ];
}
