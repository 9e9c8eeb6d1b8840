/**
 * The parser against what runc 1.5.1 (urfave/cli 1.22.17 on Go's flag package) makes of the same arguments. The
 * expected values were printed by it, except where a comment says that bunc differs on purpose.
 */
import { describe, expect, test } from "bun:test";
import { parseFlags, UsageError } from "./parse.ts";
import type { FlagSpecs } from "./types.ts";

const SPECS = {
  bundle: { kind: "string", alias: "b", usage: "" },
  "pid-file": { kind: "string", usage: "" },
  "no-pivot": { kind: "bool", usage: "" },
  "preserve-fds": { kind: "int", default: 0, usage: "" },
  detach: { kind: "bool", alias: "d", usage: "" },
  env: { kind: "strings", alias: "e", usage: "" },
  format: { kind: "string", default: "table", usage: "" },
} as const satisfies FlagSpecs;

const DEFAULTS = {
  bundle: "",
  "pid-file": "",
  "no-pivot": false,
  "preserve-fds": 0,
  detach: false,
  env: [],
  format: "table",
};

type Values = Partial<Record<keyof typeof DEFAULTS, unknown>>;

function accepts(line: string, args: string[], values: Values, flagsFirst = false): void {
  test(`${flagsFirst ? "flags first: " : ""}${line}`, () => {
    const parsed = parseFlags(SPECS, line === "" ? [] : line.split(" "), flagsFirst);
    expect(parsed.args).toEqual(args);
    expect(parsed.values as object).toEqual({ ...DEFAULTS, ...values });
  });
}

function refuses(line: string, message: string): void {
  test(line, () => {
    expect(() => parseFlags(SPECS, line.split(" "), false)).toThrow(new UsageError(message));
  });
}

describe("forms of flags", () => {
  accepts("", [], {});
  accepts("--bundle /b x", ["x"], { bundle: "/b" });
  accepts("--bundle=/b x", ["x"], { bundle: "/b" });
  accepts("-bundle /b x", ["x"], { bundle: "/b" });
  accepts("-bundle=/b x", ["x"], { bundle: "/b" });
  accepts("-b /b x", ["x"], { bundle: "/b" });
  accepts("--b=/b x", ["x"], { bundle: "/b" });
  accepts("--bundle= x", ["x"], { bundle: "" });
  accepts("--bundle=a=b x", ["x"], { bundle: "a=b" });
  accepts("--detach x", ["x"], { detach: true });
  accepts("--detach=false x", ["x"], { detach: false });
  accepts("-d=1 x", ["x"], { detach: true });
  accepts("--preserve-fds 3 x", ["x"], { "preserve-fds": 3 });
  accepts("--preserve-fds -1 x", ["x"], { "preserve-fds": -1 });
  accepts("--preserve-fds=0x10 x", ["x"], { "preserve-fds": 16 });
  accepts("--pid-file 0x10 --bundle 007 x", ["x"], { "pid-file": "0x10", bundle: "007" });
  accepts("--pid-file --no-pivot x", ["x"], { "pid-file": "--no-pivot" });
  accepts("--pid-file -- x", ["x"], { "pid-file": "--" });
  accepts("--pid-file - x", ["x"], { "pid-file": "-" });
});

describe("given twice", () => {
  accepts("-b a -b b x", ["x"], { bundle: "b" });
  accepts("--detach --detach=false x", ["x"], { detach: false });
  accepts("-e a=1 -e b=2 x", ["x"], { env: ["a=1", "b=2"] });
  refuses("-b a --bundle b x", "Cannot use two forms of the same flag: b bundle");
  refuses("--detach -d -b a --bundle b x", "Cannot use two forms of the same flag: b bundle");
  refuses("-b a --bundle b --preserve-fds x y", 'invalid value "x" for flag -preserve-fds: parse error');
});

describe("flags after arguments", () => {
  accepts("x --bundle /b", ["x"], { bundle: "/b" });
  accepts("x -- --bundle", ["x", "--bundle"], {});
  accepts("-- -d", ["-d"], {});
  accepts("x -9", ["x", "-9"], {});
  accepts("x --bogus", ["x", "--bogus"], {});
  accepts("x - y", ["x", "-", "y"], {});
  accepts("x -d", ["x"], { detach: true });
  // The flag is moved to the front and takes the argument it stood after.
  accepts("x -b", [], { bundle: "x" });
  // runc 1.5.1 takes "x" along with -d, which ends the flags; runc's next version reads it as here.
  accepts("-d x --no-pivot", ["x"], { detach: true, "no-pivot": true });
  accepts("x -d y", ["x", "y"], { detach: true });
});

describe("commands that take a command line", () => {
  accepts("-d x ls -d --bundle y", ["x", "ls", "-d", "--bundle", "y"], { detach: true }, true);
  accepts("-- -d x", ["-d", "x"], {}, true);
  accepts("x -- y", ["x", "--", "y"], {}, true);
});

describe("errors", () => {
  refuses("--bogus", "flag provided but not defined: -bogus");
  refuses("-x=1 y", "flag provided but not defined: -x");
  refuses("-9 x", "flag provided but not defined: -9");
  refuses("--bundle", "flag needs an argument: -bundle");
  refuses("--detach=maybe x", 'invalid boolean value "maybe" for -detach: parse error');
  refuses("--detach= x", 'invalid boolean value "" for -detach: parse error');
  refuses("--preserve-fds abc x", 'invalid value "abc" for flag -preserve-fds: parse error');
  refuses("--preserve-fds= x", 'invalid value "" for flag -preserve-fds: parse error');
  refuses(
    "--preserve-fds 99999999999999999999 x",
    'invalid value "99999999999999999999" for flag -preserve-fds: value out of range',
  );
  refuses("---", "bad flag syntax: ---");
  refuses("---bundle x", "bad flag syntax: ---bundle");
  refuses("--=x", "bad flag syntax: --=x");
  refuses("-=x", "bad flag syntax: -=x");
  refuses("--constructor", "flag provided but not defined: -constructor");
  refuses("--__proto__=1", "flag provided but not defined: -__proto__");
});

describe("hostile arguments", () => {
  test("a megabyte as argument, value, name and number", () => {
    const huge = "a".repeat(1 << 20);
    expect(parseFlags(SPECS, [huge], false).args).toEqual([huge]);
    expect(parseFlags(SPECS, ["-b", huge], false).values.bundle).toBe(huge);
    expect(() => parseFlags(SPECS, [`--${huge}`], false)).toThrow("flag provided but not defined");
    expect(() => parseFlags(SPECS, ["--preserve-fds", huge], false)).toThrow("parse error");
    expect(() => parseFlags(SPECS, ["--preserve-fds", "9".repeat(1 << 20)], false)).toThrow("out of range");
  });
  test("a million arguments", () => {
    const many = Array.from({ length: 1_000_000 }, () => "x");
    expect(
      parseFlags(SPECS, ["-d", ...many.slice(0, 10), "--", ...many.slice(10, 20)], false).args.length,
    ).toBe(20);
    expect(parseFlags(SPECS, many, false).args.length).toBe(1_000_000);
    expect(parseFlags(SPECS, ["--"].concat(many), false).args.length).toBe(1_000_000);
  });
  test("empty, NUL and newline are only text", () => {
    expect(parseFlags(SPECS, ["", "a\0b", "a\nb"], false).args).toEqual(["", "a\0b", "a\nb"]);
    expect(() => parseFlags(SPECS, ["--preserve-fds", "a\nb\0"], false)).toThrow(
      String.raw`invalid value "a\nb\x00" for flag -preserve-fds: parse error`,
    );
  });
  test("defaults are not shared between calls", () => {
    parseFlags(SPECS, ["-e", "a"], false).values.env.push("b");
    expect(parseFlags(SPECS, [], false).values.env).toEqual([]);
  });
});

test("given holds only what was given, by name", () => {
  expect([...parseFlags(SPECS, ["-b", "", "--detach=false"], false).given]).toEqual([
    ["bundle", "b"],
    ["detach", "detach"],
  ]);
});
