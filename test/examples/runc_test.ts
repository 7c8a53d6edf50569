import { mount } from "../../mod.ts";
import { assertEquals } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";

const maps = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];
const mappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
const owner = ({ uid, gid }: Deno.FileInfo) => `${uid}:${gid}`;

/** A config.json of the OCI runtime specification, with a user namespace and a command. */
function config(root: string, command: string): string {
  return JSON.stringify({
    ociVersion: "1.0.2",
    process: { user: { uid: 0, gid: 0 }, args: ["/bin/busybox", "sh", "-c", command], cwd: "/" },
    root: { path: root },
    mounts: [{ destination: "/proc", type: "proc", source: "proc" }],
    linux: {
      uidMappings: mappings,
      gidMappings: mappings,
      namespaces: ["user", "pid", "mount", "ipc", "uts"].map((type) => ({ type })),
    },
  });
}

async function runc(t: KernelContext, command: string): Promise<string> {
  Deno.writeTextFileSync(`${t.dir}/config.json`, config(`${t.dir}/root`, command));
  const { code, stdout, stderr } = await new Deno.Command("runc", {
    args: ["--root", `${t.dir}/state`, "run", "--bundle", t.dir, `denomount-test-${Deno.pid}`],
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes).trim());
  assertEquals([code, err], [0, ""]);
  return out ?? "";
}

kernelTest("runc starts a container with a user namespace on an id-mapped overlay", {
  root: true,
  tools: ["runc", "busybox"],
}, async (t) => {
  t.make("layers/base/bin", "layers/base/proc", "layers/more/etc", "upper", "work", "root");
  Deno.chmodSync(t.dir, 0o711); // the container's root is another user on the host, and must pass
  Deno.chownSync(`${t.dir}/upper`, 100000, 100000);
  const busybox = `${t.dir}/layers/base/bin/busybox`;
  Deno.copyFileSync("/bin/busybox", busybox);
  Deno.chmodSync(busybox, 0o755);
  const layers = `lowerdir=${t.dir}/layers/more:${t.dir}/layers/base`;
  const writable = [`upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`];
  const overlay = { type: "overlay", source: "root", options: [layers, ...writable, ...maps] };
  await using _root = await mount(overlay, `${t.dir}/root`);

  const stat = "/bin/busybox stat -c %u:%g";
  const seen = await runc(
    t,
    `${stat} /bin/busybox; echo > /new; ${stat} /new; /bin/busybox cat /proc/self/uid_map`,
  );
  assertEquals(seen.split(/\s+/), ["0:0", "0:0", "0", "100000", "65536"]);
  assertEquals(owner(Deno.statSync(busybox)), "0:0");
  assertEquals(owner(Deno.statSync(`${t.dir}/upper/new`)), "100000:100000");
});
