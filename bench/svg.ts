/** Draws the results. @module */
import type { Result } from "./row.ts";
export function draw(_results: readonly Result[]): string {
  return "";
}
