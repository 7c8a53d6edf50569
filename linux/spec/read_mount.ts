/**
 * Mounts from outside: objects whose fields are checked, and lists as JSON in containerd's and OCI's shapes.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";
import type { Mount } from "./mount.ts";

const FIELDS = new Set(["type", "source", "target", "options"]);

// What other programs call the fields.
const HINTS: Readonly<Record<string, string>> = {
  destination: "target",
  dest: "target",
  dst: "target",
  mountpoint: "target",
  path: "target",
  src: "source",
  device: "source",
  what: "source",
  option: "options",
  flags: "options",
  fstype: "type",
  fs: "type",
  vfstype: "type",
};

/**
 * Checks the fields of a mount.
 *
 * @param mount the mount as the caller gave it.
 * @returns a mount with every field; `null`, as Go writes it, is an absent field.
 * @throws {TypeError} that names the field which is missing, of a wrong type, or none of a mount.
 */
export function checkMount(mount: Mount): Required<Mount> {
  if (typeof mount !== "object" || mount === null || Array.isArray(mount)) {
    throw new TypeError(`a mount must be an object, got ${kindOf(mount)}`);
  }
  for (const field in mount) if (!FIELDS.has(field)) throw new TypeError(unknownField(field));
  const { type, source, target, options } = mount as Partial<Mount>;
  return {
    type: requireText(type, "type"),
    source: requireText(source, "source"),
    target: target === undefined || target === null ? "/" : requireText(target, "target"),
    options: options === undefined || options === null ? NO_OPTIONS : requireWords(options),
  };
}

const NO_OPTIONS: readonly string[] = [];

function unknownField(field: string): string {
  const name = field.toLowerCase();
  const meant = FIELDS.has(name) ? name : Object.hasOwn(HINTS, name) ? HINTS[name] : undefined;
  return `${quote(field)} is no field of a mount${
    meant === undefined ? "" : `: it is called "${meant}" here`
  }`;
}

function requireText(value: unknown, field: string): string {
  if (typeof value === "string") return value;
  if (value === undefined || value === null) throw new TypeError(`"${field}" is missing`);
  throw new TypeError(`"${field}" must be a string, got ${kindOf(value)}`);
}

function requireWords(value: unknown): readonly string[] {
  if (!Array.isArray(value)) throw new TypeError(`"options" must be a list of strings, got ${kindOf(value)}`);
  for (const word of value) {
    if (typeof word !== "string") {
      throw new TypeError(`"options" must hold strings only, got ${kindOf(word)}`);
    }
  }
  return value;
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  return value === undefined ? "undefined" : `a ${typeof value}`;
}

type Fields = Record<string, unknown>;

/**
 * Reads a list of mounts from JSON: containerd's shape with lower-case or Go's capital keys, OCI's with `destination` and
 * `uidMappings`, or an object that has the list under `mounts`, as OCI's config.json. It makes no system call.
 *
 * @param json the text; a byte order mark at its beginning is skipped.
 * @param name the text's name for errors, such as a file's path.
 * @returns the mounts.
 * @throws {TypeError} if the text is no list of mounts; the message names the entry and the field.
 *
 * @example
 * ```ts
 * import { parseMounts } from "@denomount/mount";
 *
 * const [mount] = parseMounts('[{"Type": "bind", "Source": "/usr", "Target": "", "Options": ["rbind", "ro"]}]');
 * console.log(mount?.source); // "/usr"
 * ```
 */
export function parseMounts(json: string, name = "the list"): Mount[] {
  let value: unknown;
  try {
    value = JSON.parse(json.replace(/^\ufeff/, ""));
  } catch (error) {
    throw new TypeError(`${name}: ${error instanceof Error ? error.message.replaceAll("\n", " ") : error}`);
  }
  if (isFields(value) && Array.isArray(value.mounts)) value = value.mounts;
  if (value === null) return [];
  if (!Array.isArray(value)) throw new TypeError(`${name}: must be a list of mounts, got ${kindOf(value)}`);
  return value.map((entry, index) => {
    try {
      return readEntry(entry);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      throw new TypeError(`${name}: entry ${index + 1}: ${error.message}`);
    }
  });
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function readEntry(entry: unknown): Mount {
  if (!isFields(entry)) throw new TypeError(`must be an object, got ${kindOf(entry)}`);
  const fields: Fields = {};
  for (const [key, value] of Object.entries(entry)) {
    const name = key === "destination" ? "target" : key.toLowerCase();
    if (Object.hasOwn(fields, name)) throw new TypeError(`${quote(name)} stands twice`);
    fields[name] = value;
  }
  const { uidmappings, gidmappings, ...rest } = fields;
  const maps = [...readMappings("uid", uidmappings), ...readMappings("gid", gidmappings)];
  const { type, source, target, options } = checkMount(
    { ...rest, type: rest.type ?? "", source: rest.source ?? "" } as Mount,
  );
  const words = [...options, ...maps];
  return {
    type,
    source,
    ...(rest.target === undefined || rest.target === null || target === "" ? {} : { target }),
    ...(words.length === 0 ? {} : { options: words }),
  };
}

/** OCI writes id maps as objects beside the options. */
function readMappings(kind: "uid" | "gid", value: unknown): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new TypeError(`"${kind}Mappings" must be a list, got ${kindOf(value)}`);
  const ranges = value.map((range) => {
    const { containerID, hostID, size } = isFields(range) ? range : {};
    if ([containerID, hostID, size].some((number) => typeof number !== "number")) {
      throw new TypeError(`"${kind}Mappings" holds objects with the numbers containerID, hostID and size`);
    }
    return `${containerID}:${hostID}:${size}`;
  });
  return ranges.length === 0 ? [] : [`${kind}map=${ranges.join(",")}`];
}
