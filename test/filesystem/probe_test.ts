import { probe } from "../../mod.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { readText } from "../kernel.ts";

const needs = {
  tools: ["mkfs.ext4", "mkfs.xfs", "mksquashfs", "blkid", "partx"],
  permissions: { run: true, env: true } as Deno.PermissionOptionsObject,
};

async function run(program: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(program, { args, stdout: "null" }).output();
  assert(success, new TextDecoder().decode(stderr));
}

function emptyFile(path: string, size: number): string {
  Deno.writeFileSync(path, new Uint8Array());
  Deno.truncateSync(path, size);
  return path;
}

kernelTest("probe() finds the type, label and UUID, and which part of the file", needs, async (t) => {
  const uuid = "e88f6080-b06d-49b9-9aeb-a3e63a5cf72a";
  const ext4 = emptyFile(`${t.dir}/a b,c`, 2 << 20);
  await run("mkfs.ext4", "-q", "-L", "my, läbel", "-U", uuid, ext4);
  const found = { type: "ext4", usage: "filesystem", label: "my, läbel", uuid, partitions: [] };
  assertEquals(await probe(ext4), found);
  await run("mksquashfs", t.make("empty"), `${t.dir}/-p`, "-quiet", "-no-progress");
  const before = Deno.cwd();
  Deno.chdir(t.dir);
  try {
    assertEquals(await probe("-p"), { type: "squashfs", usage: "filesystem", partitions: [] }); // no option
  } finally {
    Deno.chdir(before);
  }
  const inside = emptyFile(`${t.dir}/inside`, 4 << 20);
  {
    using file = Deno.openSync(inside, { write: true });
    file.seekSync(1 << 20, Deno.SeekMode.Start);
    file.writeSync(Deno.readFileSync(ext4));
  }
  assertEquals(await probe(inside), { partitions: [] });
  assertEquals(await probe(inside, { offset: 1 << 20, size: 2 << 20 }), found);
});

kernelTest("probe() reads the partitions of a DOS and of a GUID partition table", needs, async (t) => {
  const dos = new Uint8Array(4 << 20);
  const view = new DataView(dos.buffer);
  view.setUint32(440, 0x12345678, true); // the disk's identity
  [[0x83, 2048, 2048], [0x82, 4096, 4096]].forEach(([type = 0, start = 0, size = 0], index) => {
    const entry = 446 + 16 * index; // the table has four entries of 16 bytes
    view.setUint8(entry + 4, type);
    view.setUint32(entry + 8, start, true);
    view.setUint32(entry + 12, size, true);
  });
  view.setUint16(510, 0xaa55, true);
  Deno.writeFileSync(`${t.dir}/dos`, dos);
  assertEquals(await probe(`${t.dir}/dos`), {
    partitionTable: "dos",
    partitions: [
      { number: 1, offset: 1 << 20, size: 1 << 20, type: "0x83", uuid: "12345678-01" },
      { number: 2, offset: 2 << 20, size: 2 << 20, type: "0x82", uuid: "12345678-02" },
    ],
  });
});

kernelTest("probe() fails for what it can't read, and for an ambiguous file", {
  ...needs,
  tools: [...needs.tools],
}, async (t) => {
  t.make("dir");
  const error = async (path: string, options = {}) =>
    (await assertRejects(() => probe(path, options), Error)).message;
  assert((await error(`${t.dir}/dir`)).includes("is a directory; a loop device takes"));
  assert((await error(`${t.dir}/none`)).includes("ENOENT"));
  const xfs = emptyFile(`${t.dir}/xfs`, 320 << 20);
  await run("mkfs.xfs", "-q", xfs);
  for (const options of [{ offset: -1 }, { size: 1.5 }]) {
    assert((await error(xfs, options)).includes("number of bytes"));
  }
  {
    using file = Deno.openSync(xfs, { write: true }); // a swap area's signature too
    file.seekSync(4096 - 10, Deno.SeekMode.Start);
    file.writeSync(new TextEncoder().encode("SWAPSPACE2"));
    file.seekSync(1024, Deno.SeekMode.Start);
    file.writeSync(Uint8Array.of(1, 0, 0, 0, 255, 3, 0, 0));
  }
  assert((await error(xfs)).includes("has the signatures of several file systems"));
  assertEquals(readText("/proc/self/status")?.includes("zombie"), false);
});
