/**
 * A FUSE server that reads every request and never answers. It exits after a while, so that a test that waits for it
 * fails instead of hanging. With a block device it mounts type fuseblk and answers FUSE_INIT alone: the kernel then waits
 * for an answer to FUSE_DESTROY when it unmounts.
 *
 *     deno run --allow-ffi test/hang/server.ts MOUNTPOINT [DEVICE]
 *
 * @module
 */

const LIFETIME = 30_000; // ms
const O_RDWR = 2;
const FUSE_INIT = 26; // linux/fuse.h
const LONGEST_REQUEST = 0x21000; // FUSE_MIN_READ_BUFFER and a write of 128 KiB

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize", nonblocking: true },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
});
const c = (text: string) => new TextEncoder().encode(text + "\0");

const [mountpoint = "", device] = Deno.args;
const fd = libc.open(c("/dev/fuse"), O_RDWR);
const options = `fd=${fd},rootmode=40000,user_id=0,group_id=0`; // struct fuse_fs_context of fs/fuse/inode.c
const [source, type] = device === undefined ? ["silent", "fuse"] : [device, "fuseblk"];
if (fd < 0 || libc.mount(c(source), c(mountpoint), c(type), 0n, c(options)) < 0) Deno.exit(1);
setTimeout(() => Deno.exit(0), LIFETIME);
if (device === undefined) console.log("ready");
const request = new Uint8Array(LONGEST_REQUEST);
while (await libc.read(fd, request, BigInt(request.length)) >= 0n) {
  if (device !== undefined && new DataView(request.buffer).getUint32(4, true) === FUSE_INIT) answerInit();
}

/** With struct fuse_out_header and struct fuse_init_out of linux/fuse.h. */
function answerInit(): void {
  const answer = new DataView(new ArrayBuffer(80));
  answer.setUint32(0, answer.byteLength, true); // len
  answer.setBigUint64(8, new DataView(request.buffer).getBigUint64(8, true), true); // unique
  answer.setUint32(16, 7, true); // major
  answer.setUint32(20, 31, true); // minor
  answer.setUint32(36, 4096, true); // max_write
  libc.write(fd, new Uint8Array(answer.buffer), BigInt(answer.byteLength));
  console.log("ready");
}
