/**
 * Where the library means something else than mount(8), and where an older mount(8) differs from the newest. Law L1: a
 * word does what it says, or is refused by name, and of two that contradict each other the last one counts. Law L3: what
 * is mounted grants nothing that its source withholds.
 *
 * @module
 */

import type { Explanation } from "./compare.ts";
import type { Line } from "./lines.ts";

const has = (word: RegExp) => ({ words }: Line) => words.some((each) => word.test(each));
const repeats = (word: RegExp) => ({ words }: Line) => words.filter((each) => word.test(each)).length > 1;
const isBind = ({ kind }: Line) => kind === "bind" || kind === "rbind";
const isRestricted = (line: Line) => isBind(line) && line.source.endsWith("/restricted");
const bindWith = (word: RegExp) => (line: Line) => isBind(line) && has(word)(line);

const PROPAGATION = /^r?(shared|slave|private|unbindable)$/;
const ATIME = /^(no)?(rel|strict)?atime(=|$)/;

const GRANTS = [["rw", "ro"], ["suid", "nosuid"], ["dev", "nodev"], ["exec", "noexec"], [
  "symfollow",
  "nosymfollow",
]] as const;

/** The differences that are meant, each with its reason. */
export const EXPLAINED: readonly Explanation[] = [
  {
    reason: "A bind refuses a flag of the file system; mount(8) drops it (L1).",
    when: bindWith(/^(sync|dirsync|lazytime|mand|ro=fs|rw=fs)$/),
    difference: /^only the library fails: .* a bind mount can't change "/,
  },
  {
    reason: "A bind refuses an unknown option; mount(8) drops it (L1).",
    when: bindWith(/^unknown$/),
    difference: /^only the library fails: .* a bind mount knows no option "unknown"/,
  },
  {
    reason: "No file system knows nosuid=fs and the like, which are refused; mount(8) drops them (L1).",
    when: has(/^(?!r[ow]=)\w+=fs$/),
    difference: /^only the library fails: .* is about a mount, and no file system knows it/,
  },
  {
    reason: "X-mount.auto-fstypes= is refused beside a type other than auto; mount(8) drops it (L1).",
    when: has(/^X-mount\.auto-fstypes=/),
    difference: /^only the library fails: .* is about the type "auto"/,
  },
  {
    reason: "fsconfig(2) has no flag for iversion, which is refused; mount(8) drops it (L1).",
    when: has(/^iversion$/),
    difference: /^only the library fails: .*'iversion'/,
  },
  ...GRANTS.map(([word, attribute]) => ({
    reason:
      `On a bind of a source that is ${attribute}, ${word} says nothing (L3); mount(8) lifts ${attribute}.`,
    when: (line: Line) => isRestricted(line) && has(new RegExp(`^${word}(=|$)`))(line),
    difference: new RegExp(
      `^/target\\S*: attribute (${attribute}: only by the library|${word}: only by mount)`,
    ),
  })),
  {
    reason: "A bind with rw of a read-only source stays read-only (L3), and its root can't be changed.",
    when: (line) => isRestricted(line) && has(/^rw(=|$)/)(line),
    difference: /^only the library fails: .*Read-only file system \(EROFS\)/,
  },
  {
    reason: "user=NAME implies what user implies; for mount(8) it implies nothing.",
    when: has(/^user=/),
    difference: /^\/target: attribute no(suid|dev|exec): only by the library/,
  },
  {
    reason:
      "A bind with X-mount.subdir= binds the directory below its source; mount(8) binds the source (L1).",
    when: bindWith(/^X-mount\.subdir=/),
    difference:
      /^(only the library fails: .*(does not exist|EROFS)|\/target\S*: |the root: |the mountpoints: |only mount\(8\) fails)/,
  },
  {
    reason:
      "An overlay gets an id map by its layers; mount(8) tries to map the overlay, which the kernel refuses.",
    when: (line) => line.kind === "overlay" && has(/^X-mount\.idmap=/)(line),
    difference: /^only mount\(8\) fails: .*cannot set ID-mapping|^\/target: super option lowerdir\+=/,
  },
  {
    reason:
      "Of two owners, groups, modes, subdirs or id maps the last one counts; mount(8) takes the first (L1).",
    when: (line) =>
      [/\.owner=/, /\.group=/, /\.mode=/, /\.subdir=/, /\.idmap=/].some((word) => repeats(word)(line)),
    difference: /^the root: |^\/target: root: |^only .*does not exist/,
  },
  {
    reason: "Of two X-mount.mkdir the last one counts; mount(8) takes the first (L1).",
    when: repeats(/^x-mount\.mkdir/i),
    difference: /^the mountpoint: /,
  },
  {
    reason:
      "ro=vfs leaves the loop device writable; mount(8) attaches it read-only, and then fails to mount it.",
    when: (line) => line.kind === "ext4" && has(/^ro=/)(line),
    difference: /^only mount\(8\) fails: .*cannot mount \S+ read-only/,
  },
  {
    reason: "Of ro and rw each layer takes its own last word; mount(8) takes the last of all layers (L1).",
    when: (line) => repeats(/^r[ow](=|$)/)(line) && has(/^r[ow]=/)(line),
    difference: /^\/target: (attribute|super option) r[ow]: only by/,
  },
  {
    reason:
      "After noexec=recursive, exec takes it back from the top mount alone, as OCI's words do; mount(8) from all.",
    when: (line) => line.kind === "rbind" && has(/=recursive$/)(line),
    difference:
      /^\/target\/\S*: attribute (ro|no\w+): only by the library|^\/target\/\S*: attribute rw: only by mount/,
  },
  {
    reason:
      "norelatime after relatime is the kernel's default; mount(8) goes back to a strictatime before both.",
    when: (line) => has(/^relatime/)(line) && has(/^norelatime/)(line) && has(/^strictatime/)(line),
    difference: /^\/target: attribute relatime: only by the library/,
  },
  {
    reason: "user before nouser implies nothing; before 2.39 mount(8) does not take it back.",
    when: has(/^no(users?|owner|group)$/),
    difference: /^\/target: attribute no(suid|dev|exec): only by mount/,
    before: 2.39,
  },
  {
    reason:
      "A later word counts against noatime=recursive and the like; mount(8) sets what is recursive last (L1).",
    when: (line) => repeats(ATIME)(line) && has(/=recursive$/)(line),
    difference: /^\/target: attribute (noatime|relatime): only by/,
  },
  {
    reason:
      "nofail is for boot scripts; mount(8) takes it for a missing X-mount.subdir= too, and mounts nothing.",
    when: (line) => has(/^nofail$/)(line) && has(/^X-mount\.subdir=/)(line),
    difference: /^only the library fails: .* does not exist/,
  },
  {
    reason: "A propagation that is named twice counts; mount(8) 2.42 then drops it.",
    when: repeats(PROPAGATION),
    difference: /^\/target\S*: propagation: /,
  },
  {
    reason: "X-mount.noloop contradicts loop; mount(8) 2.38 does not know it.",
    when: has(/^X-mount\.noloop$/),
    difference: /^only the library fails: .* contradict each other/,
    before: 2.42,
  },
  {
    reason: "Words such as ro=vfs and ro=recursive came with mount(8) 2.39.",
    when: has(/=(vfs|fs|recursive)$/),
    difference: /^only mount\(8\) fails: |: (attribute|super option) /,
    before: 2.39,
  },
  {
    reason: "X-mount.idmap=, owner=, group= and mode= came with mount(8) 2.39.",
    when: has(/^X-mount\.(idmap|owner|group|mode)=/),
    difference:
      /^the root: |^only the library fails: .*(EROFS|EOVERFLOW|id-map)|: attribute idmapped: only by the library/,
    before: 2.39,
  },
  {
    reason:
      "mount(8) 2.38 carries out X-mount.subdir= in another mount namespace, and the mount stays in it.",
    when: has(/^X-mount\.subdir=/),
    difference: /^the mountpoints: ".*" by the library, "" by|^the root: |^only mount\(8\) fails/,
    before: 2.39,
  },
  {
    reason:
      "Before 2.39 mount(8) sets all attributes of a bind, and those of its source that are not named are lost.",
    when: isRestricted,
    difference:
      /^\/target: attribute ((ro|no\w+|relatime): only by the library|(rw|noatime|relatime): only by mount)/,
    before: 2.39,
  },
  {
    reason:
      "Before 2.39 mount(8) passes all access time flags to mount(2), which prefers noatime to the last word.",
    when: repeats(ATIME),
    difference: /^\/target: attribute (no|rel)?atime: /,
    before: 2.39,
  },
  {
    reason: "Before 2.39 a propagation makes a bind recursive or not, whatever the word for the bind says.",
    when: bindWith(PROPAGATION),
    difference: /^the mountpoints: /,
    before: 2.39,
  },
  {
    reason: "Before 2.39 mount(8) does not remount a bind for strictatime or diratime alone.",
    when: bindWith(/^(strictatime|diratime)(=|$)/),
    difference: /^\/target: attribute (relatime|nodiratime): only by mount/,
    before: 2.39,
  },
];
