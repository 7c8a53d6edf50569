import {
  allocCString,
  cString,
  decodeCString,
  errnoText,
  readCString,
  refuseBadText,
  scratchCString,
  withStrings,
} from "../../ffi/memory.ts";
import { getUint64AsNumber, Scratch } from "../../ffi/scratch.ts";
import { encodeName } from "../../ffi/text.ts";
import { assert, assertEquals, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { say } from "../use/ways.ts";

/** Fails unless an address has the bytes of a text and a NUL. */
function assertString(address: Deno.PointerValue, text: string): void {
  assert(address !== null);
  const wanted = bytesOf(text);
  const found = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(address, wanted.length));
  if (found.some((byte, index) => byte !== wanted[index])) assertEquals(found, wanted);
}

const bytesOf = (text: string) => Uint8Array.from([...encodeName(text), 0]);

/** Texts at the limits of the ways to encode: forty ASCII characters, 4096 bytes, not ASCII, not UTF-8. */
const texts = [
  "",
  "/mnt",
  "a".repeat(40),
  "a".repeat(41),
  "ä".repeat(20),
  "\u{1f600}/x",
  "x\udcff",
  "a".repeat(4095),
  "a".repeat(4096),
  "a".repeat(4097),
  "ä".repeat(2048),
  "ä".repeat(2047) + "ab",
  "ä".repeat(2047) + "abc",
  "ä".repeat(2047) + "abcd",
  "ä".repeat(2049),
  "a".repeat(70_000),
];

kernelTest("a C string has the bytes of its text and a NUL", {}, () => {
  for (const text of texts) {
    assertEquals(cString(text), bytesOf(text));
    assertString(allocCString(text).address, text);
    for (let again = 0; again < 2; again++) assertString(scratchCString(text), text);
  }
});

kernelTest("a text with a NUL or a lone surrogate is refused, and does not change other strings", {}, () => {
  const bad = ["\0", "a\0b", "a".repeat(50) + "\0", "ä\0", "\ud800", "a".repeat(4096) + "\ud800"];
  for (const text of bad) {
    for (const make of [cString, allocCString, refuseBadText, scratchCString]) {
      assertThrows(() => make(text), TypeError);
    }
    assertThrows(() => withStrings(["/fine", text], () => {}), TypeError);
  }
  assertThrows(() => cString("a\0b"), TypeError, '"a\\u0000b" holds a NUL byte');
  for (const text of bad) {
    const others = Array.from({ length: 16 }, (_, index) => `/other/${index}`);
    for (const other of others) scratchCString(other);
    assertThrows(() => scratchCString(text), TypeError);
    for (const other of others) assertString(scratchCString(other), other);
  }
});

kernelTest("the four strings of a call are all valid, whatever the calls before had", {}, () => {
  // The names are alike: of the same length, with the same characters at the end.
  const names = Array.from({ length: 12 }, (_, index) => `/${"abc"[index % 3]}/${index >> 2}/same`);
  names.push("", "/x\udcff", "y".repeat(5000), "z".repeat(5000), "y".repeat(40), "/ä/same");
  let seed = 1;
  const random = () => seed = seed * 48271 % 0x7fffffff;
  for (let call = 0; call < 1000; call++) {
    const chosen = Array.from({ length: 4 }, () => names[random() % names.length] ?? "");
    const addresses = chosen.map(scratchCString);
    for (const [index, text] of chosen.entries()) {
      assertString(addresses[index] ?? null, text);
    }
  }
});

kernelTest("withStrings() passes each text in order, whatever is beside it", {}, () => {
  const lists = [
    [],
    ["/a", "", "/b"],
    texts.slice(0, 8),
    texts,
    Array.from({ length: 9000 }, (_, index) => `/layer/${index}`), // longer than 64 KiB together
    ["a".repeat(4096), "a".repeat(4097), "b"],
    ["/ä", "/b", "x\udcff"],
  ];
  for (const list of lists) {
    const seen: string[] = [];
    withStrings(list, (address, text) => {
      assertString(address, text);
      seen.push(text);
    });
    assertEquals(seen, list);
  }
});

Deno.test("decodeCString() ends at the NUL, or at the end of the memory", () => {
  const bytes = new TextEncoder().encode("ab\0cd");
  assertEquals([decodeCString(bytes, 0), decodeCString(bytes, 1), decodeCString(bytes, 2)], ["ab", "b", ""]);
  assertEquals(decodeCString(bytes, 3), "cd");
});

kernelTest("strings of the C library are read", {}, () => {
  assertEquals(readCString(null), "");
  assertEquals([errnoText(2), errnoText(16)], ["No such file or directory", "Device or resource busy"]);
});

kernelTest("a 64-bit field is read as a number, exact to 2^53", {}, () => {
  const { view, bytes } = new Scratch(24);
  view.setBigUint64(8, 2n ** 53n - 1n, true);
  assertEquals(getUint64AsNumber(view, 8), 2 ** 53 - 1);
  view.setBigUint64(8, 2n ** 32n + 0x80000000n, true);
  assertEquals([getUint64AsNumber(view, 8), bytes[12]], [2 ** 32 + 0x80000000, 1]);
});

kernelTest("the buffers of a call on another thread live until it returns, and no longer", {
  permissions: { run: true, env: true },
}, async (t) => {
  const program = `import { offThread } from "${new URL("../../ffi/memory.ts", import.meta.url)}";
    const collect = async () => {
      for (let round = 0; round < 3; round++) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        gc();
      }
    };
    let finish, fail;
    const start = (memory, wait) => [new WeakRef(memory), offThread(wait, memory)];
    const [kept, call] = start(new Uint8Array(100_000), () => new Promise((resolve) => finish = resolve));
    const [other, failing] = start(new Uint8Array(100_000), () => new Promise((_, reject) => fail = reject));
    const seen = () => [kept.deref() !== undefined, other.deref() !== undefined];
    await collect();
    console.log(...seen());
    finish(7);
    fail(new Error("failed"));
    console.log(await call, await failing.catch(({ message }) => message));
    await collect();
    console.log(...seen());`;
  Deno.writeTextFileSync(`${t.dir}/program.js`, program);
  const args = [
    "run",
    "--quiet",
    "--no-config",
    "--no-check",
    "--v8-flags=--expose-gc",
    `${t.dir}/program.js`,
  ];
  const { out, err } = await say(Deno.execPath(), args);
  assertEquals([...out, err], ["true true", "7 failed", "false false", ""]);
});
