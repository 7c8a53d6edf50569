import { parseMounts } from "../../mod.ts";
import { parseOptions } from "../../linux/spec/options.ts";
import { splitOptions } from "../../linux/spec/split_options.ts";
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
