import { describe, expect, test } from "bun:test";
import { parseDecimal, parseSize } from "./units.ts";

describe("parseSize", () => {
  for (const [text, bytes] of [
    ["-1", -1],
    ["0", 0],
    ["50M", 52428800],
    ["50mb", 52428800],
    ["50 MiB", 52428800],
    ["1.5k", 1536],
    ["32b", 32],
    ["2p", 2251799813685248],
    ["1e3", 1000],
    ["9223372036854775807", 9223372036854775807n],
  ] as const) {
    test(text, () => expect(parseSize("memory", text)).toBe(bytes));
  }
  for (const [text, words] of [
    ["-2", "invalid size: '-2'"],
    ["M", "invalid size: 'M'"],
    ["", "invalid size: ''"],
    ["1x", "invalid suffix: 'x'"],
    ["1mx", "invalid suffix: 'mx'"],
    ["1bb", "invalid suffix: 'bb'"],
    ["8192p", "invalid size: '8192p'"],
    [`1${"0".repeat(400)}`, "invalid size: '1000"],
  ] as const) {
    test(`refuses ${text.slice(0, 20)}`, () => {
      expect(() => parseSize("memory", text)).toThrow(`invalid value for memory: ${words}`);
    });
  }
});

describe("parseDecimal", () => {
  test("numbers of 64 bits", () => {
    expect(parseDecimal("x", "-5", true)).toBe(-5);
    expect(parseDecimal("x", "18446744073709551615", false)).toBe(18446744073709551615n);
    expect(parseDecimal("x", "-9223372036854775808", true)).toBe(-9223372036854775808n);
  });
  for (const [text, signed, words] of [
    ["-5", false, 'strconv.ParseUint: parsing "-5": invalid syntax'],
    ["0x5", true, 'strconv.ParseInt: parsing "0x5": invalid syntax'],
    ["18446744073709551616", false, "value out of range"],
    ["9".repeat(100000), true, "value out of range"],
  ] as const) {
    test(`refuses ${text.slice(0, 30)}`, () => {
      expect(() => parseDecimal("cpu-quota", text, signed)).toThrow(words);
    });
  }
});
