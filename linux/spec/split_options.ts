/**
 * Entries of an option list that hold several words, as containerd takes them.
 *
 * @module
 */

import { ATTRIBUTES, WORDS } from "./option_table.ts";

/**
 * Whether an option is one half of an id map.
 *
 * @param option the option.
 * @returns true for `uidmap=` and `gidmap=`.
 */
export function isIdMap(option: string): boolean {
  return option.startsWith("uidmap=") || option.startsWith("gidmap=");
}

/**
 * Splits an entry at its commas, but not inside quotes, after a backslash, between the ranges of an id map, or in the
 * path of an overlay's layer if no option follows.
 *
 * @param entry such as "ro,nosuid".
 * @returns the options, one to an entry.
 */
export function splitOptions(entry: string): string[] {
  if (!entry.includes(",")) return [entry];
  const split: string[] = [];
  let continues: ((part: string) => boolean) | undefined; // whether a part belongs to the option before it
  let parts: string[] = []; // of the option before it
  const end = () => {
    if (parts.length > 0) split.push(parts.join(","));
    parts = [];
  };
  for (const part of commaParts(entry)) {
    if (parts.length > 0 && continues?.(part)) {
      parts.push(part);
      continue;
    }
    if (part === "") continue;
    end();
    parts.push(part);
    continues = isIdMap(part) ? isRange : LAYER.test(part) ? isPartOfPath : undefined;
  }
  end();
  return split;
}

// Options whose value is a path, in which a comma may stand without a backslash.
const LAYER = /^(lowerdir|lowerdir\+|datadir\+|upperdir|workdir)=/;

function isRange(part: string): boolean {
  return /^[^=]*:[^=]*$/.test(part);
}

/** A comma belongs to the path if what follows is neither an option's name nor of the form KEY=VALUE. */
function isPartOfPath(part: string): boolean {
  return !OVERLAY_WORD.test(part) && !(part !== "" && WORDS.has(part)) && !KEY.test(part) &&
    !Object.hasOwn(ATTRIBUTES, part.split("=", 1)[0] as string); // such as exec=recursive
}

const OVERLAY_WORD =
  /^(volatile|userxattr|(no)?override_creds|default_permissions|(lowerdir|upperdir|workdir|datadir|index|metacopy|redirect_dir|xino|nfs_export|uuid|verity|fsync|casefold)(\+?=.*)?)$/s;
const KEY = /^(X-|x-|uidmap=|gidmap=|(fs|def|root)?context=|comment=|user=)/;

/** A regular expression would do, but for a long text its engine runs out of stack. */
function commaParts(entry: string): string[] {
  const parts: string[] = [];
  let start = 0;
  let quoted = false;
  for (let at = 0; at < entry.length; at++) {
    const code = entry.charCodeAt(at);
    if (code === QUOTE) quoted = !quoted;
    else if (code === BACKSLASH) at++; // the character after it is none of these
    else if (code === COMMA && !quoted) {
      parts.push(entry.slice(start, at));
      start = at + 1;
    }
  }
  parts.push(entry.slice(start));
  return parts;
}

const QUOTE = 34; // ASCII
const COMMA = 44;
const BACKSLASH = 92;
