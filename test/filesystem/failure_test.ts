import { mount, MountError } from "../../mod.ts";
import { assertEquals, assertRejects } from "../assert.ts";
import { kernelTest } from "../harness.ts";

kernelTest("an unknown option of an image is named, and the image not called damaged", {
  root: true,
  tools: ["mkfs.ext4"],
  permissions: { run: true },
}, async (t) => {
  t.make("target");
  const image = `${t.dir}/image`;
  await new Deno.Command("mkfs.ext4", { args: ["-q", image, "1M"] }).output();
  const message = async (source: string, ...options: string[]) => {
    const entry = { type: "ext4", source, options: ["loop", "ro", ...options] };
    const error = await assertRejects(() => mount(entry, `${t.dir}/target`), MountError);
    return error.message;
  };
  const isCalledDamaged = (text: string) => text.includes("is not a file system of type ext4");
  assertEquals(isCalledDamaged(await message(image, "bogus")), false);
  Deno.writeFileSync(`${t.dir}/zeros`, new Uint8Array(1 << 20));
  assertEquals(isCalledDamaged(await message(`${t.dir}/zeros`)), true);
  assertEquals(t.mounts(), []);
});
