import { assertEquals, assertNotEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { describeTree, digestTree } from "./digest_tree.ts";

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  mknod: { parameters: ["buffer", "u32", "u64"], result: "i32" },
  utimensat: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  lsetxattr: { parameters: ["buffer", "buffer", "buffer", "usize", "i32"], result: "i32" },
});

const c = (text: string, last: number[] = []) =>
  Uint8Array.from([...new TextEncoder().encode(text), ...last, 0]);

function mknod(path: string, mode: number, device = 0n, last: number[] = []): void {
  assertEquals(libc.mknod(c(path, last), mode, device), 0);
}

function setAttribute(path: string, name: string, value: string): void {
  assertEquals(libc.lsetxattr(c(path), c(name), c(value), BigInt(value.length), 0), 0);
}

const S_IFCHR = 0o020000; // linux/stat.h
const S_IFBLK = 0o060000; // linux/stat.h
const S_IFREG = 0o100000; // linux/stat.h

/** A tree with everything in it; its directory's time is set last. */
function makeTree(root: string): void {
  Deno.mkdirSync(`${root}/directory`, { recursive: true });
  Deno.writeTextFileSync(`${root}/directory/file`, "content");
  Deno.symlinkSync("file", `${root}/directory/link`);
  mknod(`${root}/device`, S_IFCHR | 0o600, 0x103n);
  mknod(`${root}/a`, S_IFREG | 0o600, 0n, [0xe9]);
  Deno.linkSync(`${root}/directory/file`, `${root}/directory/same`);
  setAttribute(`${root}/directory/file`, "user.one", "1");
}

/** Sets all times, so that only the change counts. */
function settle(root: string): void {
  for (const { name, isDirectory } of Deno.readDirSync(root)) {
    if (name.includes("\ufffd")) continue; // Deno can't name it
    if (isDirectory) settle(`${root}/${name}`);
    else setTime(`${root}/${name}`);
  }
  setTime(root);
}

const AT_FDCWD = -100; // linux/fcntl.h
const AT_SYMLINK_NOFOLLOW = 0x100; // linux/fcntl.h

function setTime(path: string): void {
  const times = new BigInt64Array([1000n, 0n, 1000n, 0n]); // two struct timespec
  assertEquals(libc.utimensat(AT_FDCWD, c(path), times, AT_SYMLINK_NOFOLLOW), 0);
}

kernelTest(
  "the digest of a tree is the same for the same tree, and another after each change",
  { root: true },
  async (t) => {
    const root = t.make("tree");
    makeTree(root);
    settle(root);
    const before = await digestTree(root);
    assertEquals(await digestTree(root), before);
    assertEquals(
      (await describeTree(root)).map((line) => line.split(" ")[4] ?? "").filter((name) => /a/.test(name)),
      [
        "/a\\xe9",
        "/directory/same",
      ],
    );
    const file = `${root}/directory/file`;
    const changes: Record<string, () => void> = {
      owner: () => Deno.chownSync(file, 7, null),
      group: () => Deno.chownSync(file, null, 7),
      content: () => {
        Deno.writeTextFileSync(file, "another");
        settle(root);
      },
      mode: () => Deno.chmodSync(file, 0o4644), // after what the kernel clears its first bit for
      "value of an attribute": () => setAttribute(file, "user.one", "2"),
      "another attribute": () => setAttribute(file, "user.two", ""),
      "an attribute of the root": () => setAttribute(root, "trusted.note", "x"),
      target: () => {
        Deno.removeSync(`${root}/directory/link`);
        Deno.symlinkSync("same", `${root}/directory/link`);
        settle(root);
      },
      "number of a device": () => {
        Deno.removeSync(`${root}/device`);
        mknod(`${root}/device`, S_IFCHR | 0o600, 0x105n);
        settle(root);
      },
      type: () => {
        Deno.removeSync(`${root}/device`);
        mknod(`${root}/device`, S_IFBLK | 0o600, 0x105n);
        settle(root);
      },
      "a copy instead of a link": () => {
        Deno.removeSync(`${root}/directory/same`);
        Deno.writeTextFileSync(`${root}/directory/same`, "another");
        for (const [name, value] of [["user.one", "2"], ["user.two", ""]] as const) {
          setAttribute(`${root}/directory/same`, name, value);
        }
        Deno.chownSync(`${root}/directory/same`, 7, 7);
        Deno.chmodSync(`${root}/directory/same`, 0o4644);
        settle(root);
      },
      "a name's last byte": () => {
        mknod(`${root}/a`, S_IFREG | 0o600, 0n, [0xea]);
        settle(root);
      },
      time: () => Deno.utimeSync(file, 1000, 1001),
      "time of a directory": () => Deno.utimeSync(`${root}/directory`, 1000, 1001),
      "time of the root": () => Deno.utimeSync(root, 1000, 1001),
    };
    let last = await digestTree(root);
    for (const [what, change] of Object.entries(changes)) {
      change();
      const digest = await digestTree(root);
      assertNotEquals(digest, last, `${what} makes no difference`);
      last = digest;
    }
  },
);
