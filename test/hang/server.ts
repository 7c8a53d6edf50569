/**
 * A FUSE server that reads every request and never answers. It exits after a while, so that a test that waits for it
 * fails instead of hanging.
 *
 *     deno run --allow-ffi test/hang/server.ts MOUNTPOINT
 *
 * @module
 */

const LIFETIME = 30_000; // ms
const O_RDWR = 2;
const LONGEST_REQUEST = 0x21000; // FUSE_MIN_READ_BUFFER and a write of 128 KiB

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize", nonblocking: true },
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
});
const c = (text: string) => new TextEncoder().encode(text + "\0");

const [mountpoint = ""] = Deno.args;
const fd = libc.open(c("/dev/fuse"), O_RDWR);
const options = `fd=${fd},rootmode=40000,user_id=0,group_id=0`; // struct fuse_fs_context of fs/fuse/inode.c
if (fd < 0 || libc.mount(c("silent"), c(mountpoint), c("fuse"), 0n, c(options)) < 0) Deno.exit(1);
setTimeout(() => Deno.exit(0), LIFETIME);
console.log("ready");
const request = new Uint8Array(LONGEST_REQUEST);
while (await libc.read(fd, request, BigInt(request.length)) >= 0n);
