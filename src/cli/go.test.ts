/** Go's habits: the expected values were printed by Go 1.26 (strconv, encoding/json, path/filepath). */
import { describe, expect, test } from "bun:test";
import { absolutePath, baseName, goJson, parseBool, parseDuration, parseInteger, quote } from "./go.ts";

describe("parseDuration", () => {
  const cases: [string, number | undefined][] = [
    ["5s", 5000],
    ["100ms", 100],
    ["1.5h", 5_400_000],
    ["-2m30s", -150_000],
    ["+1us", 0.001],
    ["1\u00b5s", 0.001],
    ["1\u03bcs", 0.001],
    ["1ns", 1e-6],
    [".5s", 500],
    ["5.s", 5000],
    ["0", 0],
    ["-0", 0],
    ["", undefined],
    ["-", undefined],
    ["5", undefined],
    ["s", undefined],
    [".s", undefined],
    ["1.2.3s", undefined],
    ["1d", undefined],
    ["1 s", undefined],
    ["1constructor", undefined],
    ["1e3s", undefined],
    ["3000000h", undefined],
    [`${"9".repeat(400)}s`, undefined],
    ["1s".repeat(100_000), 100_000_000],
  ];
  for (const [text, expected] of cases) {
    test(JSON.stringify(text.slice(0, 24)), () => expect(parseDuration(text)).toBe(expected));
  }
});

describe("parseInteger", () => {
  const cases: [string, number | string][] = [
    ["0", 0],
    ["3", 3],
    ["-1", -1],
    ["+7", 7],
    ["-0", 0],
    ["0x1f", 31],
    ["0X1F", 31],
    ["0b101", 5],
    ["0o17", 15],
    ["017", 15],
    ["-017", -15],
    ["0_7", 7],
    ["1_000", 1000],
    ["0x_ff", 255],
    ["00", 0],
    ["9007199254740991", 9007199254740991],
    ["9223372036854775807", 2 ** 63],
    ["-9223372036854775808", -(2 ** 63)],
    ["9223372036854775808", "value out of range"],
    ["-9223372036854775809", "value out of range"],
    ["99999999999999999999", "value out of range"],
    [`0x${"f".repeat(17)}`, "value out of range"],
    ["9".repeat(1 << 20), "value out of range"],
    ["", "parse error"],
    ["-", "parse error"],
    ["abc", "parse error"],
    ["3 ", "parse error"],
    [" 3", "parse error"],
    ["3\n", "parse error"],
    ["3\0", "parse error"],
    ["08", "parse error"],
    ["0x", "parse error"],
    ["_1", "parse error"],
    ["1_", "parse error"],
    ["1__0", "parse error"],
    ["1e3", "parse error"],
    ["1.0", "parse error"],
    ["--1", "parse error"],
    ["Infinity", "parse error"],
    ["NaN", "parse error"],
    [`1${"_".repeat(1 << 20)}`, "parse error"],
  ];
  for (const [text, expected] of cases) {
    test(JSON.stringify(text.slice(0, 24)), () => expect(parseInteger(text)).toBe(expected as number));
  }
});

test("parseBool knows Go's twelve words and nothing else", () => {
  for (const text of ["1", "t", "T", "TRUE", "true", "True"]) expect(parseBool(text)).toBe(true);
  for (const text of ["0", "f", "F", "FALSE", "false", "False"]) expect(parseBool(text)).toBe(false);
  for (const text of ["", "yes", "no", "tRUE", "2", " true", "true\n"])
    expect(parseBool(text)).toBeUndefined();
});

test("quote escapes what a terminal or a log reader could be misled by", () => {
  expect(quote('a "b" \\ c')).toBe(String.raw`"a \"b\" \\ c"`);
  expect(quote("\0\x07\b\t\n\v\f\r\x1b\x7f")).toBe(String.raw`"\x00\a\b\t\n\v\f\r\x1b\x7f"`);
  expect(quote("é 日 😀")).toBe('"é 日 😀"');
  expect(quote("\u00a0\u200b\ufeff\u2028\u{e0001}")).toBe(String.raw`"\u00a0\u200b\ufeff\u2028\U000e0001"`);
  expect(quote("\ud800")).toBe(String.raw`"\ufffd"`);
});

test("goJson escapes what Go escapes", () => {
  expect(goJson({ a: "<b>&\u2028\u2029" })).toBe(String.raw`{"a":"\u003cb\u003e\u0026\u2028\u2029"}`);
  expect(goJson({ a: 1 }, "  ")).toBe('{\n  "a": 1\n}');
  expect(goJson(undefined)).toBe("null");
});

test("absolutePath is filepath.Abs", () => {
  const here = process.cwd();
  expect(absolutePath("")).toBe(here);
  expect(absolutePath(".")).toBe(here);
  expect(absolutePath("a/../b/./c//d/")).toBe(`${here}/b/c/d`);
  expect(absolutePath("/")).toBe("/");
  expect(absolutePath("//..//../")).toBe("/");
  expect(absolutePath("/a/..")).toBe("/");
  expect(absolutePath("/a/.b/..c")).toBe("/a/.b/..c");
  expect(absolutePath("/run/bunc")).toBe("/run/bunc");
});

test("baseName", () => {
  expect(baseName("/usr/bin/runc")).toBe("runc");
  expect(baseName("runc")).toBe("runc");
  expect(baseName("")).toBe("");
});
