/**
 * The packages that the command uses, as pinned and complete specifiers: an https import of cli.ts uses no import map. The
 * library itself uses none of them.
 *
 * @module
 */

export { Command, CommanderError, InvalidArgumentError, Option } from "npm:commander@14.0.2";
export { default as stringWidth } from "npm:string-width@9.0.0";
export { bold, cyan, dim, green, red, setColorEnabled, yellow } from "npm:deno-std@1.4.0/fmt/colors.js";
