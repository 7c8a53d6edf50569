/**
 * Finds the rights that each operation requires, and writes docs/privileges.md, as root: `deno task privileges`.
 *
 * @module
 */

import { format } from "../../scripts/markdown.ts";
import { deriveAll } from "./derive.ts";
import { page, pageOf } from "./page.ts";

const dir = await Deno.makeTempDir({ prefix: "denomount-privileges-" });
await Deno.writeTextFile(page, pageOf(await deriveAll(dir, () => true, 2)));
await format(page);
await Deno.remove(dir, { recursive: true });
