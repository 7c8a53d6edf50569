import { assertEquals } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { differences, explanationOf } from "./differential/compare.ts";
import { EXPLAINED } from "./differential/explained.ts";
import { drawLines, type Kind } from "./differential/lines.ts";
import { byLibrary, byMount8, cleanUp, mount8Version, prepare } from "./differential/run.ts";

const LINES = 500;
const SEED = 12;
const KINDS: Kind[] = ["bind", "rbind", "tmpfs", "ext4", "overlay"];

const needs = {
  root: true,
  features: ["mountSetattr", "overlayLayers"] as const,
  notEmulated: "it starts mount(8) 500 times",
  tools: ["mount", "umount", "mkfs.ext4"],
  permissions: { run: true, env: ["MOUNT8"] },
} satisfies Parameters<typeof kernelTest>[1];

// Another mount(8) is named by the environment: MOUNT8=/opt/util-linux/bin/mount.
kernelTest(
  `${LINES} random option lines mount what mount(8) mounts, or the difference is explained`,
  needs,
  async (t) => {
    const program = Deno.env.get("MOUNT8") ?? "mount";
    const version = await mount8Version(program);
    const lines = drawLines(LINES, SEED, KINDS);
    const [theirBase, ourBase] = [`${t.dir}/mount8`, `${t.dir}/library`];
    await prepare(theirBase, lines);
    try {
      await prepare(ourBase, lines);
      try {
        const theirs = await byMount8(program, theirBase, lines);
        const ours = await byLibrary(ourBase, lines);
        const unexplained = lines.flatMap((line, index) => {
          const [our, their] = [ours[index], theirs[index]];
          if (!our || !their) throw new Error(`line ${index} was not mounted`);
          return differences(our, their)
            .filter((difference) => explanationOf(EXPLAINED, difference, line, version) === undefined)
            .map((difference) => `${line.kind} ${line.source} -o ${line.words}: ${difference}`);
        });
        assertEquals(unexplained, []);
        const mounted = lines.filter((_, index) =>
          ours[index]?.error === undefined && theirs[index]?.error === undefined
        );
        assertEquals(mounted.length > LINES / 2, true, `both mounted only ${mounted.length} lines`);
      } finally {
        await cleanUp(ourBase);
      }
    } finally {
      await cleanUp(theirBase);
    }
  },
);
