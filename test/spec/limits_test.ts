import { fitsFsconfig, fitsString, refuseLongData } from "../../linux/spec/limits.ts";
import { assertEquals, assertThrows } from "../assert.ts";

Deno.test("a string of 255 bytes fits into fsconfig(2), and none of 256", () => {
  for (const [text, bytes] of [["x", 1], ["ä", 2], ["→", 3], ["😀", 4]] as const) {
    const most = Math.floor(255 / bytes);
    assertEquals(fitsString(text.repeat(most)), true, text);
    assertEquals(fitsString(text.repeat(most + 1)), false, text);
  }
});

Deno.test("fsconfig(2) takes an option's key and value apart, each of them of 255 bytes", () => {
  const source = "s";
  assertEquals(fitsFsconfig({ source, data: [`key=${"x".repeat(255)}`, "flag"] }), true);
  assertEquals(fitsFsconfig({ source, data: [`key=${"x".repeat(256)}`] }), false);
  assertEquals(fitsFsconfig({ source: "x".repeat(256), data: [] }), false);
});

Deno.test("options of more than 4095 bytes are refused if one of them needs mount(2)", () => {
  const data = (bytes: number) => [`a=${"x".repeat(300)}`, "y".repeat(bytes - 303)];
  refuseLongData({ source: "s", data: data(4095) }, false);
  assertThrows(() => refuseLongData({ source: "s", data: data(4096) }, false), TypeError, "4096 bytes long");
  const wide = ["a=" + "ä".repeat(2046), "b"]; // 4095 characters would be fewer
  assertThrows(() => refuseLongData({ source: "s", data: wide }, false), TypeError, "4096 bytes long");
  refuseLongData({ source: "s", data: Array.from({ length: 100 }, () => "x".repeat(200)) }, false);
});

Deno.test("an id map needs fsconfig(2), and so no option is longer than it takes", () => {
  const long = { source: "s", data: ["x".repeat(256)] };
  refuseLongData(long, false);
  assertThrows(() => refuseLongData(long, true), TypeError, "255 bytes");
  assertThrows(() => refuseLongData({ source: "x".repeat(256), data: [] }, true), TypeError, "255 bytes");
});
