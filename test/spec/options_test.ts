import { parseMounts } from "../../mod.ts";
import { parseOptions } from "../../linux/spec/options.ts";
import { splitOptions } from "../../linux/spec/split_options.ts";
import { quote } from "../../ffi/text.ts";
import { assertEquals, assertThrows } from "../assert.ts";

const splits: [entry: string, words: string[]][] = [
  ["ro,nosuid", ["ro", "nosuid"]],
  ["ro,,nosuid,", ["ro", "nosuid"]],
  ["workdir=/w,index=off", ["workdir=/w", "index=off"]],
  ["lowerdir=/a:/b,upperdir=/u,workdir=/w,volatile", [
    "lowerdir=/a:/b",
    "upperdir=/u",
    "workdir=/w",
    "volatile",
  ]],
  ["lowerdir=/a\\,b:/c,ro", ["lowerdir=/a\\,b:/c", "ro"]],
  ["lowerdir=/a,b:/c", ["lowerdir=/a,b:/c"]],
  ["uidmap=0:1:2,3:4:5,gidmap=0:1:2,ro", ["uidmap=0:1:2,3:4:5", "gidmap=0:1:2", "ro"]],
  ['context="a:b:c:s0:c1,c2",ro', ['context="a:b:c:s0:c1,c2"', "ro"]],
  ['ro="vfs,recursive",nosuid', ['ro="vfs,recursive"', "nosuid"]],
  ["data=a\\,b,ro", ["data=a\\,b", "ro"]],
  ["workdir=/w,x-mine,ro", ["workdir=/w", "x-mine", "ro"]],
  ["workdir=/w,X-mount.mkdir,comment=a", ["workdir=/w", "X-mount.mkdir", "comment=a"]],
];

for (const [entry, words] of splits) {
  Deno.test(`the entry ${entry} is ${words.length} words`, () => {
    assertEquals(splitOptions(entry), words);
  });
}

Deno.test("parseMounts() reads OCI's names of fields and Go's null", () => {
  const oci = `{"mounts": [{"destination": "/a", "type": "bind", "source": "/s", "options": null,
    "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}]}]}`;
  assertEquals(parseMounts(oci), [
    { type: "bind", source: "/s", target: "/a", options: ["uidmap=0:100000:65536"] },
  ]);
  const containerd = `[{"Type": "tmpfs", "Source": "t", "Target": "", "Options": null}]`;
  assertEquals(parseMounts(containerd), [{ type: "tmpfs", source: "t" }]);
  assertThrows(
    () => parseMounts(`[{"type": "tmpfs", "source": "t", "option": ["ro"]}]`),
    TypeError,
    '"options"',
  );
});

Deno.test("nouser takes back what an earlier user stands for, and nothing else", () => {
  const same = [
    ["user,nouser", ""],
    ["user=me,x-a,nouser", ""],
    ["users,nosuid,nousers", "nosuid"],
    ["nosuid,user,nouser", "nosuid"],
    ["nouser,user", "nosuid,nodev,noexec"],
    ["user,nousers", "nosuid,nodev,noexec"],
    ["user,nouser,owner", "nosuid,nodev"],
    ["group,nogroup,lowerdir=/a,b", "lowerdir=/a,b"],
  ];
  for (const [line = "", other = ""] of same) assertEquals(parseOptions([line]), parseOptions([other]), line);
});

const maps = ["uidmap=0:1000:1", "gidmap=0:2000:1"];

Deno.test("idmap maps the top mount alone, ridmap and the maps alone the tree", () => {
  const topOnly = (...words: string[]) => parseOptions([...words, ...maps]).idMaps?.topOnly;
  assertEquals(topOnly("idmap"), true);
  assertEquals(topOnly("ridmap"), false);
  assertEquals(topOnly("idmap", "ridmap"), false);
  assertEquals(topOnly(), false);
});

Deno.test("X-mount.idmap= has maps for users, for groups and for both, or a namespace file", () => {
  const read = (value: string) => parseOptions([`X-mount.idmap=${value}`]).idMaps;
  assertEquals(read("b:0:1000:1"), { uid: "0 1000 1\n", gid: "0 1000 1\n", topOnly: false });
  assertEquals(read("0:1000:1"), read("b:0:1000:1"));
  assertEquals(read("u:0:1000:1 g:0:2000:2 u:5:6:7"), {
    uid: "0 1000 1\n5 6 7\n",
    gid: "0 2000 2\n",
    topOnly: false,
  });
  assertEquals(read('"  u:10:1000:20  g:30:2000:40 "'), {
    uid: "10 1000 20\n",
    gid: "30 2000 40\n",
    topOnly: false,
  });
  assertEquals(read("/proc/7/ns/user"), { uid: "", gid: "", file: "/proc/7/ns/user", topOnly: false });
});

Deno.test("of two values of a loop device's word the last counts, and K, M, G and T are powers of 1024", () => {
  const loop = (...words: string[]) => parseOptions(["loop", ...words]).loop;
  assertEquals(loop("offset=1", "offset=2", "sizelimit=3,sizelimit=4"), {
    direct: false,
    offset: 2,
    sizeLimit: 4,
  });
  assertEquals(loop("direct-io"), { direct: true });
  const sizes = { "512": 512, "2K": 2048, "2KiB": 2048, "3M": 3 << 20, "1GiB": 2 ** 30, "1T": 2 ** 40 };
  for (const [text, bytes] of Object.entries(sizes)) {
    assertEquals(loop(`offset=${text}`)?.offset, bytes, text);
  }
});

Deno.test("bind and rbind together are recursive, in any order", () => {
  for (const words of [["rbind"], ["rbind", "bind"], ["bind", "rbind"]]) {
    assertEquals(parseOptions(words).recursive, true, `${words}`);
  }
  assertEquals(parseOptions(["bind"]).recursive, false);
});

Deno.test("a propagation word with r changes the whole tree", () => {
  const types = { shared: 1 << 20, slave: 1 << 19, private: 1 << 18, unbindable: 1 << 17 }; // linux/mount.h
  for (const [word, type] of Object.entries(types)) {
    assertEquals(parseOptions([word]).propagation, [{ type, recursive: false }], word);
    assertEquals(parseOptions([`r${word}`]).propagation, [{ type, recursive: true }], word);
  }
});

Deno.test("user, users, owner and group stand for mount(8)'s restrictions", () => {
  for (const word of ["user", "users", "user=me"]) {
    assertEquals(parseOptions([word]), parseOptions(["nosuid", "nodev", "noexec"]), word);
  }
  for (const word of ["owner", "group"]) {
    assertEquals(parseOptions([word]), parseOptions(["nosuid", "nodev"]), word);
  }
});

Deno.test("a layer that keeps its owners may have any name", () => {
  assertEquals(parseOptions(["X-denomount.unmapped=/a\\,b\\\\c"]).unmapped, ["/a,b\\c"]);
});

Deno.test("X-mount.mkdir makes directories of the mode 755 or the given one", () => {
  assertEquals(parseOptions(["X-mount.mkdir"]).xMount.mkdir, 0o755);
  assertEquals(parseOptions(["X-mount.mkdir=0700"]).xMount.mkdir, 0o700);
  assertEquals(parseOptions(['X-mount.mode="7777"']).xMount.mode, 0o7777);
});

Deno.test("an instruction's value is all that is after its first =, without quotes around it", () => {
  const read = (...words: string[]) => parseOptions(words).xMount;
  assertEquals(read("X-mount.subdir=a=b", "X-mount.owner=me", "X-mount.group=12"), {
    subdir: "a=b",
    owner: "me",
    group: "12",
  });
  assertEquals(read('X-mount.subdir="a b"'), { subdir: "a b" });
  assertEquals(read('X-mount.subdir=a"b"'), { subdir: 'a"b"' });
  assertEquals(read('X-mount.subdir="a"b'), { subdir: '"a"b' });
  for (const value of ["", "=source", "=target"]) assertEquals(read(`X-mount.nocanonicalize${value}`), {});
  assertEquals(read("x-mount.mkdir"), { mkdir: 0o755 }); // the older form
  assertEquals(read("x-mount.mkdir=700"), { mkdir: 0o700 });
  assertEquals(read("x-mount.mkdirs", "x-mine=x-mount.mkdir"), {});
});

const refused: [words: string[], message: string][] = [
  [["loop", "X-mount.noloop"], "contradict each other"],
  [["sizelimit=1M"], '"sizelimit=1M" is about a loop device: add "loop"'],
  [["direct-io"], '"direct-io" is about a loop device'],
  [["loop", "offset=9007199254740993"], "is not a number of bytes"],
  [["loop", "offset=9000000T"], "is not a number of bytes"],
  [["loop", "offset=1k"], "is not a number of bytes"],
  [["loop", "sizelimit=-1"], "is not a number of bytes"],
  [["idmap"], '"idmap" needs the maps'],
  [["ridmap"], '"ridmap" needs the maps'],
  [["X-mount.idmap=b:0:1:1", "uidmap=0:1:1"], "contradict each other"],
  [["X-mount.idmap=b:0:1:1", "gidmap=0:1:1"], "contradict each other"],
  [["X-mount.idmap=b:0:1"], '"b:0:1" is not written TYPE:MOUNT:HOST:RANGE'],
  [["X-mount.idmap=b:0:1:1x"], "is not written TYPE:MOUNT:HOST:RANGE"],
  [["X-mount.idmap=xb:0:1:1"], "is not written TYPE:MOUNT:HOST:RANGE"],
  [["X-mount.idmap=c:0:1:1"], "is not written TYPE:MOUNT:HOST:RANGE"],
  [["X-mount.mode=x700"], "a mode is an octal number up to 7777"],
  [["X-mount.mode=700x"], "a mode is an octal number up to 7777"],
  [["X-mount.idmap=u:0:1:1"], "an id map needs at least one range"],
  [["X-mount.mode=10000"], "a mode is an octal number up to 7777"],
  [["X-mount.mode=8"], "a mode is an octal number up to 7777"],
  [["X-mount.mkdir=x"], "a mode is an octal number up to 7777"],
  [["X-mount.mode="], 'needs a value after "="'],
  [["X-mount.owner"], 'needs a value after "="'],
  [["X-mount.noloop=1"], "takes no value"],
  [["X-mount.constructor"], "is no instruction that this library knows"],
  [["X-mount.toString=1"], "is no instruction that this library knows"],
  [["X-mount.nocanonicalize=both"], 'after "=" comes "source" or "target"'],
  [["X-mount.auto-fstypes=ext4"], "name the file system's type"],
  [["X-other"], '"X-other" is no instruction that this library knows'],
  [["X-containerd.mkfs"], "is for a mount manager"],
  [["loop=/dev/loop3"], "names a loop device"],
  [["ro=tree"], 'after "ro=" comes'],
  [["nosuid=fs"], "no file system knows it"],
];
for (const [words, message] of refused) {
  Deno.test(`${words.join(" ")} is refused by name`, () => {
    const { message: text } = assertThrows(() => parseOptions(words), TypeError, message);
    const named = words.some((word) => text.includes(quote(word)) || text.includes(word.split("=")[0] ?? ""));
    assertEquals(named || text.includes("id map"), true, text);
  });
}

const entry = (fields: Record<string, unknown>) =>
  JSON.stringify([{ type: "bind", source: "/s", ...fields }]);

Deno.test("parseMounts() reads OCI's maps for users and groups", () => {
  const range = (containerID: number, hostID: number, size: number) => ({ containerID, hostID, size });
  const fields = { uidMappings: [range(0, 1, 2), range(3, 4, 5)], gidMappings: [range(6, 7, 8)] };
  assertEquals(parseMounts(entry({ ...fields, options: ["rbind"] }))[0]?.options, [
    "rbind",
    "uidmap=0:1:2,3:4:5",
    "gidmap=6:7:8",
  ]);
  assertEquals(parseMounts(entry({ uidMappings: null, gidMappings: [] })), [{ type: "bind", source: "/s" }]);
});

Deno.test("parseMounts() skips a byte order mark, and takes null and an empty list as no mounts", () => {
  assertEquals(parseMounts(`\ufeff${entry({})}`), [{ type: "bind", source: "/s" }]);
  for (const text of ["null", "[]", '{"mounts": []}']) assertEquals(parseMounts(text), [], text);
});

const badLists: [text: string, message: string][] = [
  ["{}", "the list: must be a list of mounts, got an object"],
  ["[", "the list: "],
  ['[{"type": "t", "source": "s"}, 7]', "the list: entry 2: must be an object, got a number"],
  [entry({ target: "/a", destination: "/b" }), 'entry 1: "target" stands twice'],
  [entry({ Source: "/t" }), '"source" stands twice'],
  [entry({ options: ["ro", 7] }), '"options" must hold strings only, got a number'],
  [entry({ options: "ro" }), '"options" must be a list of strings, got a string'],
  [entry({ type: 7 }), '"type" must be a string, got a number'],
  [entry({ target: [] }), '"target" must be a string, got a list'],
  [entry({ fstype: "bind" }), '"fstype" is no field of a mount: it is called "type" here'],
  [entry({ constructor: "x" }), '"constructor" is no field of a mount'],
  [entry({ uidMappings: 7 }), '"uidMappings" must be a list, got a number'],
  [entry({ gidMappings: [{ containerID: 0 }] }), '"gidMappings" holds objects with the numbers'],
];
for (const [text, message] of badLists) {
  Deno.test(`a list with ${message} is refused`, () => {
    assertThrows(() => parseMounts(text), TypeError, message);
  });
}
