import { promises, testNames, wrongPromises } from "../../scripts/security.ts";
import { assertEquals } from "../assert.ts";

const page = `# Security

- **P1** A mount is
  a mount.
  - [test/a_test.ts](test/a_test.ts): "one of
    two"
  - [test/a_test.ts](test/a_test.ts): "with …"
- **P3** Another.

## Else

- **P4** is no promise here
`;

Deno.test("each promise of SECURITY.md names a test that exists, and they are numbered in their order", () => {
  const text =
    'kernelTest(\n  "one of two", {});\nfor (const a of b) Deno.test(`with ${a.name}`, () => {});\n';
  assertEquals(testNames(text), ["one of two", "with …"]);
  assertEquals(wrongPromises(promises(page), () => text), ["P3: is promise 2", "P3: names no test"]);
  assertEquals(wrongPromises(promises(page), () => 'kernelTest("one of", {})').slice(0, 2), [
    'P1: test/a_test.ts has no test "one of two"',
    'P1: test/a_test.ts has no test "with …"',
  ]);
  assertEquals(wrongPromises(promises(page), () => undefined)[0], "P1: test/a_test.ts does not exist");
});
