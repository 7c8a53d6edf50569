import { InvalidArgumentError, type SnapshotsClient } from "../../containerd/mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { containerdTest, Daemon } from "./daemon.ts";
import { serving } from "./small_snapshotter.ts";

const filters = [
  "name==a",
  "name==b.c",
  'name=="b.c"',
  "name!=a",
  "name~=a",
  "name~=^a$",
  'name~="^[ab]"',
  "name~=/^a|b/",
  "name~=|^a|",
  "kind==active",
  "kind==committed",
  "kind==view",
  "kind",
  "nothing",
  "nothing!=x",
  "parent==l",
  "parent==",
  'parent==""',
  "parent!=l",
  "labels",
  "labels.one",
  "labels.one==1",
  'labels."one"==1',
  "labels.one!=1",
  'labels."a.b/c"==d',
  "labels.a.b",
  'labels.a."b/c"',
  "labels.one~=[0-9]",
  'labels.text=="x, y"',
  'labels.text=="x\\u002c y"',
  "labels.text=='x, y'",
  "labels.text==`x`",
  "kind==active,labels.one",
  "kind==active,",
  ",kind==active",
  "kind==active kind==view",
  "kind = active",
  "kind=active",
  "kind===active",
  "",
  "==",
  "name==",
  "name==a b",
  'name==a"b',
  "na-me==a",
  "name.==a",
  ".name==a",
  "1==1",
  "_==1",
  'labels."unfinished',
  "labels.text~=(?i)X",
  "name~=/a\\/b/",
  "name~=/",
  "kind<active",
  "name==a,name==b.c",
  "name!=a,name!=b.c",
  "labels.été==1",
  'labels."été"==1',
  "name==été",
  "name==/a/",
  "name==|a|",
  "name==a/b",
  "name==a|b",
  "name=='a'",
];

containerdTest(
  "each filter finds what it finds in containerd, and is refused where it is refused there",
  async (t) => {
    await using daemon = await Daemon.start(`${t.dir}/d`);
    await using containerd = daemon.client();
    await serving(t, async (snapshots) => {
      const both = { ours: snapshots, theirs: containerd.snapshots("native") };
      const labels = { one: "1", "a.b/c": "d", text: "x, y", "été": "1" };
      for (const each of Object.values(both)) {
        await each.prepare("l-a", "");
        await each.commit("l", "l-a", { labels: { layer: "yes" } });
        await each.prepare("a", "l", { labels });
        await each.prepare("b.c", "");
        await each.prepare("été", "", { labels: { one: "2" } });
        await each.view("v", "l");
      }
      const listed = async (each: SnapshotsClient, filters: string[]) => {
        try {
          return (await Array.fromAsync(each.list({ filters }))).map(({ name }) => name).sort().join(" ");
        } catch (error) {
          // containerd has the words, but not the code.
          return error instanceof InvalidArgumentError || `${error}`.endsWith(": invalid argument")
            ? "refused"
            : `${error}`;
        }
      };
      const different: string[] = [];
      let refused = 0;
      for (const filter of filters) {
        const [ours, theirs] = [await listed(both.ours, [filter]), await listed(both.theirs, [filter])];
        if (theirs === "refused") refused++;
        if (ours !== theirs) different.push(`${filter}: ${ours}; containerd: ${theirs}`);
      }
      assertEquals(different, []);
      assert(refused >= 10, `${refused} are refused`);
      for (const several of [["kind==view", "name==a"], ["name==none", "kind==none"], ["name==a", ""]]) {
        assertEquals(
          await listed(both.ours, several),
          await listed(both.theirs, several),
          several.join(" or "),
        );
      }
    });
  },
);
