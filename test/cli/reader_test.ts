import fc from "fast-check";
import { Command, CommanderError } from "../../cli/commander.ts";
import { QUICK } from "../../cli/program.ts";
import { type Definition, runLine } from "../../cli/reader.ts";
import { assert, assertEquals } from "../assert.ts";

type Add = (top: Definition, done: () => void) => void;

/** Gives the arguments of a subcommand's action, instead of calling it, to a function. */
function captured(add: Add, top: Definition, keep: (args: unknown[]) => void): void {
  const command = top.command.bind(top);
  top.command = (name) => {
    const subcommand = command(name);
    subcommand.action = function (this: typeof subcommand) {
      return Object.getPrototypeOf(subcommand).action.call(this, (...args: unknown[]) => {
        keep(args.slice(0, -1)); // the last is the command itself
      });
    };
    return subcommand;
  };
  add(top, () => {});
}

/** What commander gives to the action; undefined if it ends with a usage error, or prints the help. */
function parsed(add: Add, name: string, args: readonly string[]): unknown[] | undefined {
  let found: unknown[] | undefined;
  const top = new Command("denomount").exitOverride().enablePositionalOptions()
    .configureOutput({ outputError() {}, writeOut() {}, writeErr() {} });
  captured(add, top, (args) => found = args);
  try {
    top.parse([name, ...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return undefined;
  }
  return found;
}

async function read(add: Add, args: readonly string[]): Promise<unknown[] | undefined> {
  let found: unknown[] | undefined;
  await runLine((top) => captured(add, top, (args) => found = args), args);
  return found;
}

/** The names of the options of a subcommand, and whether they take a value. */
function optionsOf(add: Add): string[] {
  const top = new Command();
  add(top, () => {});
  return top.commands.flatMap(({ options }) => options.flatMap(({ long, short }) => [long, short]))
    .filter((name) => name !== undefined);
}

for (const [name, add] of QUICK) {
  Deno.test(`a line of ${name} that is read without the parser means what the parser says`, async () => {
    const options = optionsOf(add);
    const value = fc.constantFrom(
      "a",
      "b/c",
      "1",
      "0",
      "500",
      "-1",
      "",
      "-",
      "ext4,xfs",
      "1:2:3",
      "x=y",
      "--",
      "no",
    );
    const option = fc.constantFrom(...options, "--help", "-h", "--bogus", "-x", "--no-all", "-lR");
    const word = fc.oneof(
      { arbitrary: value, weight: 3 },
      { arbitrary: option, weight: 2 },
      fc.tuple(option, value).map(([option, value]) => `${option}=${value}`),
      fc.tuple(option, value).map(([option, value]) => option + value),
    );
    let reads = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(word, { maxLength: 6 }), async (args) => {
        const found = await read(add, args);
        if (found === undefined) return;
        reads++;
        assertEquals({ args, found }, { args, found: parsed(add, name, args) });
      }),
      { numRuns: 3000 },
    );
    assert(reads > 20, `only ${reads} of the lines were read`);
  });
}

Deno.test("what is typed most is read without the parser", async () => {
  const lines = [
    "up mounts.json /mnt",
    "up --replace mounts.json /mnt",
    "up --namespace 4711 - /mnt",
    "down mounts.json /mnt",
    "down --lazy mounts.json /mnt",
    "umount /mnt",
    "umount -R /mnt /srv",
    "umount --timeout 500 -- -odd",
    "ls --tree /run",
    "ls --json",
    "ls -t ext4,xfs",
    "lookup .",
  ];
  for (const line of lines) {
    const [name = "", ...args] = line.split(" ");
    const add = QUICK.get(name);
    assert(add !== undefined, line);
    const found = await read(add, args);
    assert(found !== undefined, `the parser reads: ${line}`);
    assertEquals(found, parsed(add, name, args), line);
  }
});
