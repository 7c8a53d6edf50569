import { changedOverlayOptions } from "../../linux/spec/overlay_remount.ts";
import { keyAndValue, overlayData, parseOverlayOptions } from "../../linux/spec/overlay_options.ts";
import { assertEquals, assertThrows } from "../assert.ts";

const long = Array.from({ length: 300 }, (_, index) => `/layer/${index}`);

const lists: [options: string[], lower: string[], dataOnly: string[]][] = [
  [["lowerdir=/a:/b"], ["/a", "/b"], []],
  [["lowerdir=/a::/b::/c"], ["/a"], ["/b", "/c"]],
  [["lowerdir=/a\\:b:/c\\\\"], ["/a:b", "/c\\"], []],
  [["lowerdir=/a\\:::/b\\:c"], ["/a:"], ["/b:c"]],
  [["lowerdir=/a::/b", "lowerdir=/c"], ["/c"], []],
  [["lowerdir+=/a:b", "lowerdir+=/c\\", "datadir+=/d:e"], ["/a:b", "/c\\"], ["/d:e"]],
  [["lowerdir=/a", "lowerdir+=/b"], ["/a", "/b"], []],
  [[`lowerdir=${long.join(":")}`], long, []],
  [[`lowerdir=${long.join(":")}::/data`], long, ["/data"]],
];

Deno.test("a colon separates layers, two colons data-only layers, and a backslash keeps a colon in a name", () => {
  for (const [options, lower, dataOnly] of lists) {
    const parsed = parseOverlayOptions(options);
    assertEquals([parsed.lower, parsed.dataOnly, parsed.rest], [lower, dataOnly, []], options.join(" "));
  }
  for (
    const option of [
      "lowerdir=",
      "lowerdir=/a:",
      "lowerdir=:/a",
      "lowerdir=/a:::/b",
      "upperdir=",
      "datadir+=",
    ]
  ) {
    assertThrows(() => parseOverlayOptions([option]), TypeError, "has no name");
  }
});

Deno.test("an overlay's layers are read again from what mount(2) gets", () => {
  const names = ["/plain", "/a:b", "/a,b", "/a\\b", "/a\\:b,c"];
  const layers = { lower: names, dataOnly: names, upper: "/u:,\\", work: "/w:,\\", rest: ["index=off"] };
  const escaped = ["/plain", "/a\\:b", "/a\\,b", "/a\\\\b", "/a\\\\\\:b\\,c"];
  assertEquals(
    overlayData(layers),
    `lowerdir=${escaped.join(":")}${escaped.map((name) => `::${name}`).join("")},` +
      "upperdir=/u:\\,\\\\,workdir=/w:\\,\\\\,index=off",
  );
});

Deno.test("a parameter's key ends at its first =", () => {
  assertEquals(keyAndValue("a=b=c"), { key: "a", value: "b=c" });
  assertEquals(keyAndValue("a="), { key: "a", value: "" });
  assertEquals(keyAndValue("a"), { key: "a" });
});

Deno.test("a remount drops an overlay's option only if it is so already", () => {
  const now = ["lowerdir=/a:/b::/d", "upperdir=/u", "workdir=/w", "index=off"];
  assertEquals(changedOverlayOptions([...now, "upperdir=/u\\\\", "index=off"], now), ["upperdir=/u\\\\"]);
  for (
    const other of [
      "lowerdir=/a",
      "lowerdir=/a:/b",
      "lowerdir=/a:/b::/e",
      "lowerdir=/a:/b::/d::/e",
      "lowerdir=/b:/a::/d",
      "upperdir=/v",
      "workdir=/v",
      "index=on",
      "metacopy=off",
    ]
  ) {
    assertEquals(changedOverlayOptions([other], now), [other]);
  }
});
