import { keepChanges, UnsupportedEntryError } from "../../linux/sandbox/changes/mod.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { hasRoot, type KernelContext, kernelTest } from "../harness.ts";
import { deepDirectory } from "./deep.ts";
import { files, join, types, utf8 } from "./files.ts";
import { run } from "./overlay.ts";
import { lines, readTree } from "./trees.ts";

const userxattr = !hasRoot;

/** An upper directory with one of everything. */
function everything(t: KernelContext): string {
  const upper = t.make("upper");
  files.mkdir(`${upper}/d`, 0o555);
  files.mkdir(`${upper}/empty`, 0o1777);
  files.write(`${upper}/d.file`, utf8("content"));
  files.mkdir(join(upper, Uint8Array.from([0xff, 0x0a])));
  files.write(join(upper, Uint8Array.from([0xff, 0x0a]), "n".repeat(255)), utf8("x"), 3_000_000);
  files.link(`${upper}/d.file`, join(upper, Uint8Array.from([0xff, 0x0a]), "linked"));
  files.symlink("/etc/passwd", `${upper}/link`);
  files.mknod(`${upper}/fifo`, types.fifo);
  files.mknod(`${upper}/socket`, types.socket);
  files.mknod(`${upper}/whiteout`, types.char, 0, 0);
  files.chmod(`${upper}/d.file`, 0o4751);
  if (hasRoot) {
    files.mknod(`${upper}/null`, types.char, 1, 3);
    files.chown(`${upper}/d.file`, 1234, 5678);
    files.chmod(`${upper}/d.file`, 0o6751);
    files.chown(`${upper}/link`, 1234, 5678);
    assert(files.setxattr(`${upper}/d.file`, "trusted.a", Uint8Array.from([0, 255])));
  }
  for (const name of files.names(upper)) files.utimens(join(upper, name), 1_000_000_000, 123_456_789);
  files.utimens(upper, -5, 999_999_999);
  return upper;
}

/** What is in a directory, its own time included. */
const contentOf = async (path: string) => lines(await readTree(path));

kernelTest("keepChanges() copies everything into a new directory, and into an empty one", {}, async (t) => {
  const upper = everything(t);
  for (const name of ["new", "empty"]) {
    if (name === "empty") t.make(name);
    await keepChanges(upper, `${t.dir}/${name}`, { userxattr });
    assertEquals(await contentOf(`${t.dir}/${name}`), await contentOf(upper));
  }
  files.chmod(`${upper}/d`, 0o755);
  files.chmod(`${t.dir}/new/d`, 0o755);
  files.chmod(`${t.dir}/empty/d`, 0o755);
});

kernelTest("a copy has holes where the file has", {}, async (t) => {
  files.write(`${t.make("upper")}/sparse`, utf8("end"), 8 << 20);
  files.write(`${t.dir}/upper/sparse`, utf8("middle"), 4 << 20);
  files.truncate(`${t.dir}/upper/sparse`, 12 << 20);
  await keepChanges(`${t.dir}/upper`, `${t.dir}/kept`, { userxattr });
  const { size, blocks } = Deno.statSync(`${t.dir}/kept/sparse`);
  assert(size === 12 << 20 && blocks !== null && blocks <= 128, `${blocks} blocks`);
  assertEquals(await contentOf(`${t.dir}/kept`), await contentOf(`${t.dir}/upper`));
});

kernelTest("overlay's marks are kept, its other attributes are not", { root: true }, async (t) => {
  files.mkdir(`${t.make("upper")}/d`);
  for (const name of ["opaque", "origin", "impure", "nlink", "overlay.origin"]) {
    assert(files.setxattr(`${t.dir}/upper/d`, `trusted.overlay.${name}`, utf8("y")));
  }
  assert(files.setxattr(`${t.dir}/upper/d`, "user.overlay.origin", utf8("a user's own")));
  await keepChanges(`${t.dir}/upper`, `${t.dir}/kept`);
  const kept = (await readTree(`${t.dir}/kept`)).get("/d")?.content.split(" ").map((word) =>
    word.split("=")[0]
  );
  assertEquals(kept, ["trusted.overlay.opaque", "trusted.overlay.overlay.origin", "user.overlay.origin"]);
});

kernelTest("a directory with files is refused, and stays as it is", {}, async (t) => {
  const upper = everything(t);
  files.write(`${t.make("full")}/mine`, utf8("mine"));
  const before = await contentOf(`${t.dir}/full`);
  const error = await assertRejects(
    () => keepChanges(upper, `${t.dir}/full`, { userxattr }),
    Error,
    "not empty",
  );
  assertEquals((error as Error & { path: string }).path, `${t.dir}/full`);
  assertEquals(await contentOf(`${t.dir}/full`), before);
  await assertRejects(
    () => keepChanges(upper, `${t.dir}/upper/link`, { userxattr }),
    Error,
    "Not a directory",
  );
  files.chmod(`${upper}/d`, 0o755);
});

kernelTest("a failure leaves nothing: no space, an abort, a copy into itself", {
  deadline: 10, // a copy into itself would go on for ever
  tools: ["mount", "umount"],
  permissions: { run: true },
}, async (t) => {
  const upper = everything(t);
  files.write(`${upper}/z`, new Uint8Array(300_000).fill(1));
  await run("mount", "-t", "tmpfs", "-o", "size=200k,mode=0750", "test", t.make("small"));
  try {
    for (const name of ["", "/new"]) {
      const error = await assertRejects(
        () => keepChanges(upper, `${t.dir}/small${name}`, { userxattr }),
        Error,
      );
      assertEquals((error as Error & { code: string }).code, "ENOSPC");
      assertEquals([files.names(`${t.dir}/small`), Deno.statSync(`${t.dir}/small`).mode], [[], 0o40750]);
    }
  } finally {
    await run("umount", `${t.dir}/small`);
  }
  for (let count = 0; count < 800; count++) files.write(`${upper}/many${count}`, utf8(""));
  const abort = new AbortController();
  setTimeout(() => abort.abort(new RangeError("mine")), 3);
  await assertRejects(
    () => keepChanges(upper, `${t.dir}/kept`, { userxattr, signal: abort.signal }),
    RangeError,
  );
  assertEquals(files.names(`${t.dir}/kept`), []);
  assert(!files.names(t.dir).some((name) => new TextDecoder().decode(name) === "kept"));

  const before = await contentOf(upper);
  await assertRejects(
    () => keepChanges(upper, `${upper}/inside`, { userxattr }),
    UnsupportedEntryError,
    "inside",
  );
  const time = (line: string) => line.startsWith("/ ") ? "" : line;
  assertEquals((await contentOf(upper)).map(time), before.map(time));
  files.chmod(`${upper}/d`, 0o755);
});

kernelTest(
  "a tree deeper than PATH_MAX is copied with its hard links, and removed again after a failure",
  {
    tools: ["find"],
    permissions: { run: true },
  },
  async (t) => {
    const upper = t.make("upper");
    const name = "n".repeat(255);
    const { path, remove } = deepDirectory(upper, 70, name);
    try {
      await keepChanges(upper, `${t.dir}/kept`, { userxattr });
      const found = await new Deno.Command("find", { args: [`${t.dir}/kept`, "-name", "[az]"] }).output()
        .catch(() => undefined);
      if (found) assertEquals(new TextDecoder().decode(found.stdout).trim().split("\n").length, 72);
      await Deno.remove(`${t.dir}/kept`, { recursive: true });
      if (hasRoot) { // the last of all can't be in the copy
        files.mkdir(`${upper}/z-directory`);
        files.mkdir(`${upper}/z-directory/inside`);
        const failing = keepChanges(upper, `${upper}/z-directory/inside`, { userxattr });
        await assertRejects(() => failing, UnsupportedEntryError);
        assertEquals(files.names(`${upper}/z-directory/inside`), []);
        files.remove(`${upper}/z-directory`);
      }
      assert(path.length > 4096);
    } finally {
      remove();
    }
  },
);

kernelTest("a failed copy of an ordinary user leaves nothing, also not what its modes protect", {
  root: true,
  tools: ["setpriv"],
  permissions: { run: true },
}, async (t) => {
  files.chmod(t.dir, 0o755);
  files.mkdir(`${t.make("upper")}/d`);
  files.mkdir(`${t.dir}/upper/d/d`);
  files.write(`${t.dir}/upper/d/d/file`, utf8("x"));
  for (const name of ["d/d", "d"]) files.chmod(`${t.dir}/upper/${name}`, 0o555);
  files.mknod(`${t.dir}/upper/null`, types.char, 1, 3); // needs CAP_MKNOD
  for (const name of ["", "/d", "/d/d", "/d/d/file"]) files.chown(`${t.dir}/upper${name}`, 65534, 65534);
  files.mkdir(`${t.dir}/to`);
  files.chown(`${t.dir}/to`, 65534, 65534);
  const module = new URL("../../linux/sandbox/changes/keep.ts", import.meta.url).href;
  const program = `
    import { keepChanges } from ${JSON.stringify(module)};
    try {
      await keepChanges(${JSON.stringify(`${t.dir}/upper`)}, ${JSON.stringify(`${t.dir}/to/kept`)});
    } catch (error) {
      console.log(error.code, error.path);
    }`;
  files.write(`${t.dir}/program.ts`, utf8(program));
  const user = ["--reuid=65534", "--regid=65534", "--clear-groups", "env", `DENO_DIR=${t.dir}/to/cache`];
  const deno = [Deno.execPath(), "run", "-A", "--quiet", "--no-config", "--no-check", `${t.dir}/program.ts`];
  assertEquals(await run("setpriv", ...user, ...deno), "EPERM null\n");
  assertEquals(files.names(`${t.dir}/to`).map((name) => new TextDecoder().decode(name)), ["cache"]);
});
