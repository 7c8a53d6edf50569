import { sandbox } from "../../linux/sandbox/mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { stoppedServer } from "./stopped_server.ts";
import { assertInTime, watch } from "./watch.ts";

kernelTest(
  "a box starts beside a server that does not answer, and a path on it ends the start after the timeout",
  {
    root: true,
    features: ["mountSetattr", "openat2"],
    tools: ["mount.fuse3", "bindfs", "fusermount3", "unshare", "sh"],
    permissions: { run: true, env: true },
  },
  async (t) => {
    await using server = await stoppedServer(t);
    const code = async (options: Parameters<typeof sandbox>[0]) => {
      try {
        await using box = await sandbox(options);
        return (await box.spawn("true").status).code;
      } catch (error) {
        return error instanceof Error && "code" in error ? error.code : error;
      }
    };
    for (
      const [options, outcome] of [
        [{}, 0],
        [{ readonly: [t.dir] }, 0],
        [{ overlay: [t.dir] }, 0],
        [{ writable: [server.cached] }, 0],
        [{ writable: [server.uncached], timeout: 300 }, "ETIMEDOUT"],
        [{ hidden: [server.uncached], timeout: 300 }, "ETIMEDOUT"],
      ] as const
    ) {
      const seen = await watch(() => code(options));
      assertEquals(seen.value, outcome, JSON.stringify(options));
      assertInTime(seen, 1000);
    }
    assert(t.mounts().length > 0); // the server's mount is still there
  },
);
