import { assert, assertEquals } from "../assert.ts";
import { hasRoot } from "../harness.ts";
import { names, readText } from "../kernel.ts";
import { setupLoop } from "../../mod.ts";
import { Cgroup, cgroup2, keepNamespace, TemporaryNames } from "./leftovers.ts";

/** The processes with a text in their environment. */
function processesWith(text: string): string[] {
  return names("/proc").filter((name) => /^\d+$/.test(name)).filter((pid) =>
    (readText(`/proc/${pid}/environ`) ?? "").includes(text)
  );
}

function backingFile(device: string): string {
  return readText(`/sys/block/${device.slice("/dev/".length)}/loop/backing_file`)?.trim() ?? "";
}

const NAME = "what tests leave is ended: processes, and loop devices of deleted files";

if (!hasRoot || cgroup2() === undefined) console.log(`"${NAME}" needs root and a cgroup2 file system`);
else {
  Deno.test({
    name: NAME,
    async fn() { // without kernelTest(), because Deno asks for all permissions to write below /sys
      const dir = Deno.makeTempDirSync({ prefix: "denomount-test-" });
      Deno.mkdirSync(`${dir}/tmp`);
      Deno.writeFileSync(`${dir}/image`, new Uint8Array(1 << 20));
      const value = crypto.randomUUID();
      using neighbour = await setupLoop(`${dir}/image`);
      await using temporary = new TemporaryNames(`${dir}/tmp`);
      const cgroup = await Cgroup.create(`denomount-test-${value}`);
      const script = `mount --bind "$0" /tmp && mkdir -p /tmp/denomount-left/fs && cd /tmp/denomount-left
        mount -t tmpfs t fs && truncate -s 1M image fs/image
        losetup --find --show "$PWD/fs/image"
        lower=$(losetup --find --show "$PWD/image") && losetup --find --show "$lower" && echo "$lower"
        rm -r image fs/image
        setsid sh -c "unshare -m setsid sleep 600; true" & read -r _`;
      const unshare = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, `${dir}/tmp`];
      const [program, ...args] = cgroup.command(...unshare);
      const options = { args, env: { LEFT: value }, stdin: "piped", stdout: "piped" } as const;
      const child = new Deno.Command(program, options).spawn();
      const stdout = new Response(child.stdout).text();
      {
        using _namespace = await keepNamespace(child.pid);
        await child.stdin.close();
        await child.status;
        assert(processesWith(value).length > 0);
        await cgroup.kill();
        assertEquals(processesWith(value), []);
        const devices = (await stdout).trim().split("\n");
        assertEquals(devices.map(backingFile).map((file) => file.replace(/loop\d+/, "loop")), [
          "/tmp/denomount-left/fs/image (deleted)",
          "/dev/loop",
          "/tmp/denomount-left/image (deleted)",
        ]);
        await temporary.detachLoops();
        assertEquals(devices.map(backingFile), ["", "", ""]);
      }
      assertEquals(backingFile(neighbour.path), `${dir}/image`, "the device of a neighbour stays");
      assertEquals(names(cgroup2() ?? "").filter((name) => name.includes(value)), []);
      Deno.removeSync(dir, { recursive: true });
    },
  });
}
