/**
 * Runs one operation or its preparation, and prints the result.
 *
 *     deno run test/privilege/child.ts prepare|run OPERATION DIRECTORY
 *
 * @module
 */

import { operations } from "./operations.ts";

const [step, name = "", dir = ""] = Deno.args;
const operation = operations[name];
if (operation === undefined) throw new Error(`unknown operation "${name}"`);
try {
  await (step === "prepare" ? operation.prepare?.(dir) : operation.run(dir));
  console.log("worked");
} catch (error) {
  const { name, message, code } = error as Error & { code?: string };
  console.log(JSON.stringify({ name, message, code }));
}
Deno.exit(0);
