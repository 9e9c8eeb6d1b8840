/** Every command and flag of the table is in the man pages and in the completion of each shell. */
import { describe, expect, test } from "bun:test";
import { GLOBAL_FLAGS } from "../flags.ts";
import { commandNames, TABLE } from "../table.ts";
import type { CommandSpec } from "../types.ts";
import { bashCompletion } from "./bash.ts";
import { fishCompletion } from "./fish.ts";
import { manualPages, roffText } from "./man.ts";
import { EXAMPLES, EXIT, LONGER } from "./text.ts";
import { commands, flagValue, globalFlags } from "./values.ts";
import { zshCompletion } from "./zsh.ts";

const pages = new Map(manualPages("1.2.3", "2026-11-21").map(({ file, text }) => [file, text]));
const real = commandNames().filter((name) => name !== "help");

describe("man pages", () => {
  test("one for the program and one for each command", () => {
    expect([...pages.keys()].sort()).toEqual(["bunc.8", ...real.map((name) => `bunc-${name}.8`)].sort());
  });
  test("the program's names every command and global option", () => {
    const text = pages.get("bunc.8")!;
    for (const name of real) expect(text).toContain(`.BR bunc\\-${name} (8)\n`);
    for (const name in GLOBAL_FLAGS) expect(text).toContain(`\\-\\-${name.replace(/-/g, "\\-")}`);
  });
  test("a command's names its flags, except hidden ones, with their text", () => {
    for (const name of real) {
      const spec: CommandSpec = TABLE[name]();
      const text = pages.get(`bunc-${name}.8`)!;
      for (const [flag, { hidden, usage, alias }] of Object.entries(spec.flags)) {
        const head = `.BI \\-\\-${flag.replace(/-/g, "\\-")}`;
        if (hidden) expect(text).not.toContain(`${head}\n`);
        else {
          expect(text).toMatch(new RegExp(`^${RegExp.escape(head)}( |$)`, "m"));
          expect(text).toContain(roffText(usage.slice(1)));
          if (alias) expect(text).toContain(`", \\-${alias}"`);
        }
      }
      for (const heading of ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"]) {
        expect(text).toContain(`\n.SH ${heading}\n`);
      }
    }
  });
  test("the prose is about commands that exist", () => {
    for (const list of [EXAMPLES, EXIT, LONGER]) {
      for (const name in list) expect([...real, "default"] as string[]).toContain(name);
    }
  });
  test.each([...pages])("%s has no warning of mandoc and groff", async (_, text) => {
    for (const command of [
      ["mandoc", "-Tlint", "-Wwarning"],
      ["groff", "-man", "-ww", "-Tascii", "-z"],
    ]) {
      const child = Bun.spawn(command, { stdin: new Blob([text]), stdout: "pipe", stderr: "pipe" });
      const said = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
      expect([command[0], said, await child.exited]).toEqual([command[0]!, "", 0]);
    }
  });
  test("text is no request and no escape", () => {
    expect(roffText(".so x\n'br \\n --flag")).toBe("\\&.so x\n\\&'br \\en \\-\\-flag");
  });
});

describe("completion", () => {
  const files = { bash: bashCompletion(), zsh: zshCompletion(), fish: fishCompletion() };
  test("every command and flag is in each", () => {
    for (const { name, flags } of [{ name: "", flags: globalFlags() }, ...commands()]) {
      for (const text of Object.values(files)) expect(text).toMatch(new RegExp(`\\b${name}\\b`));
      for (const { name: flag } of flags) {
        expect(files.bash).toContain(`--${flag}`);
        expect(files.zsh).toContain(`--${flag}`);
        expect(files.fish).toMatch(new RegExp(`-l ${flag}( |$)`, "m"));
      }
    }
  });
  test("hidden flags are in none", () => {
    for (const text of Object.values(files)) expect(text).not.toContain("kernel-memory");
  });
  test("flags for which the help names words propose them", () => {
    for (const { flags } of [{ flags: globalFlags() }, ...commands()]) {
      for (const { name, spec } of flags) {
        const words = [...spec.usage.matchAll(/'(\w+)'(?= or |,|$)/g)].map(([, word]) => word);
        if (words.length > 1 && typeof spec.default === "string")
          expect(flagValue(name)).toEqual(words as never);
      }
    }
  });
  test("values that are paths say so in their text", () => {
    for (const { flags } of [{ flags: globalFlags() }, ...commands()]) {
      for (const { name, spec, value } of flags) {
        if (spec.kind === "string" && /\b(file|socket)\b/.test(spec.usage))
          expect([name, value]).toEqual([name, "file"]);
        if (spec.kind === "string" && /^directory\b/.test(spec.usage))
          expect([name, value]).toEqual([name, "directory"]);
      }
    }
  });
});
