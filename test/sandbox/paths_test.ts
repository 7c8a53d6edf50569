import { assert, assertEquals, assertMatch } from "../assert.ts";
import { sandboxTest } from "./users.ts";

sandboxTest("the most specific path counts, in whatever order and option it stands", {}, async (t) => {
  t.make("a/b/c/d");
  await owned(t);
  const codes = await t.run(`
    const inside = "cd " + dir + "/a && for d in . b b/c b/c/d; do touch $d/x 2>/dev/null && echo $d; rm -f $d/x; done; true";
    for (const options of [
      { writable: [dir + "/a", dir + "/a/b/c"], readonly: [dir + "/a/b", dir + "/a/b/c/d"] },
      { readonly: [dir + "/a/b/c/d", dir + "/a/b"], writable: [dir + "/a/b/c", dir + "/a"] },
      { writable: [dir + "/a/b/c/d"] , readonly: [dir] },
      { tmpfs: [dir + "/a"], writable: [dir + "/a/b/c"] },
      { hidden: [dir + "/a"] },
      { hidden: [dir + "/a"], writable: [dir + "/a/b/c"], readonly: [dir + "/a/b/c/d"] },
      { writable: [dir], hidden: [dir + "/a/b"], readonly: [dir + "/a/b/c/d"] },
    ]) {
      await using box = await sandbox(options);
      say((await sh(box, inside)).out.trim().split("\\n"));
    }
  `);
  assertEquals(codes, [[".", "b/c"], [".", "b/c"], ["b/c/d"], [".", "b", "b/c", "b/c/d"], [""], ["b/c"], [
    ".",
  ]]);
  assertEquals(names(`${t.dir}/a`), ["b"]);
});

sandboxTest(
  "a protected path in a writable one can't be reached by renaming what is above",
  {},
  async (t) => {
    t.make("w/one/two/three", "w/free");
    Deno.writeTextFileSync(`${t.dir}/w/one/two/three/file`, "kept");
    await owned(t);
    const [{ err }, tree] = await t.run(`
    await using box = await sandbox({ writable: [dir + "/w"], readonly: [dir + "/w/one/two/three"] });
    say(await sh(box, "cd " + dir + "/w; mv one/two one/2; mv one 1; rmdir one/two/three; mv free f"));
    say((await sh(box, "cd " + dir + "/w; touch one/x one/two/x && find . -type f | sort")).out);
  `);
    assertEquals(err.match(/Device or resource busy/g)?.length, 3, err);
    assertEquals(tree, "./one/two/three/file\n./one/two/x\n./one/x\n");
    assertEquals(names(`${t.dir}/w`), ["f", "one"]); // what is not protected can be renamed
  },
);

sandboxTest(
  "what does not exist yet can't be made where it is protected, and nothing of it is left",
  {},
  async (t) => {
    t.make("w/.git");
    await owned(t);
    const [{ err }, inside, also] = await t.run(`
    const box = await sandbox({
      writable: [dir + "/w"], readonly: [dir + "/w/.git/hooks", dir + "/w/new/deep/er"], hidden: [dir + "/w/secret"],
    });
    say(await sh(box, "cd " + dir + "/w; touch .git/hooks/x; mkdir -p new/deep/er; rmdir secret; mv .git git; touch .git/ok"));
    say([...Deno.readDirSync(dir + "/w")].map(({ name }) => name).sort());
    {
      // Another box finds the directory there and relies on it.
      await using other = await sandbox({ writable: [dir + "/w"], hidden: [dir + "/w/.git/hooks"] });
      await box.close();
      say((await sh(other, "cd " + dir + "/w; touch .git/hooks/x; rmdir .git/hooks; ls -A .git")).out);
    }
  `);
    assertMatch(
      err,
      /hooks\/x.*Read-only file system[^]*new\/deep.*Read-only[^]*secret.*busy[^]*\.git.*busy/,
    );
    assertEquals(inside, [".git", "new", "secret"]);
    assertEquals(also, "hooks\nok\n");
    assertEquals(names(`${t.dir}/w`), [".git"]);
  },
);

sandboxTest("missing paths are named all at once, or left out where the caller says so", {}, async (t) => {
  t.make("w");
  await owned(t);
  const [error, skipped, conflict] = await t.run(`
    const options = { writable: [dir + "/w", "/no/1"], readonly: ["/no/2"], hidden: ["/no/3"], overlay: ["/no/4"] };
    try { await sandbox(options); } catch (error) { say([error.name, error.code, error.message]); }
    await using box = await sandbox({ ...options, hidden: ["/no/3", dir + "/w/x"], missing: "skip" });
    say((await sh(box, "touch " + dir + "/w/ok; touch " + dir + "/w/x/y")).err);
    try { await sandbox({ writable: [dir], readonly: [dir + "/."] }); } catch (error) { say([error.name, error.message]); }
  `);
  assertEquals(error, [
    "SandboxError",
    "ENOENT",
    '/no/1, /no/4, /no/2, /no/3 do not exist; missing: "skip" leaves out what is missing',
  ]);
  assertMatch(skipped, /w\/x\/y.*Read-only/);
  assertEquals(conflict, ["TypeError", `${t.dir} is in writable and in readonly`]);
  assertEquals(names(`${t.dir}/w`), ["ok"]);
});

sandboxTest(
  "symbolic links in paths are followed, and one that appears while the box starts leads nowhere",
  {},
  async (t) => {
    t.make("real/sub", "elsewhere/sub");
    Deno.symlinkSync("real", `${t.dir}/link`);
    await owned(t);
    const [out, outcomes] = await t.run(`
    {
      await using box = await sandbox({ writable: [dir + "/link/sub"] });
      say((await sh(box, "touch " + dir + "/real/sub/made && echo ok; touch " + dir + "/real/made")).out);
    }
    // The canonical path is swapped with a symbolic link, again and again.
    const swap = new Deno.Command("sh", { args: ["-c",
      "cd " + dir + "; while :; do mv real r2; ln -s elsewhere real; rm real; mv r2 real; done"], stderr: "null" }).spawn();
    const outcomes = new Set();
    for (let tries = 0; tries < 12; tries++) {
      try {
        await using box = await sandbox({ writable: [dir + "/real/sub"], readonly: [dir + "/elsewhere"] });
        await sh(box, "touch " + dir + "/real/sub/escaped");
        outcomes.add("started");
      } catch (error) {
        outcomes.add(error.code ?? error.message);
      }
    }
    swap.kill("SIGKILL");
    await swap.status;
    say([...outcomes].sort());
  `);
    assertEquals(out, "ok\n");
    for (const outcome of outcomes) {
      assert(
        ["started", "ENOENT", "ELOOP", "ENOTDIR"].includes(outcome),
        outcome,
      );
    }
    assertEquals(names(`${t.dir}/elsewhere/sub`), []);
  },
);

sandboxTest(
  "a canonical path with a symbolic link in it is refused, at its source and in the box",
  {},
  async (t) => {
    t.make("real");
    Deno.symlinkSync("real", `${t.dir}/link`);
    const answers = await t.run(`
    const root = { kind: "bind", source: "/", target: "/", readonly: true };
    const bind = { kind: "bind", exact: true };
    for (const step of [
      { ...bind, source: dir + "/link", target: "/mnt" },
      { ...bind, source: dir + "/real", target: dir + "/link" },
      { kind: "hide", exact: true, target: dir + "/link" },
      { kind: "hide", target: dir + "/link" },
    ]) {
      try {
        await using box = await startBox([root, step], { network: false, env: {} });
        say(typeof box.pid);
      } catch (error) { say([error.name, error.code]); }
    }
  `);
    assertEquals(answers, [...Array.from({ length: 3 }, () => ["SandboxError", "ELOOP"]), "number"]);
  },
);

sandboxTest("5,000 paths fit in a box", {}, async (t) => {
  t.make("w");
  for (let index = 0; index < 2500; index++) {
    Deno.mkdirSync(`${t.dir}/w/${index}`);
    Deno.writeTextFileSync(`${t.dir}/w/${index}.txt`, "host");
  }
  await owned(t);
  const [milliseconds, refused] = await t.run(`
    const all = Array.from({ length: 2500 }, (_, index) => index);
    const start = performance.now();
    await using box = await sandbox({
      writable: [dir + "/w"], readonly: all.map((i) => dir + "/w/" + i), hidden: all.map((i) => dir + "/w/" + i + ".txt"),
    });
    say(performance.now() - start);
    const script = "cd " + dir + "/w; for i in 0 1 1249 2499; do touch $i/x; cat $i.txt; done; ls | wc -l";
    say(await sh(box, script));
  `);
  console.log(`    5,000 paths: ${Math.round(milliseconds)} ms`);
  assertEquals(refused.err.match(/Read-only file system/g)?.length, 4);
  assertEquals(refused.out.trim(), "5000");
});

sandboxTest(
  "an overlay holds writes back, and what is mounted below it is read-only",
  { root: true },
  async (t) => {
    const isRoot = t.user === "root";
    const mountpoint = `${isRoot ? "data" : "other"}/mounted`;
    t.make("data/sub", mountpoint, "state");
    await using _mounted = await tmpfsAt(t, mountpoint);
    Deno.writeTextFileSync(`${t.dir}/data/file`, "lower");
    await owned(t);
    const [inside, upper, again, refused] = await t.run(`
    const names = (path) => [...Deno.readDirSync(path)].map(({ name }) => name).sort();
    {
      await using box = await sandbox({ overlay: [dir + "/data"], readonly: [dir + "/data/sub"] });
      say(await sh(box, "cd " + dir + "/data; echo changed > file; echo x > new; touch sub/x; mv sub s; touch mounted/x; cat file; cat mounted/*; stat -c %u:%g:%a ."));
      const [{ path, upper, usesUserXattr }] = box.overlays;
      say([path, names("/proc/self/fd/" + upper.fd + "/"), usesUserXattr]);
    }
    for (const word of ["one", "two"]) {
      await using box = await sandbox({ overlay: [{ path: dir + "/data", state: dir + "/state" }] });
      await sh(box, "echo " + word + " >> " + dir + "/data/log");
    }
    say([names(dir + "/state/upper"), Deno.readTextFileSync(dir + "/state/upper/log")]);
    try { await using box = await sandbox({ overlay: [dir + "/other"] }); say(box.pid); } catch (error) { say(error.message); }
  `);
    assertMatch(inside.out, new RegExp(`^changed\n${isRoot ? "below" : ""}${t.uid}:${t.uid}:755\n$`));
    assertMatch(inside.err, /sub\/x.*Read-only[^]*'sub'.*busy/);
    if (isRoot) assertMatch(inside.err, /mounted\/x.*Read-only/);
    // Mounts of its parent are locked in a user namespace.
    else {assertMatch(
        refused,
        /other: only root can overlay .*\/other\/mounted is a mountpoint \(fsconfig: EINVAL\)/,
      );}
    assertEquals(upper.slice(0, 2), [`${t.dir}/data`, ["file", "new"]]);
    assertEquals(upper[2], !isRoot);
    assertEquals(again, [["log"], "one\ntwo\n"]);
    assertEquals(names(`${t.dir}/data`), isRoot ? ["file", "mounted", "sub"] : ["file", "sub"]);
    assertEquals(Deno.readTextFileSync(`${t.dir}/data/file`), "lower");
    if (isRoot) await new Deno.Command("rm", { args: ["-r", `${t.dir}/state`] }).output();
  },
);

sandboxTest("a root of mounts, and more mounts in it, with mountpoints that are made", {}, async (t) => {
  t.make("work");
  await owned(t);
  const [out] = await t.run(`
    const bind = (source, target) => ({ type: "bind", source, target, options: ["rbind", "ro"] });
    await using box = await sandbox({
      root: [{ type: "tmpfs", source: "root" }, ...["/usr", "/bin", "/lib", "/lib64"].map((path) => bind(path, path))],
      mounts: [{ type: "tmpfs", source: "more", target: "/more/deep", options: ["size=1m"] }],
      writable: [dir + "/work"], cwd: "/more",
    });
    say(await sh(box, "pwd; ls /; touch " + dir + "/work/made /usr/made; df -k /more/deep | tail -1"));
  `);
  assertMatch(out.out, /^\/more\nbin\ndev\nlib\nlib64\nmore\nproc\ntmp\nusr\nmore +1024 /);
  assertMatch(out.err, /\/usr\/made.*Read-only/);
  assertEquals(names(`${t.dir}/work`), ["made"]);
});

function names(path: string): string[] {
  return [...Deno.readDirSync(path)].map(({ name }) => name).sort();
}

/** Gives all files of a test to its user. */
async function owned({ dir, uid }: { dir: string; uid: number }): Promise<void> {
  await new Deno.Command("chown", { args: ["-Rh", `${uid}:${uid}`, dir] }).output();
}

/** A tmpfs with a file on a directory of the test. */
async function tmpfsAt({ dir }: { dir: string }, name: string): Promise<AsyncDisposable> {
  const mount = await new Deno.Command("mount", { args: ["-t", "tmpfs", "tmpfs", `${dir}/${name}`] })
    .output();
  assertEquals(mount.code, 0);
  Deno.writeTextFileSync(`${dir}/${name}/file`, "below");
  return {
    async [Symbol.asyncDispose]() {
      await new Deno.Command("umount", { args: [`${dir}/${name}`] }).output();
    },
  };
}
