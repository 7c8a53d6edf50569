import process from "node:process";
import { exportLayer, readChanges, UnsupportedEntryError } from "../../linux/sandbox/changes/mod.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { deepDirectory } from "./deep.ts";
import { files, join, types, utf8 } from "./files.ts";
import { unpack } from "./image.ts";
import { mountOverlay, run } from "./overlay.ts";
import { lines, readTree } from "./trees.ts";

/** The bytes of a layer. */
async function layerOf(upper: string, options = {}): Promise<Uint8Array<ArrayBuffer>> {
  const { readable, writable } = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
  const [bytes] = await Promise.all([new Response(readable).bytes(), exportLayer(upper, writable, options)]);
  return bytes;
}

/** The text of a layer, in which each byte is a character. */
const textOf = (bytes: Uint8Array) => [...bytes].map((byte) => String.fromCharCode(byte)).join("");

kernelTest("the stream is closed at the end, aborted with the error, or left alone", {}, async (t) => {
  files.write(`${t.make("upper")}/file`, utf8("x"));
  const seen: unknown[] = [];
  const sink = () =>
    new WritableStream<Uint8Array>({
      close: () => void seen.push("closed"),
      abort: (reason) => void seen.push(reason),
    });
  await exportLayer(`${t.dir}/upper`, sink());
  assertEquals(seen.splice(0), ["closed"]);
  const error = await assertRejects(() => exportLayer(`${t.dir}/none`, sink()), Error, "No such file");
  assertEquals(seen.splice(0), [error]);
  const kept = sink();
  await exportLayer(`${t.dir}/upper`, kept, { preventClose: true });
  await assertRejects(
    () => exportLayer(`${t.dir}/none`, kept, { preventClose: true }),
    Error,
    "No such file",
  );
  assertEquals([seen, kept.locked], [[], false]);
});

kernelTest("tar(1) unpacks a layer to the same tree: owners, modes, times, links, attributes, any names", {
  root: true,
  tools: ["tar"],
  permissions: { run: true },
}, async (t) => {
  const upper = t.make("upper");
  const odd = join(upper, Uint8Array.from([0x66, 0xff, 0x0a]));
  files.mkdir(odd);
  files.write(join(odd, "é".repeat(60)), utf8("long, and no ASCII"));
  for (let length = 80; length < 100; length++) files.write(`${upper}/é${"x".repeat(length)}`, utf8("x")); // records of 99 to 101 bytes
  files.write(`${upper}/${"n".repeat(255)}`, utf8("longest"));
  files.link(`${upper}/${"n".repeat(255)}`, join(odd, "linked"));
  files.symlink(join(Uint8Array.from([0xfe]), "l".repeat(200)), `${upper}/link`);
  files.write(`${upper}/times`, utf8("x"), 300_000);
  files.utimens(`${upper}/times`, -3, 250_000_000);
  files.mkdir(`${upper}/future`);
  files.utimens(`${upper}/future`, 10_000_000_000, 1);
  files.chown(`${upper}/times`, 3_000_000_000, 4_000_000);
  files.chmod(`${upper}/times`, 0o6755);
  for (const name of ["user.binary", "trusted.binary", "user.é"]) {
    assert(files.setxattr(`${upper}/times`, name, Uint8Array.from([0, 1, 0x3d, 0xff, 0x0a])));
  }
  files.mknod(`${upper}/fifo`, types.fifo);
  files.mknod(`${upper}/null`, types.char, 1, 3);
  files.mknod(`${upper}/disk`, types.block, 7, 200);
  Deno.writeFileSync(`${t.dir}/layer.tar`, await layerOf(upper));
  const args = ["--xattrs", "--xattrs-include=*", "-xpf", `${t.dir}/layer.tar`, "-C", t.make("unpacked")];
  await run("tar", ...args);
  assertEquals(lines(await readTree(`${t.dir}/unpacked`)), lines(await readTree(upper)));
});

kernelTest("a layer has .wh.NAME and .wh..wh..opq, and overlay's own attributes are left out", {
  root: true,
  features: ["overlay"],
  tools: ["mount", "umount", "tar"],
  permissions: { run: true },
}, async (t) => {
  await run("mount", "-t", "tmpfs", "test", t.make("fs"));
  try {
    await using overlay = await mountOverlay(`${t.dir}/fs`, (lower) => {
      files.mkdir(`${lower}/opaque`);
      files.write(`${lower}/removed`, utf8("x"));
      files.write(`${lower}/copied`, utf8("x"));
    });
    files.remove(`${overlay.merged}/opaque`);
    files.mkdir(`${overlay.merged}/opaque`);
    files.mknod(`${overlay.merged}/opaque/socket`, types.socket); // no whiteout: overlay would list it
    files.unlink(`${overlay.merged}/removed`);
    files.chmod(`${overlay.merged}/copied`, 0o600);
    files.setxattr(`${overlay.merged}/copied`, "user.overlay.opaque", utf8("y"));
    files.setxattr(`${overlay.merged}/copied`, "user.kept", utf8("y"));
    const layer = await layerOf(overlay.upper);
    Deno.writeFileSync(`${t.dir}/layer.tar`, layer);
    assertEquals((await run("tar", "-tf", `${t.dir}/layer.tar`)).trim().split("\n"), [
      "./",
      "copied",
      "opaque/",
      "opaque/.wh..wh..opq",
      ".wh.removed",
    ]);
    const text = textOf(layer);
    assert(text.includes("SCHILY.xattr.user.kept=y") && !text.includes(".overlay."));
  } finally {
    await run("umount", `${t.dir}/fs`);
  }
});

kernelTest("sockets are left out of a layer, named in the result, and hide what the lower directory has", {
  root: true,
  features: ["overlay"],
  tools: ["umoci"],
  permissions: { run: true },
}, async (t) => {
  files.write(`${t.make("lower")}/socket`, utf8("x"));
  files.mknod(`${t.make("upper")}/socket`, types.socket);
  files.mknod(`${t.dir}/upper/other`, types.socket);
  const { sockets, entries, bytes } = await exportLayer(`${t.dir}/upper`, new WritableStream());
  assertEquals([sockets, entries, bytes], [["other", "socket"], 3, 7 * 512]);
  await unpack(t.dir, `${t.dir}/unpacked`, [{ path: `${t.dir}/lower` }, { path: `${t.dir}/upper` }]);
  assertEquals(files.names(`${t.dir}/unpacked`), []);
});

kernelTest("what a layer would turn into something else is refused with its path", {
  root: true,
  features: ["overlay"],
  tools: ["mount", "umount"],
  permissions: { run: true },
}, async (t) => {
  const refused = async (upper: string, path: string) => {
    const error = await assertRejects(() => exportLayer(upper, new WritableStream()), UnsupportedEntryError);
    assertEquals((error as UnsupportedEntryError).path, path);
  };
  files.write(`${t.make("one/d")}/.wh.passwd`, utf8(""));
  await refused(`${t.dir}/one`, "d/.wh.passwd");
  files.write(`${t.make("two")}/file`, utf8(""));
  assert(files.setxattr(`${t.dir}/two/file`, "user.a=b", utf8("x")));
  await refused(`${t.dir}/two`, "file");

  for (const name of ["lower", "upper", "work", "merged"]) t.make(name);
  files.write(`${t.dir}/lower/file`, utf8("content"));
  const options = `lowerdir=${t.dir}/lower,upperdir=${t.dir}/upper,workdir=${t.dir}/work,metacopy=on`;
  await run("mount", "-t", "overlay", "-o", options, "test", `${t.dir}/merged`);
  files.chmod(`${t.dir}/merged/file`, 0o600);
  await run("umount", `${t.dir}/merged`);
  await refused(`${t.dir}/upper`, "file");
});

kernelTest("a file beyond 8 GiB, a hole, has its size in the header and in a record", {}, async (t) => {
  files.write(`${t.make("upper")}/big`, utf8("x"), 9 * 2 ** 30);
  let first: Uint8Array | undefined;
  const sink = new WritableStream<Uint8Array>({
    write(chunk) {
      first = chunk;
      throw new RangeError("enough");
    },
  });
  await assertRejects(() => exportLayer(`${t.dir}/upper`, sink), RangeError, "enough");
  assertMatch(textOf((first ?? new Uint8Array()).subarray(0, 4096)), /\d+ size=9663676417\n/);
});

kernelTest("a file that is cut or grows while it is written has the size of its header", {
  tools: ["tar"],
  permissions: { run: true },
}, async (t) => {
  const SIZE = 4 << 20;
  const upper = t.make("upper");
  for (const name of ["cut", "grown"]) files.write(`${upper}/${name}`, new Uint8Array(SIZE).fill(0x41));
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  const sink = new WritableStream<Uint8Array<ArrayBuffer>>({
    write(chunk) {
      if (chunks.length === 1) files.truncate(`${upper}/cut`, 300_000);
      files.write(`${upper}/grown`, new Uint8Array(1000), SIZE);
      chunks.push(chunk);
    },
  });
  await exportLayer(upper, sink);
  Deno.writeFileSync(`${t.dir}/layer.tar`, await new Blob(chunks).bytes());
  await run("tar", "-xf", `${t.dir}/layer.tar`, "-C", t.make("unpacked"));
  const [cut, grown] = ["cut", "grown"].map((name) => Deno.readFileSync(`${t.dir}/unpacked/${name}`));
  assert(cut && cut.length === SIZE && cut[200_000] === 0x41 && cut.at(-1) === 0);
  assert(grown && grown.length >= SIZE && grown[SIZE - 1] === 0x41);
});

kernelTest("a layer of paths longer than PATH_MAX has them", {}, async (t) => {
  const upper = t.make("upper");
  const { path, remove } = deepDirectory(upper, 80, "n".repeat(255));
  try {
    assert(textOf(await layerOf(upper)).includes(` path=${path}/a\n`));
  } finally {
    remove();
  }
});

kernelTest("no link that a command swaps in is followed: nothing outside gets into a layer", {
  tools: ["sh"],
  permissions: { run: true },
}, async (t) => {
  const secret = "the secret of the host";
  files.write(`${t.make("outside")}/file`, utf8(secret));
  for (const name of ["upper/d", "upper/d/e"]) t.make(name);
  files.write(`${t.dir}/upper/d/file`, utf8("mine"));
  files.write(`${t.dir}/upper/file`, utf8("mine"));
  const script = `cd ${t.dir}/upper; while [ -e ${t.dir}/run ]; do
    mv d away; ln -s ../outside d; rm d; mv away d
    ln -s ../outside/file link; mv -T link file; : > plain; mv -T plain file; done`;
  files.write(`${t.dir}/run`, utf8(""));
  const child = new Deno.Command("sh", { args: ["-c", script], stderr: "null" }).spawn();
  try {
    let found = 0;
    for (let count = 0; count < 100; count++) {
      const text = textOf(await layerOf(`${t.dir}/upper`));
      assert(!text.includes(secret));
      if (text.includes("mine")) found++;
      await Array.fromAsync(readChanges(`${t.dir}/upper`, { lower: `${t.dir}/outside` }));
    }
    assert(found > 0);
  } finally {
    files.unlink(`${t.dir}/run`);
    await child.status; // a killed shell would leave a program that it has started
  }
});

kernelTest("a FIFO or a device is never opened", {
  root: true,
  tools: ["strace"],
  permissions: { run: true },
}, async (t) => {
  const upper = t.make("upper");
  files.mknod(`${upper}/fifo`, types.fifo);
  files.mknod(`${upper}/tty`, types.char, 5, 0);
  files.write(`${upper}/file`, utf8("x"));
  const mod = new URL("../../linux/sandbox/changes/mod.ts", import.meta.url).href;
  const program = `
    import { exportLayer, keepChanges } from ${JSON.stringify(mod)};
    await exportLayer(${JSON.stringify(upper)}, new WritableStream());
    await keepChanges(${JSON.stringify(upper)}, ${JSON.stringify(`${t.dir}/kept`)});`;
  Deno.writeTextFileSync(`${t.dir}/program.ts`, program);
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const deno = [Deno.execPath(), "run", "-A", "--quiet", "--config", config, `${t.dir}/program.ts`];
  await run("strace", "-f", "-qq", "-y", "-e", "trace=open,openat,openat2", "-o", `${t.dir}/trace`, ...deno);
  const opened = Deno.readTextFileSync(`${t.dir}/trace`).split("\n").filter((line) =>
    line.includes(`<${upper}/`) && !/O_PATH|O_DIRECTORY/.test(line)
  );
  assertEquals(opened.map((line) => line.replace(/.*</, "<")), Array(2).fill(`<${upper}/file>`));
});

/** The time that this process has computed, in milliseconds: on a busy machine, others compute in between. */
function computed(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Counts how often a timer runs during a call, and how long the process computed in between. */
async function watchEventLoop(call: () => Promise<unknown>): Promise<{ turns: number; longest: number }> {
  let [turns, longest, last] = [0, 0, computed()];
  const tick = () => {
    const now = computed();
    longest = Math.max(longest, now - last);
    last = now;
    turns++;
  };
  const timer = setInterval(tick, 1);
  await call();
  clearInterval(timer);
  return { turns, longest };
}

kernelTest(
  "the event loop runs on while many and large files are read, and the memory does not grow",
  {},
  async (t) => {
    const [many, large, holes] = [t.make("many"), t.make("large"), t.make("holes")];
    for (let count = 0; count < 3000; count++) files.write(`${many}/file${count}`, utf8(""));
    const chunk = new Uint8Array(16 << 20).fill(1);
    for (let part = 0; part < 2; part++) files.write(`${large}/data`, chunk, part * chunk.length);
    files.write(`${holes}/file`, utf8("x"), 400 << 20);
    const before = Deno.memoryUsage().rss;
    let largest = 0;
    const sink = () =>
      new WritableStream<Uint8Array>({ write: (bytes) => void (largest = Math.max(largest, bytes.length)) });
    let paths: string[] = [];
    const calls: (() => Promise<unknown>)[] = [
      async () =>
        paths = (await Array.fromAsync(readChanges(many, { lower: large }))).map(({ path }) => path),
      () => exportLayer(many, sink()),
      () => exportLayer(large, sink()),
      () => exportLayer(holes, sink()),
    ];
    for (const call of calls) {
      const { turns, longest } = await watchEventLoop(call);
      assert(turns > 2, `${call}: the event loop ran ${turns} times`);
      assert(longest < 60, `${call}: the event loop was held for ${longest} ms`);
    }
    const grown = Deno.memoryUsage().rss - before;
    assert(grown < 200 << 20 && largest <= 128 * 1024, `${grown >> 20} MiB more memory`);
    assertEquals([paths.length, paths], [3000, paths.toSorted()]);
  },
);
