import { parseOptions } from "../../linux/spec/options.ts";
import { assertEquals } from "../assert.ts";

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
