/**
 * All rows of the benchmark, in the order of the table.
 *
 * @module
 */

import type { Row } from "./row.ts";
import { rows as ids } from "./rows/ids.ts";
import { rows as images } from "./rows/images.ts";
import { rows as manager } from "./rows/manager.ts";
import { rows as mounts } from "./rows/mounts.ts";
import { rows as overlays } from "./rows/overlays.ts";
import { rows as process } from "./rows/process.ts";
import { rows as sandbox } from "./rows/sandbox.ts";
import { rows as snapshotter } from "./rows/snapshotter.ts";
import { rows as tables } from "./rows/tables.ts";

/** The rows. */
export const rows: readonly Row[] = [
  ...mounts,
  ...overlays,
  ...images,
  ...ids,
  ...tables,
  ...manager,
  ...snapshotter,
  ...sandbox,
  ...process,
];
