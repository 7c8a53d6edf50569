/**
 * The tables of the record.
 *
 * @module
 */

/** The application id: this library's. */
export const APPLICATION = 0x646e6d74; // "dnmt", in the header of the file
/** The version of the format. */
export const VERSION = 1;

/** The statements that make the tables. */
export const SCHEMA = `
  CREATE TABLE activation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    directory TEXT NOT NULL,
    boot TEXT NOT NULL,
    namespace TEXT NOT NULL,
    labels TEXT NOT NULL,
    system TEXT NOT NULL
  ) STRICT;
  CREATE TABLE mount (
    activation INTEGER NOT NULL REFERENCES activation (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    handler TEXT,
    mount_point TEXT NOT NULL,
    mount TEXT NOT NULL,
    data TEXT NOT NULL,
    mount_id TEXT,
    mounted_at INTEGER,
    PRIMARY KEY (activation, position)
  ) STRICT;
  CREATE TABLE made (
    activation INTEGER NOT NULL REFERENCES activation (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    kind TEXT NOT NULL,
    owned INTEGER NOT NULL,
    file TEXT,
    PRIMARY KEY (activation, path)
  ) STRICT;
`;
