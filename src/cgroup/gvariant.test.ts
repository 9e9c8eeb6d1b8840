// GVariant's text format: the examples of its documentation that D-Bus has types for, and what is wrong.
import { describe, expect, test } from "bun:test";
import { parseGvariant } from "./gvariant.ts";

const parsed = (text: string) => {
  const { type, value } = parseGvariant(text);
  return [type, value];
};

describe("values", () => {
  test.each([
    ["'text'", "s", "text"],
    [`"it's"`, "s", "it's"],
    ["'a\\'b\\n\\u00e9\\U0001f600'", "s", "a'b\n\u00e9\u{1f600}"],
    ["true", "b", 1],
    [" false ", "b", 0],
    ["5", "i", 5n],
    ["-0x10", "i", -16n],
    ["010", "i", 8n],
    ["1.5", "d", 1.5],
    ["-inf", "d", Number.NEGATIVE_INFINITY],
    ["1e3", "d", 1000],
    ["uint64 18446744073709551615", "t", 2n ** 64n - 1n],
    ["@t 7", "t", 7n],
    ["byte 255", "y", 255n],
    ["double 3", "d", 3],
    ["objectpath '/a/b'", "o", "/a/b"],
    ["b'ab'", "ay", [97, 98, 0]],
  ] as const)("%s", (text, type, value) => {
    expect(parsed(text)).toEqual([type, value]);
  });

  test("lists have one type, that of the member that says it", () => {
    expect(parsed("['a', \"b\"]")).toEqual(["as", ["a", "b"]]);
    expect(parsed("[1, uint32 2]")).toEqual(["au", [1n, 2n]]);
    expect(parsed("[1, 2.5]")).toEqual(["ad", [1, 2.5]]);
    expect(parsed("@at [1, 2]")).toEqual(["at", [1n, 2n]]);
    expect(parsed("@as []")).toEqual(["as", []]);
    expect(parsed("[@ay [], [1]]")).toEqual(["aay", [[], [1n]]]);
  });

  test("tuples, dictionaries and variants", () => {
    expect(parsed("[('/dev/null', 'rw')]")).toEqual(["a(ss)", [["/dev/null", "rw"]]]);
    expect(parsed("('a',)")).toEqual(["(s)", ["a"]]);
    expect(parsed("{'a': <uint16 1>}")).toEqual(["a{sv}", [["a", { type: "q", value: 1n }]]]);
    expect(parsed("@a{su} {}")).toEqual(["a{su}", []]);
  });
});

describe("what is no value", () => {
  test.each([
    ["", "a value is missing at character 1"],
    ["text", '"text" is no value at character 1'],
    ["'open", "a quotation mark is missing"],
    ["'a' 'b'", "unexpected text at character 5"],
    ["byte 256", "256 is out of range for type y at character 6"],
    ["uint32 -1", "-1 is out of range for type u"],
    ["2147483648", "2147483648 is out of range for type i"],
    ["uint32 'a'", "a value of another type than u"],
    ["int32 1.5", "1.5 is no value of type i"],
    ["089", "089 is no number"],
    ["[]", "an empty list needs a type"],
    ["[1, 'a']", "a value of another type than i"],
    ["[1 2]", '"," or "]" is missing'],
    ["@z 1", 'no type "z"'],
    ["@ 1", 'no type ""'],
    ["@a{vs} {}", 'no type "a{vs}"'],
    ["'\\uzzzz'", "no such character"],
    ["'\\u0000'", "no such character"],
    ["<1", '">" is missing'],
    ["{'a' 1}", '":" is missing'],
    ["()", "D-Bus has no empty tuple"],
    ["[".repeat(1000), "nested too deeply"],
  ] as const)("%s", (text, message) => {
    expect(() => parseGvariant(text)).toThrow(message);
  });
});
