/**
 * Runs programs for their output.
 *
 * @module
 */

/**
 * Runs a program and waits for it.
 *
 * @param program its name.
 * @param args its arguments.
 * @param options the working directory and the environment, as for `Deno.Command`.
 * @returns its output.
 * @throws {Error} if it is not installed or fails, with its output.
 */
export async function run(
  program: string,
  args: readonly string[],
  options: Pick<Deno.CommandOptions, "cwd" | "env"> = {},
): Promise<{ bytes: Uint8Array; stdout: string }> {
  const decoder = new TextDecoder();
  const { success, code, stdout, stderr } = await output(program, {
    ...options,
    args: [...args],
    stdin: "null",
  });
  if (!success) {
    throw new Error(
      `${program} ended with status ${code}:\n${decoder.decode(stderr).trim() || decoder.decode(stdout)}`,
    );
  }
  return {
    bytes: stdout,
    get stdout() {
      return decoder.decode(stdout);
    },
  };
}

async function output(program: string, options: Deno.CommandOptions): Promise<Deno.CommandOutput> {
  try {
    return await new Deno.Command(program, options).output();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new Error(`${program} is not installed`, { cause: error });
    }
    throw error;
  }
}
