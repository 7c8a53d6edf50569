/**
 * The changes that an overlay's upper directory holds: listed, copied, or written as a layer of an OCI image.
 *
 * @module
 */

export { UnsupportedEntryError } from "./error.ts";
export { type ChangedContents, readContents, type ReadContentsOptions } from "./contents.ts";
export { keepChanges } from "./keep.ts";
export { type ExportedLayer, exportLayer, type ExportLayerOptions } from "./layer.ts";
export { readChanges } from "./read.ts";
export { OwnedFd } from "../../../ffi/fd.ts";
export type { WaitOptions } from "../../path/wait.ts";
export type {
  Change,
  FileType,
  PresentChange,
  ReadChangesOptions,
  RemovedChange,
  Upper,
  UpperOptions,
} from "./types.ts";
