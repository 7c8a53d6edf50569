import { isErrno } from "../../ffi/errno.ts";
import {
  type NamespaceKind,
  namespaceOfPidfd,
  openPidfd,
  pidInProc,
  signalPidfd,
} from "../../linux/pidfd.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { linkText } from "../kernel.ts";

const ways: [string, Parameters<typeof pretendMissing>][] = [
  ["by ioctl(2)", []],
  ["from /proc", ["pidfdNamespaces"]],
];

for (const [way, missing] of ways) {
  kernelTest(`namespaceOfPidfd() opens the namespaces of that process, ${way}`, {
    tools: ["unshare"],
    permissions: { run: true },
  }, async () => {
    using _ = pretendMissing(...missing);
    const args = ["--user", "--map-root-user", "--mount", "sh", "-c", "echo; read _"];
    await using child = new Deno.Command("unshare", { args, stdin: "piped", stdout: "piped" }).spawn();
    const reader = child.stdout.getReader();
    await reader.read();
    using process = openPidfd(child.pid);
    assertEquals(pidInProc(process), child.pid);
    for (const kind of ["mnt", "user"] satisfies NamespaceKind[]) {
      using namespace = namespaceOfPidfd(process, kind);
      const opened = linkText(`/proc/self/fd/${namespace.fd}`);
      assertEquals(opened, linkText(`/proc/${child.pid}/ns/${kind}`));
      assert(opened !== linkText(`/proc/self/ns/${kind}`), "the child has a namespace of its own");
    }
    await reader.cancel();
    await child.stdin.close();
    await child.status;
    for (const kind of ["mnt", "user"] satisfies NamespaceKind[]) {
      const error = assertThrows(() => namespaceOfPidfd(process, kind), Error);
      assert(isErrno(error, "ESRCH", "ENOENT"), error.message);
    }
    const error = assertThrows(() => signalPidfd(process, 0), Error);
    assert(isErrno(error, "ESRCH"), error.message);
  });
}
