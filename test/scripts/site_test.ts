import { writeSite } from "../../scripts/site.ts";
import { assertEquals, assertMatch } from "../assert.ts";

Deno.test("every link of the pages leads to a file and a heading, and each page of docs/ is in the site", {
  permissions: { read: true, write: true },
}, async () => {
  const directory = await Deno.makeTempDir();
  try {
    assertEquals(writeSite(directory), []);
    const page = await Deno.readTextFile(`${directory}/docs/options.html`);
    assertMatch(page, /<a href="\.\.\/index\.html">denomount<\/a>/);
    assertMatch(page, /<div class="wide"><table>/);
    assertEquals(page.match(/href="[^":]*\.md[#"]/), null);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
