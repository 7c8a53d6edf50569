import { assertEquals, assertMatch } from "../assert.ts";
import { sandboxTest } from "./users.ts";

sandboxTest(
  "a box tells what its commands have changed, and nothing that it has made itself",
  {},
  async (t) => {
    const [changes, kept, layer, several, none, running, host] = await t.run(`
    const project = dir + "/project";
    Deno.mkdirSync(project + "/sub", { recursive: true });
    for (const name of ["a", "b", "sub/c"]) Deno.writeTextFileSync(project + "/" + name, name);
    const list = async (box) => (await Array.fromAsync(box.changes())).map(({ overlay, kind, path }) => [overlay, kind, path]);
    {
      await using box = await sandbox({
        overlay: [project], hidden: [project + "/sub/none/deeper"], tmpfs: [project + "/scratch"], cwd: project,
      });
      await sh(box, "echo 1 > a; rm b; mkdir new; echo 2 > new/d; mv sub/c sub/e; echo 3 > scratch/f");
      say(await list(box));
      await box.keep(dir + "/kept");
      say([Deno.readTextFileSync(dir + "/kept/a"), Deno.readTextFileSync(dir + "/kept/new/d")]);
      await box.exportLayer((await Deno.create(dir + "/layer.tar")).writable);
      const { stdout } = await new Deno.Command("tar", { args: ["tf", dir + "/layer.tar"] }).output();
      say(new TextDecoder().decode(stdout));
    }
    {
      await using box = await sandbox({ overlay: [project, project + "/sub"] });
      await sh(box, "echo 1 > " + project + "/sub/c; echo 2 > " + project + "/a");
      let refused; try { await box.keep(dir + "/never"); } catch (error) { refused = error.name + ": " + error.message; }
      say([await list(box), refused]);
    }
    {
      await using box = await sandbox();
      let refused; try { await box.exportLayer(new WritableStream()); } catch (error) { refused = error.message; }
      say([await list(box), refused]);
    }
    {
      const lower = ["--overlay-src", project, "--overlay-src", project + "/sub", "--tmp-overlay", "/mnt"];
      Deno.mkdirSync(dir + "/other"); Deno.writeTextFileSync(dir + "/other/o", "o"); lower[3] = dir + "/other";
      const plan = await fromBwrapArgs(["--ro-bind", "/", "/", ...lower, "sh", "-c", "echo > /mnt/o; rm /mnt/a; exec sleep 60"]);
      await using box = await plan.start();
      const child = plan.spawn(box);
      let found = []; while (found.length < 2) found = await list(box);
      child.kill();
      say(found);
    }
    say(["a", "b", "sub/c"].map((name) => Deno.readTextFileSync(project + "/" + name)));
  `);
    const project = `${t.dir}/project`;
    assertEquals(changes, [
      [project, "modified", "a"],
      [project, "removed", "b"],
      [project, "added", "new"],
      [project, "added", "new/d"],
      [project, "removed", "sub/c"],
      [project, "added", "sub/e"],
    ]);
    assertEquals(kept, ["1\n", "2\n"]);
    assertMatch(layer, /^\.\/\n.*a\n/);
    assertEquals(several[0], [[project, "modified", "a"], [`${project}/sub`, "modified", "c"]]);
    assertMatch(several[1], /TypeError: the box has several overlays/);
    assertEquals(none, [[], "the box has no overlay"]);
    assertEquals(running, [["/mnt", "removed", "a"], ["/mnt", "modified", "o"]]);
    assertEquals(host, ["a", "b", "sub/c"]);
  },
);
