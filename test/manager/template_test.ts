import { assertEquals, assertThrows } from "../assert.ts";
import type { ActiveMount } from "../../linux/manager/types.ts";
import { checkTemplates, formatMount } from "../../linux/manager/template.ts";

const active: ActiveMount[] = [0, 1, 2].map((number) => ({
  type: "tmpfs",
  source: `source-${number}`,
  ...number === 1 ? { target: "/inside" } : {},
  mountPoint: `/m/${number}`,
  mountedAt: new Date(0),
  data: {},
}));

const filled: [template: string, text: string][] = [
  ["{{ source 0 }}", "source-0"],
  ["{{ source 2 }}", "source-2"],
  ["{{ target 1 }}", "/inside"],
  ["{{ target 0 }}", ""],
  ["{{ mount 0 }}", "/m/0"],
  ["{{mount 1}}", "/m/1"],
  ["{{   mount \t 1\n}}", "/m/1"],
  ["{{ overlay 0 2 }}", "/m/0:/m/1:/m/2"],
  ["{{ overlay 2 0 }}", "/m/2:/m/1:/m/0"],
  ["{{ overlay 1 2 }}", "/m/1:/m/2"],
  ["{{ overlay 1 1 }}", "/m/1"],
  ["a{{ mount 0 }}b{{ mount 2 }}c", "a/m/0b/m/2c"],
  ["{{ mount 0 }}{{ mount 0 }}", "/m/0/m/0"],
  ["no template } }} {", "no template } }} {"],
  ["", ""],
];

Deno.test("every function of a template is filled, in the source, the target and each option", () => {
  for (const [template, text] of filled) {
    const mount = { type: "bind", source: template, target: template, options: ["ro", template, template] };
    assertEquals(formatMount(mount, active), {
      type: "bind",
      source: text,
      target: text,
      options: ["ro", text, text],
    });
    checkTemplates(mount, active.length);
  }
});

Deno.test("what a template stands for is not filled again, and a field that is left out stays so", () => {
  const nested = active.map((mount) => ({ ...mount, source: "{{ mount 0 }}", mountPoint: "/{{/$&" }));
  const mount = { type: "bind", source: "{{ source 0 }}{{ mount 1 }}" };
  assertEquals(formatMount(mount, nested), { type: "bind", source: "{{ mount 0 }}/{{/$&" });
});

const broken: [template: string, why: string][] = [
  ["{{ mount 3 }}", "only 3 are before it"],
  ["{{ source 3 }}", "only 3 are before it"],
  ["{{ target 99 }}", "only 3 are before it"],
  ["{{ overlay 0 3 }}", "only 3 are before it"],
  ["{{ overlay 3 0 }}", "only 3 are before it"],
  ["{{ mount }}", "mount takes 1 number"],
  ["{{ mount 0 1 }}", "mount takes 1 number"],
  ["{{ overlay 0 }}", "overlay takes 2 numbers"],
  ["{{ overlay 0 1 2 }}", "overlay takes 2 numbers"],
  ["{{ overlay }}", "overlay takes 2 numbers"],
  ["{{ mount -1 }}", "a mount is named by its number, from 0"],
  ["{{ mount 1.5 }}", "a mount is named by its number, from 0"],
  ["{{ mount one }}", "a mount is named by its number, from 0"],
  ["{{ mount 9999999999 }}", "a mount is named by its number, from 0"],
  ["{{ mountpoint 0 }}", "it is none of source, target, mount and overlay"],
  ["{{ constructor 0 }}", "it is none of source, target, mount and overlay"],
  ["{{ 0 }}", "it is none of source, target, mount and overlay"],
  ["{{ }}", "it is none of source, target, mount and overlay"],
  ["{{ mount 0 }", "it has no end"],
  ["{{", "it has no end"],
  ["{{ mount 0 }}/{{ mount", "it has no end"],
];

Deno.test("a template that is broken or out of range is refused with its text, wherever it stands", () => {
  for (const [template, why] of broken) {
    for (
      const mount of [
        { type: "bind", source: template },
        { type: "bind", source: "", target: template },
        { type: "bind", source: "", options: ["ro", template] },
      ]
    ) {
      const shown = JSON.stringify(template);
      const { message } = assertThrows(() => formatMount(mount, active), TypeError, "the template ");
      assertEquals(message, `the template ${shown} is wrong: ${why}`);
      const { message: checked } = assertThrows(() => checkTemplates(mount, active.length), TypeError);
      assertEquals(checked, message);
    }
  }
  const first = { type: "bind", source: "{{ mount 0 }}" };
  assertThrows(() => checkTemplates(first, 0), TypeError, "no mount is before it");
});
