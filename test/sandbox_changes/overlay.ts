/**
 * Overlays to test with, mounted by mount(8).
 *
 * @module
 */

/** Runs a program. */
export async function run(program: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args, stdin: "null" }).output();
  const text = new TextDecoder().decode(stdout);
  if (!success) throw new Error(`${program} ${args.join(" ")}: ${text}${new TextDecoder().decode(stderr)}`);
  return text;
}

/** Makes a file system in an image and mounts it; "tmpfs" needs no image. */
export async function mountFilesystem(type: string, directory: string): Promise<AsyncDisposable> {
  Deno.mkdirSync(directory, { recursive: true });
  if (type === "tmpfs") await run("mount", "-t", "tmpfs", "-o", "size=64m", "test", directory);
  else {
    const image = `${directory}.img`;
    using file = Deno.createSync(image);
    file.truncateSync(type === "xfs" ? 320 << 20 : 128 << 20);
    await run(`mkfs.${type}`, "-q", image);
    await run("mount", "-t", type, "-o", "loop", image, directory);
  }
  return { [Symbol.asyncDispose]: async () => void await run("umount", directory) };
}

/** The directories of an overlay. */
export interface Overlay extends AsyncDisposable {
  /** The lower layers, from top to bottom. */
  readonly lower: string[];
  /** The upper directory. */
  readonly upper: string;
  /** Where it is mounted. */
  readonly merged: string;
  /** Whether it is mounted with `userxattr`. */
  readonly userxattr: boolean;
  /** Where other directories can be made. */
  readonly base: string;
}

const TRUSTED = "metacopy=off,redirect_dir=off";
const USERXATTR = "userxattr"; // the kernel refuses the others beside it, and does neither

/** Mounts an overlay in a directory, after its lower layers are filled. */
export async function mountOverlay(
  base: string,
  fill: (lower: string, index: number) => void | Promise<void>,
  { userxattr = false, layers = 1 } = {},
): Promise<Overlay> {
  const lower = Array.from({ length: layers }, (_, index) => `${base}/lower${index}`);
  const [upper, work, merged] = ["upper", "work", "merged"].map((name) => `${base}/${name}`) as [
    string,
    string,
    string,
  ];
  for (const directory of [...lower, upper, work, merged]) Deno.mkdirSync(directory, { recursive: true });
  for (const [index, directory] of lower.entries()) await fill(directory, index);
  const options = userxattr ? `index=off,${USERXATTR}` : `index=off,${TRUSTED}`;
  const directories = `lowerdir=${lower.join(":")},upperdir=${upper},workdir=${work}`;
  await run("mount", "-t", "overlay", "-o", `${directories},${options}`, "test", merged);
  return {
    lower,
    upper,
    merged,
    userxattr,
    base,
    [Symbol.asyncDispose]: async () => void await run("umount", merged),
  };
}

/** Mounts directories read-only as the layers of an overlay, from top to bottom. */
export async function mountLayers(
  layers: readonly string[],
  merged: string,
  userxattr: boolean,
): Promise<AsyncDisposable> {
  Deno.mkdirSync(merged, { recursive: true });
  const options = `ro,lowerdir=${layers.join(":")},${userxattr ? USERXATTR : TRUSTED}`;
  await run("mount", "-t", "overlay", "-o", options, "test", merged);
  return { [Symbol.asyncDispose]: async () => void await run("umount", merged) };
}
