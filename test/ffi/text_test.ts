import { decodeName, encodeName, quote, shown, unescapeOctal } from "../../ffi/text.ts";
import { assert, assertEquals, assertThrows } from "../assert.ts";

const utf8 = new TextEncoder();
const hex = (text: string) => Uint8Array.fromHex(text.replaceAll(" ", ""));

/** Each byte as a lone surrogate. */
const escaped = (bytes: Uint8Array) => String.fromCharCode(...[...bytes].map((byte) => 0xdc00 + byte));

Deno.test("decodeName() decodes UTF-8, also at its borders, and keeps a byte order mark", () => {
  const texts = [
    "",
    "plain",
    "\ufeffmark",
    "\u0080\u07ff\u0800\ud7ff\ue000\uffff\u{10000}\u{10ffff}",
    "a\ufffdb",
    "\u{1f600}".repeat(3000),
  ];
  for (const text of texts) {
    assertEquals(decodeName(utf8.encode(text)), text);
    assertEquals(encodeName(text), utf8.encode(text));
    const broken = Uint8Array.from([...utf8.encode(text), 0xff]); // decoded character by character
    assertEquals(decodeName(broken), text + "\udcff");
    assertEquals(encodeName(text + "\udcff"), broken);
  }
});

Deno.test("decodeName() escapes each byte that is not UTF-8, and encodeName() restores it", () => {
  const invalid = [
    "80", // a byte that only continues
    "c0 80", // overlong, of two, three and four bytes
    "c1 bf",
    "e0 9f bf",
    "f0 8f bf bf",
    "ed a0 80", // surrogates
    "ed bf bf",
    "f4 90 80 80", // above U+10FFFF
    "f5 80 80 80",
    "c3", // truncated
    "e2 82",
    "f0 9f 98",
    "ff fe",
  ];
  for (const bytes of invalid.map(hex)) {
    assertEquals(decodeName(bytes), escaped(bytes));
    assertEquals(encodeName(escaped(bytes)), bytes);
    const between = Uint8Array.from([0x61, ...bytes, 0x62]);
    assertEquals(decodeName(between), `a${escaped(bytes)}b`);
    assertEquals(encodeName(`a${escaped(bytes)}b`), between);
  }
  const long = new Uint8Array(10_000).map((_, index) => index % 3 === 0 ? 0xff : 0x61);
  assertEquals(encodeName(decodeName(long)), long);
  assertEquals(decodeName(long).length, long.length);
});

Deno.test("encodeName() refuses a text that decodeName() does not return", () => {
  const refused = [
    "\ud800",
    "\udc7f",
    "\udc00",
    "\udd00",
    "\udcc3\udca9",
    "a\udce2\udc82\udcac",
    "\ude00\udcff",
  ];
  for (const text of refused) assertThrows(() => encodeName(text), TypeError, "contains a lone surrogate");
});

Deno.test("unescapeOctal() decodes the escapes of mountinfo, and nothing else", () => {
  const cases = [
    ["a\\040b\\011c\\012d\\134e\\043", "a b\tc\nd\\e#"],
    ["\\134040", "\\040"], // an escaped backslash before digits
    ["\\303\\244", "ä"],
    ["\\377", "\udcff"],
    ["\\303", "\udcc3"],
    ["\\400", "\\400"], // above a byte
    ["\\048\\04", "\\048\\04"],
    ["\\", "\\"],
    ["\\/41", "\\/41"],
    ["ä\\040ö", "ä ö"],
  ] as const;
  for (const [text, plain] of cases) assertEquals(unescapeOctal(text), plain, text);
});

Deno.test("quote() and shown() escape control characters and lone surrogates, and cut a long text", () => {
  assertEquals(quote('a"\n\x7f'), '"a\\"\\n\x7f"');
  assertEquals(quote("a".repeat(200)), `"${"a".repeat(200)}"`);
  assertEquals(quote("a".repeat(201)), `"${"a".repeat(200)}"… (201 characters)`);
  assertEquals(shown("/a\n\x1b[31m\x7f\x9b\udcff'\"ä"), "/a\\n\\u001b[31m\\u007f\\u009b\\udcff'\"ä");
  assertEquals(shown("a".repeat(300)), "a".repeat(300));
  assertEquals(shown("a".repeat(301)), `${"a".repeat(300)}… (301 characters)`);
  assertEquals(shown("abcdef", 3), "abc… (6 characters)");
  assert(!shown("\u0000").includes("\u0000"));
});
