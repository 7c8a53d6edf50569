import {
  type Change,
  exportLayer,
  keepChanges,
  readChanges,
  readContents,
  UnsupportedEntryError,
} from "../../linux/sandbox/changes/mod.ts";
import { O_DIRECTORY, O_PATH } from "../../linux/syscalls/constants.ts";
import { open } from "../../linux/syscalls/mod.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { stoppedServer } from "../hang/stopped_server.ts";
import { hasRoot, type KernelContext, kernelTest } from "../harness.ts";
import { deepDirectory } from "./deep.ts";
import { files, join, types, utf8 } from "./files.ts";
import { mountOverlay, run } from "./overlay.ts";

const userxattr = !hasRoot;
const PREFIX = userxattr ? "user.overlay." : "trusted.overlay.";
const needs = {
  features: ["overlay"] as const,
  tools: ["mount", "umount"],
  permissions: { run: true as const },
};

/** A tmpfs, whose files have all attributes in a user namespace too. */
async function withTmpfs(t: KernelContext, use: (directory: string) => Promise<void>): Promise<void> {
  const directory = t.make("fs");
  await run("mount", "-t", "tmpfs", "test", directory);
  try {
    await use(directory);
  } finally {
    await run("umount", directory);
  }
}

async function list(upper: string, lower?: string | string[]): Promise<string[]> {
  const all = await Array.fromAsync(readChanges(upper, { lower, userxattr }));
  return all.map(({ kind, path, type }) => `${kind} ${type} ${path}`);
}

kernelTest(
  "readChanges() says added, modified, replaced and removed as git status would",
  needs,
  async (t) => {
    await withTmpfs(t, async (base) => {
      await using overlay = await mountOverlay(base, (lower) => {
        for (const name of ["kept", "removed", "gone/below", "opaque/old"]) files.mkdir(`${lower}/${name}`);
        for (const name of ["gone", "opaque", "gone/below", "opaque/old", "kept", "removed"]) {
          files.mkdir(`${lower}/${name}`);
        }
        for (const name of ["kept/file", "kept/other", "file", "to-link", "to-directory", "gone/below/x"]) {
          files.write(`${lower}/${name}`, utf8("old"));
        }
      }, { userxattr });
      const { merged, upper, lower } = overlay;
      assertEquals(await list(upper, lower), []);
      files.write(`${merged}/kept/file`, utf8("new"));
      files.write(`${merged}/kept/added`, utf8("new"));
      files.mkdir(`${merged}/new`);
      files.write(`${merged}/new/below`, utf8("new"));
      files.remove(`${merged}/removed`);
      files.remove(`${merged}/gone`);
      files.unlink(`${merged}/to-link`);
      files.symlink("file", `${merged}/to-link`);
      files.unlink(`${merged}/to-directory`);
      files.mkdir(`${merged}/to-directory`);
      files.remove(`${merged}/opaque`);
      files.mkdir(`${merged}/opaque`);
      files.write(`${merged}/opaque/old`, utf8("a file"));
      assertEquals(await list(upper, lower), [
        "removed directory gone",
        "added file kept/added",
        "modified file kept/file",
        "added directory new",
        "added file new/below",
        "replaced directory opaque",
        "added file opaque/old",
        "removed directory removed",
        "replaced directory to-directory",
        "replaced symlink to-link",
      ]);
    });
  },
);

kernelTest(
  "readChanges() lists a directory only if its own mode, owner or attributes differ",
  needs,
  async (t) => {
    await withTmpfs(t, async (base) => {
      await using overlay = await mountOverlay(base, (lower) => {
        for (const name of ["mode", "attribute", "time", "other", "owner"]) {
          files.mkdir(`${lower}/${name}`);
          files.setxattr(`${lower}/${name}`, "user.a", utf8("1"));
        }
      }, { userxattr });
      const { merged, upper, lower } = overlay;
      for (const name of ["mode", "attribute", "time", "other", "owner"]) {
        files.write(`${merged}/${name}/x`, utf8("x"));
      }
      files.chmod(`${merged}/mode`, 0o711);
      files.setxattr(`${merged}/attribute`, "user.a", utf8("2"));
      files.utimens(`${merged}/time`, 1, 2);
      if (hasRoot) files.chown(`${merged}/owner`, 1, 0);
      const changed = async () => (await list(upper, lower)).filter((line) => !line.endsWith("/x"));
      assertEquals(await changed(), [
        "modified directory attribute",
        "modified directory mode",
        ...hasRoot ? ["modified directory owner"] : [],
      ]);
      files.chmod(merged, 0o700);
      assertEquals((await changed())[0], "modified directory .");
    });
  },
);

kernelTest(
  "readChanges() without a lower directory: all is added, and whiteouts are removed",
  needs,
  async (t) => {
    await withTmpfs(t, async (base) => {
      await using overlay = await mountOverlay(
        base,
        (lower) => void files.write(`${lower}/file`, utf8("x")),
        {
          userxattr,
        },
      );
      files.write(`${overlay.merged}/a`, utf8("x"));
      files.unlink(`${overlay.merged}/file`);
      assertEquals(await list(overlay.upper), ["added file a", "removed undefined file"]);
      assertEquals(await list(overlay.upper, `${base}/work`), ["added file a"], "a whiteout of nothing");
    });
  },
);

kernelTest(
  "an empty file with overlay's own whiteout attribute is a whiteout, with another it is a file",
  needs,
  async (t) => {
    await withTmpfs(t, async (base) => {
      for (const name of ["upper", "lower"]) files.mkdir(`${base}/${name}`);
      for (const name of ["own", "foreign", "full", "hidden"]) {
        files.write(`${base}/lower/${name}`, utf8("x"));
      }
      for (const name of ["own", "foreign"]) files.write(`${base}/upper/${name}`, utf8(""));
      files.write(`${base}/upper/full`, utf8("text"));
      for (const name of ["own", "full"]) {
        assert(files.setxattr(`${base}/upper/${name}`, `${PREFIX}whiteout`, utf8("y")));
      }
      assert(files.setxattr(`${base}/upper/foreign`, "user.whiteout", utf8("y")));
      if (hasRoot) assert(files.setxattr(`${base}/upper/foreign`, "user.overlay.whiteout", utf8("y")));
      assertEquals(await list(`${base}/upper`, `${base}/lower`), [
        "modified file foreign",
        "modified file full",
        "removed file own",
      ]);
    });
  },
);

kernelTest(
  "readChanges() asks all lower layers: the topmost that has or hides a name decides",
  needs,
  async (t) => {
    await withTmpfs(t, async (base) => {
      for (const name of ["upper", "one", "two"]) files.mkdir(`${base}/${name}`);
      for (const name of ["upper/d", "one/d", "two/d", "two/e", "one/e", "upper/e"]) {
        files.mkdir(`${base}/${name}`);
      }
      files.setxattr(`${base}/one/e`, `${PREFIX}opaque`, utf8("y"));
      files.setxattr(`${base}/upper/d`, `${PREFIX}opaque`, utf8("x")); // not opaque: has attribute whiteouts
      for (const name of ["d/hidden", "d/below", "e/below"]) files.write(`${base}/two/${name}`, utf8("x"));
      files.mknod(`${base}/one/d/hidden`, types.char, 0, 0);
      for (const name of ["d/hidden", "d/below", "e/below"]) files.write(`${base}/upper/${name}`, utf8("y"));
      assertEquals(await list(`${base}/upper`, [`${base}/one`, `${base}/two`]), [
        "modified file d/below",
        "added file d/hidden",
        "added file e/below",
      ]);
      assertEquals(
        (await list(`${base}/upper`, [`${base}/two`, `${base}/one`]))[1],
        "modified file d/hidden",
      );
    });
  },
);

kernelTest(
  "a change has the path's bytes, and type, mode, owner, size, time, target and device",
  needs,
  async (t) => {
    await withTmpfs(t, async (base) => {
      files.mkdir(`${base}/upper`);
      const name = Uint8Array.from([0x61, 0xff, 0x0a]);
      files.write(join(base, "upper", name), utf8("12345"));
      files.chmod(join(base, "upper", name), 0o4751);
      files.utimens(join(base, "upper", name), 1_000_000_000, 123_456_789);
      files.symlink("../target", `${base}/upper/link`);
      files.mknod(`${base}/upper/fifo`, types.fifo);
      files.mknod(`${base}/upper/socket`, types.socket);
      if (hasRoot) files.mknod(`${base}/upper/null`, types.char, 1, 3);
      const all = await Array.fromAsync(readChanges(`${base}/upper`, { userxattr }));
      const of = (type: string) => all.find((change): change is Change => change.type === type);
      assertEquals({ ...of("file"), uid: 0, gid: 0 }, {
        kind: "added",
        path: "a\udcff\n",
        raw: name,
        type: "file",
        mode: 0o4751,
        uid: 0,
        gid: 0,
        size: 5,
        mtime: new Date(1_000_000_000_123),
      });
      const [link, fifo, socket, device] = ["symlink", "fifo", "socket", "char"].map(of);
      assert(link?.kind === "added" && link.target === "../target" && link.size === 9);
      assert(fifo?.kind === "added" && fifo.size === 0 && socket?.kind === "added");
      assert(!hasRoot || device?.kind === "added" && device.device?.join() === "1,3");
    });
  },
);

kernelTest(
  "names longer than a path may be, and deeper than open directories: all is listed",
  {},
  async (t) => {
    const upper = t.make("upper");
    const { path, remove } = deepDirectory(upper, 150, "n".repeat(255));
    try {
      const all = await Array.fromAsync(readChanges(upper, { lower: t.make("lower"), userxattr }));
      assertEquals(all.length, 150 + 1 + 150 + 2); // directories, and the files "a", "z", "a" and "b"
      assertEquals(all.findLast(({ type }) => type === "directory")?.path, path);
      assertEquals(all.at(-1)?.path, "z");
    } finally {
      remove();
    }
  },
);

kernelTest("readChanges() takes a descriptor, and leaves it open", {}, async (t) => {
  files.write(`${t.make("upper")}/file`, utf8("x"));
  using upper = open(`${t.dir}/upper`, O_PATH | O_DIRECTORY);
  for (const _ of [1, 2]) {
    const [change] = await Array.fromAsync(readChanges(upper, { userxattr }));
    assertEquals(change?.path, "file");
  }
});

kernelTest("what is wrong is said before the first change, and leaves nothing open", {}, async (t) => {
  files.write(`${t.make("upper")}/file`, utf8("x"));
  const read = (upper: string, options: object) => Array.fromAsync(readChanges(upper, options));
  await assertRejects(() => read(`${t.dir}/none`, {}), Error, "No such file or directory");
  await assertRejects(() => read(`${t.dir}/upper/file`, {}), Error, "Not a directory");
  await assertRejects(
    () => read(`${t.dir}/upper`, { lower: `${t.dir}/none` }),
    Error,
    "No such file or directory",
  );
  await assertRejects(() => read(`${t.dir}/upper`, { timeout: -1 }), TypeError, "milliseconds");
  const aborted = AbortSignal.abort(new RangeError("mine"));
  await assertRejects(() => read(`${t.dir}/upper`, { signal: aborted }), RangeError, "mine");
  for await (const _ of readChanges(`${t.dir}/upper`, { userxattr })) break; // closes what is open
});

kernelTest("a lower layer, an upper or a kept directory on a dead server: an error after the timeout", {
  root: true,
  tools: ["mount.fuse3", "bindfs", "timeout", "sh"],
  permissions: { run: true },
}, async (t) => {
  await using server = await stoppedServer(t);
  t.make("upper/cached");
  const [upper, dead] = [`${t.dir}/upper`, `${t.dir}/server`];
  files.write(`${upper}/file`, utf8("x"));
  const [change] = await Array.fromAsync(readChanges(upper));
  assert(change?.path === "cached");
  const modified: Change = { ...change, kind: "modified", path: "file" } as Change;
  const options = { lower: dead, timeout: 200 };
  const calls: (() => Promise<unknown>)[] = [
    () => Array.fromAsync(readChanges(upper, options)),
    () => Array.fromAsync(readChanges(server.uncached, options)),
    () => readContents(upper, modified, options),
    () => keepChanges(upper, server.uncached, options),
    () => keepChanges(upper, `${server.cached}/new`, options),
    () => exportLayer(server.cached, new WritableStream(), options),
  ];
  for (const call of calls) {
    const before = performance.now();
    const error = await assertRejects(call, Error);
    assertEquals((error as Error & { code: string }).code, "ETIMEDOUT", String(call));
    assert(performance.now() - before < 2000, String(call));
  }
});

for (const name of ["file", "directory"]) {
  kernelTest(
    `a server of a lower layer that stops before it is asked for a ${name}: an error after the timeout`,
    {
      root: true,
      tools: ["mount.fuse3", "bindfs", "timeout", "sh"],
      permissions: { run: true },
    },
    async (t) => {
      for (const directory of ["upper", "source"]) files.mkdir(t.make(`${directory}/directory`));
      files.write(`${t.dir}/upper/a`, utf8("x"));
      if (name === "file") files.write(`${t.dir}/upper/b`, utf8("x"));
      const served = t.make("served");
      const server = new Deno.Command("bindfs", {
        args: ["-f", "-o", "entry_timeout=3600,attr_timeout=3600", `${t.dir}/source`, served],
      }).spawn();
      const script = `timeout 20 cat; kill -KILL ${server.pid}`; // if the thread is blocked
      const watchdog = new Deno.Command("sh", { args: ["-c", script], stdin: "piped", stdout: "null" })
        .spawn();
      try {
        while (t.mounts().length === 0) await new Promise((done) => setTimeout(done, 5));
        Deno.statSync(`${served}/directory`);
        const changes = readChanges(`${t.dir}/upper`, { lower: served, timeout: 200 });
        assertEquals((await changes.next()).value?.path, "a");
        server.kill("SIGSTOP");
        const before = performance.now();
        const error = await assertRejects(() => changes.next(), Error);
        assertEquals((error as Error & { code: string }).code, "ETIMEDOUT");
        assert(performance.now() - before < 2000);
      } finally {
        await watchdog.stdin.close();
        await watchdog.status;
        await server.status;
        await run("umount", "-l", served);
      }
    },
  );
}

kernelTest("a file that is replaced by renames all the time is listed each time", needs, async (t) => {
  const upper = t.make("upper");
  for (let count = 0; count < 50; count++) files.write(`${upper}/x${count}`, utf8("x"));
  files.write(`${upper}/zz`, utf8("x"));
  const script = `cd ${upper}; i=0; while [ -e ${t.dir}/run ]; do i=$((i+1)); : > $i; mv $i zz; done`;
  files.write(`${t.dir}/run`, utf8(""));
  const child = new Deno.Command("sh", { args: ["-c", script], stdout: "null", stderr: "null" }).spawn();
  try {
    for (let count = 0; count < 30; count++) {
      const paths = (await Array.fromAsync(readChanges(upper, { userxattr }))).map(({ path }) => path);
      assertEquals(paths.filter((path) => path === "zz").length, 1);
    }
  } finally {
    files.unlink(`${t.dir}/run`);
    await child.status; // a killed shell would leave a program that it has started
  }
});

kernelTest(
  "a file that is renamed after its directory was read is listed under its new name",
  needs,
  async (t) => {
    const upper = t.make("upper");
    for (const name of ["a", "z"]) files.write(`${upper}/${name}`, utf8("x"));
    const paths: string[] = [];
    for await (const { path } of readChanges(upper, { userxattr })) {
      if (path === "a") files.rename(`${upper}/z`, `${upper}/b`);
      paths.push(path);
    }
    assertEquals(paths, ["a", "b"]);
  },
);

kernelTest("an abort ends the walk before the next change", {}, async (t) => {
  const upper = t.make("upper");
  for (const name of ["a", "b"]) files.write(`${upper}/${name}`, utf8("x"));
  const abort = new AbortController();
  const changes = readChanges(upper, { userxattr, signal: abort.signal });
  await changes.next();
  abort.abort(new RangeError("mine"));
  await assertRejects(() => changes.next(), RangeError, "mine");
});

kernelTest("an overlay with redirect_dir=on is refused by the name of the directory", {
  ...needs,
  root: true,
}, async (t) => {
  await withTmpfs(t, async (base) => {
    for (const name of ["lower", "lower/d", "upper", "work", "merged"]) files.mkdir(`${base}/${name}`);
    const options = `lowerdir=${base}/lower,upperdir=${base}/upper,workdir=${base}/work,redirect_dir=on`;
    await run("mount", "-t", "overlay", "-o", options, "test", `${base}/merged`);
    try {
      assert(files.rename(`${base}/merged/d`, `${base}/merged/e`));
      const error = await assertRejects(() => list(`${base}/upper`, `${base}/lower`), UnsupportedEntryError);
      assertEquals((error as UnsupportedEntryError).path, "e");
    } finally {
      await run("umount", `${base}/merged`);
    }
  });
});

kernelTest("readContents() returns both contents, cut at the limit", needs, async (t) => {
  await withTmpfs(t, async (base) => {
    await using overlay = await mountOverlay(base, (lower) => {
      files.mkdir(`${lower}/d`);
      for (const name of ["d/modified", "removed", "to-link"]) files.write(`${lower}/${name}`, utf8("old"));
    }, { userxattr });
    const { merged, upper, lower } = overlay;
    files.write(`${merged}/d/modified`, utf8("newer"));
    files.write(`${merged}/added`, utf8("new"));
    files.unlink(`${merged}/removed`);
    files.unlink(`${merged}/to-link`);
    files.symlink("/etc/passwd", `${merged}/to-link`);
    const seen: string[] = [];
    const text = (bytes?: Uint8Array) => bytes && new TextDecoder().decode(bytes);
    for await (const change of readChanges(upper, { lower, userxattr })) {
      const { before, after, isWhole } = await readContents(upper, change, { lower, userxattr, limit: 4 });
      seen.push([change.path, text(before), text(after), isWhole].join(" "));
    }
    assertEquals(seen, [
      "added  new true",
      "d/modified old newe false",
      "removed old  true",
      "to-link old  true",
    ]);
    const [change] = await Array.fromAsync(readChanges(upper, { lower, userxattr }));
    assert(change);
    await assertRejects(() => readContents(upper, change, { limit: -1 }), RangeError, "bytes");
  });
});
