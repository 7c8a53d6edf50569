import { OwnedFd, OwnedFds, withDisposable } from "../../ffi/fd.ts";
import { O_PATH, open } from "../../linux/mod.ts";
import { assert, assertEquals, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { linkText } from "../kernel.ts";
import { say } from "../use/ways.ts";

const isOpen = (fd: number) => linkText(`/proc/self/fd/${fd}`) !== undefined;

/** Closes a descriptor behind the library's back. */
function steal(fd: OwnedFd): void {
  new OwnedFd(fd.fd).close();
}

kernelTest("a descriptor is closed once, and its number cannot be used afterwards", {}, () => {
  const owned = open("/", O_PATH);
  const { fd } = owned;
  assert(owned.isOpen && isOpen(fd));
  owned.close();
  assert(!owned.isOpen && !isOpen(fd));
  using other = open("/usr", O_PATH); // the kernel gives it the lowest number, which is the same
  owned.close();
  owned[Symbol.dispose]();
  assert(isOpen(other.fd), "the second close must not close the number's new owner");
  assertThrows(() => owned.fd, TypeError, "already closed");
  assertThrows(() => owned.release(), TypeError, "already closed");
});

kernelTest("release() gives up a descriptor, and leaves it open", {}, () => {
  const owned = open("/", O_PATH);
  using released = new OwnedFd(owned.release());
  owned.close();
  assert(isOpen(released.fd) && !owned.isOpen);
});

kernelTest("closing a number that other code has closed fails with EBADF", {}, () => {
  const owned = open("/", O_PATH);
  steal(owned);
  assertThrows(() => owned.close(), Error, "close: Bad file descriptor (EBADF)");
  owned.close(); // the number may belong to another by now
});

kernelTest("OwnedFds closes its descriptors and no others", {}, () => {
  const all = Array.from({ length: 12 }, () => open("/", O_PATH));
  const others = [3, 7, 8].map((index) => all[index]);
  const owned = new OwnedFds();
  for (const fd of all) if (!others.includes(fd)) assertEquals(owned.add(fd), fd);
  all[5]?.close(); // closed by its user before
  const numbers = all.map((fd) => fd.isOpen ? fd.fd : -1);
  owned[Symbol.dispose]();
  for (const [index, fd] of all.entries()) {
    const kept = others.includes(fd);
    assertEquals(
      [fd.isOpen, numbers[index] !== -1 && isOpen(numbers[index] ?? -1)],
      [kept, kept],
      `${index}`,
    );
  }
  owned[Symbol.dispose](); // nothing is left in it
  for (const fd of others) fd?.close();
});

kernelTest("OwnedFds closes the other descriptors if closing one fails, and throws that error", {}, () => {
  const owned = new OwnedFds();
  const all = Array.from({ length: 6 }, () => open("/", O_PATH));
  for (const index of [4, 0, 2, 5, 1, 3]) owned.add(all[index] ?? open("/", O_PATH));
  const numbers = all.map(({ fd }) => fd);
  steal(all[2] ?? open("/", O_PATH));
  assertThrows(() => owned[Symbol.dispose](), Error, "close: Bad file descriptor (EBADF)");
  assertEquals(numbers.filter(isOpen), []);
});

kernelTest("OwnedFds gives up its descriptors to another owner, or to the caller", {}, () => {
  const [first, second] = [new OwnedFds(), new OwnedFds()];
  const [a, b, c] = [open("/", O_PATH), open("/", O_PATH), open("/", O_PATH)];
  first.add(a);
  second.add(b);
  first.release(second);
  first[Symbol.dispose]();
  assert(a.isOpen && b.isOpen);
  second[Symbol.dispose]();
  assert(!a.isOpen && !b.isOpen);
  first.add(c);
  first.release();
  first[Symbol.dispose]();
  assert(c.isOpen);
  c.close();
});

kernelTest("closeAllBut() closes all but one, which stays owned", {}, () => {
  const owned = new OwnedFds();
  const [a, kept, b] = [0, 1, 2].map(() => owned.add(open("/", O_PATH)));
  assert(a && kept && b);
  steal(a);
  assertThrows(() => owned.closeAllBut(kept), Error, "EBADF");
  assert(!b.isOpen && kept.isOpen && isOpen(kept.fd));
  owned[Symbol.dispose]();
  assert(!kept.isOpen);
});

kernelTest("withDisposable() disposes of its argument, also if the function throws", {}, () => {
  const [first, second] = [open("/", O_PATH), open("/", O_PATH)];
  assert(withDisposable(first, ({ fd }) => isOpen(fd)));
  assertThrows(
    () =>
      withDisposable(second, () => {
        throw new Error("thrown");
      }),
    Error,
    "thrown",
  );
  assert(!first.isOpen && !second.isOpen);
});

const SYS_close_range = 436; // asm-generic/unistd.h

for (const errno of ["ENOSYS", "EPERM"]) {
  kernelTest(`without close_range(2), which fails with ${errno}, each descriptor is closed`, {
    permissions: { run: true, env: true },
    root: true,
  }, async (t) => {
    const url = (file: string) => new URL(`../../${file}`, import.meta.url);
    const program = `import { OwnedFds } from "${url("ffi/fd.ts")}";
      import { O_PATH, open } from "${url("linux/mod.ts")}";
      import { linkText } from "${url("test/kernel.ts")}";
      import { refuseCall } from "${url("test/faults/seccomp.ts")}";
      const owned = new OwnedFds();
      const numbers = [0, 1, 2, 3].map(() => owned.add(open("/", O_PATH)).fd);
      refuseCall(${SYS_close_range}, "${errno}");
      owned[Symbol.dispose]();
      console.log(numbers.filter((fd) => linkText("/proc/self/fd/" + fd) === "/").length);`;
    Deno.writeTextFileSync(`${t.dir}/program.ts`, program);
    const args = ["run", "--quiet", "-A", "--no-config", "--no-check", `${t.dir}/program.ts`];
    const { out, err } = await say(Deno.execPath(), args);
    assertEquals([...out, err], ["0", ""]);
  });
}
