/**
 * Swaps two names in a loop, until its standard input ends.
 *
 *     deno run --allow-ffi test/race/swapper.ts ONE OTHER
 *
 * @module
 */

const AT_FDCWD = -100;
const RENAME_EXCHANGE = 2; // linux/fs.h
const SWAPS_PER_TURN = 201; // odd: between the turns, too, either of the two has the name

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  renameat2: { parameters: ["i32", "buffer", "i32", "buffer", "u32"], result: "i32" },
});
const [one, other] = Deno.args.map((path) => new TextEncoder().encode(path + "\0"));
if (one === undefined || other === undefined) throw new TypeError("two names are needed");

let ended = false;
Deno.stdin.read(new Uint8Array(1)).then(() => ended = true);
console.log("ready");
while (!ended) {
  for (let count = 0; count < SWAPS_PER_TURN; count++) {
    libc.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
  }
  await new Promise((resolve) => setTimeout(resolve));
}
