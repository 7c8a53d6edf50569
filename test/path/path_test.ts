import { canonicalizePath, rootPath, SyscallError } from "../../mod.ts";
import { join, joinWithoutSlash, resolveInRoot } from "../../linux/path/path.ts";
import { assertEquals, assertRejects, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";

kernelTest("rootPath() stays inside the root, and keeps names that do not exist", {}, async (t) => {
  t.make("root/a");
  Deno.symlinkSync("/a", `${t.dir}/root/link`);
  Deno.symlinkSync("../../../..", `${t.dir}/root/up`);
  Deno.symlinkSync("circle", `${t.dir}/root/circle`);
  const root = `${t.dir}/root`;
  assertEquals(await rootPath(root, "link/new/x"), `${root}/a/new/x`);
  assertEquals(await rootPath(root, "up/etc/passwd"), `${root}/etc/passwd`);
  assertEquals(await rootPath(root, "../.."), root);
  const error = await rootPath(root, "circle").catch((error) => error);
  assertEquals(error.code, "ELOOP");
});

kernelTest("resolveInRoot() resolves links as for a process with this root directory", {}, async (t) => {
  t.make("root/a/b", "root/c");
  const root = `${t.dir}/root`;
  Deno.writeTextFileSync(`${root}/file`, "");
  const links = {
    absolute: "/a/b",
    relative: "a/./b",
    above: "../a",
    "a/b/up": "../../c",
    "a/b/top": "/c",
    dots: "a//b/../..",
    chain: "absolute/up",
  };
  for (const [name, text] of Object.entries(links)) Deno.symlinkSync(text, `${root}/${name}`);
  const expected = {
    "": "",
    "/": "",
    "absolute": "/a/b",
    "absolute/up": "/c",
    "relative/../x": "/a/x",
    "above": "/a",
    "a/b/top/new": "/c/new",
    "chain": "/c",
    "chain/../../../a": "/a",
    "dots/c": "/c",
    "a/../../c/.": "/c",
    "none/../a": "/a",
    "none/new": "/none/new",
    "file/below": "/file/below",
  };
  for (const [path, resolved] of Object.entries(expected)) {
    assertEquals(resolveInRoot(root, path), root + resolved, path);
    assertEquals(await rootPath(root, path), root + resolved, path);
  }
  Deno.symlinkSync("root", `${t.dir}/link`);
  assertEquals(await rootPath(`${t.dir}/link`, "above"), `${root}/a`);
  await assertRejects(() => rootPath(`${t.dir}/none`, "a"), SyscallError, "ENOENT");
});

kernelTest("40 symbolic links are followed, and 41 are ELOOP", {}, async (t) => {
  t.make("root/0");
  for (let number = 1; number <= 41; number++) Deno.symlinkSync(`${number - 1}`, `${t.dir}/root/${number}`);
  const root = `${t.dir}/root`;
  assertEquals(resolveInRoot(root, "40"), `${root}/0`);
  assertEquals(await canonicalizePath(`${root}/40`), `${root}/0`); // as the kernel
  const error = assertThrows(() => resolveInRoot(root, "41"), SyscallError, "ELOOP");
  assertEquals(error.path, `${root}/41`);
  await assertRejects(() => canonicalizePath(`${root}/41`), SyscallError, "ELOOP");
});

kernelTest("canonicalizePath() names itself and the path in an error", {}, async (t) => {
  const error = await assertRejects(() => canonicalizePath(`${t.dir}/none/below`), SyscallError);
  assertEquals([error.syscall, error.code, error.path], ["realpath", "ENOENT", `${t.dir}/none/below`]);
});

Deno.test("a joined path is normalized, and has no slash at its end", () => {
  const expected = {
    "/a/b": "/a/b",
    "/": "/",
    "/a//b": "/a/b",
    "/a/./b": "/a/b",
    "/a/b/": "/a/b",
    "/a/.": "/a",
    "//": "/",
  };
  for (const [path, joined] of Object.entries(expected)) {
    assertEquals(joinWithoutSlash(path), joined, path);
    if (path.startsWith("/a")) assertEquals(joinWithoutSlash("/a", path.slice(2)), joined, path);
  }
  assertEquals(joinWithoutSlash("/a", "/.b/c..d"), "/a/.b/c..d");
  assertEquals(join("/a", "../b", "./c"), "/b/c");
  join("x".repeat(4095));
  assertThrows(() => join("/a", "x".repeat(4096)), TypeError, "a path of 4096 characters");
});
