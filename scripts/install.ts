/**
 * Installs the command from this folder: a script that names this Deno and these sources by their absolute paths, so that
 * it works for root too, whose PATH has no ~/.deno/bin.
 *
 *     deno task install [DIRECTORY]
 *
 * The directory is /usr/local/bin for root, and ~/.local/bin for another user.
 *
 * @module
 */

const cli = new URL("../cli.ts", import.meta.url).pathname;
const config = new URL("../deno.json", import.meta.url).pathname;

/** Writes a word so that a shell takes it as it is. */
function quoted(word: string): string {
  return /^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/**
 * Writes the command.
 *
 * @param directory where; it is made if it is missing.
 * @returns its path.
 */
export async function install(directory: string): Promise<string> {
  const words = [Deno.execPath(), "run", "--quiet", "-A", "--config", config, cli];
  const path = `${directory}/denomount`;
  await Deno.mkdir(directory, { recursive: true });
  const unfinished = await Deno.makeTempFile({ dir: directory });
  await Deno.writeTextFile(unfinished, `#!/bin/sh\nexec ${words.map(quoted).join(" ")} "$@"\n`);
  await Deno.chmod(unfinished, 0o755);
  await Deno.rename(unfinished, path);
  return path;
}

if (import.meta.main) {
  const isRoot = Deno.uid() === 0;
  const [directory = isRoot ? "/usr/local/bin" : `${Deno.env.get("HOME") ?? "."}/.local/bin`] = Deno.args;
  const path = await install(directory);
  console.log(path);
  if (!isRoot) console.log(`for sudo: sudo install ${quoted(path)} /usr/local/bin/`);
}
