/**
 * The packages that this room uses, as pinned and complete specifiers: an https import uses no import map. No other room
 * of the library uses them. They are loaded when a layer is written.
 *
 * @module
 */

export { Header as TarHeader } from "npm:tar@7.5.23/header";
