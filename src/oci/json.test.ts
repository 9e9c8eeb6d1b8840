import { describe, expect, test } from "bun:test";
import { failure } from "../testing.ts";
import { parseJson, parseJsonRounded } from "./json.ts";
import { findDuplicateKeys, findJsonError } from "./json-scan.ts";

function messageOf(run: () => unknown): string {
  const { message } = failure(run);
  expect(message).not.toContain("\n");
  return message;
}

describe("exact integers", () => {
  test("a number when safe, otherwise a bigint", () => {
    const text = `{"a": 18446744073709551615, "b": [-9223372036854775808, 9007199254740993], "c": 9007199254740991, "d": 5}`;
    expect(parseJson(text)).toEqual({
      a: 18446744073709551615n,
      b: [-9223372036854775808n, 9007199254740993n],
      c: 9007199254740991,
      d: 5,
    });
  });

  test("other numbers as JSON.parse reads them", () => {
    expect(parseJson("[1.5, -0.25, 1e3, 1E-2, 0.1234567890123, 1e400]")).toEqual([
      1.5,
      -0.25,
      1000,
      0.01,
      0.1234567890123,
      Infinity,
    ]);
  });

  test("digits in strings and keys are no numbers", () => {
    expect(parseJson(`{"1234567890123456789": "1234567890123456789"}`)).toEqual({
      "1234567890123456789": "1234567890123456789",
    });
  });

  test("a bomb of digits takes no time and stays out of range", () => {
    const started = performance.now();
    expect(parseJson(`[1${"0".repeat(5_000_000)}]`)).toEqual([Infinity]);
    expect(parseJson("[123456789012345678901234567890]")).toEqual([Number("1.2345678901234568e29")]);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test("parseJsonRounded leaves the unsafe ones to be seen", () => {
    const value = parseJsonRounded("[18446744073709551615]") as number[];
    expect(Number.isSafeInteger(value[0])).toBe(false);
  });
});

describe("hostile text", () => {
  test.each([
    ["", "invalid JSON: the text is empty at line 1 column 1"],
    [" \n\t ", "invalid JSON: the text is empty at line 2 column 3"],
    ["\ufeff{}", "invalid JSON: a byte order mark (save the file as UTF-8 without one) at line 1 column 1"],
    ['{"a":1}\n x', 'invalid JSON: "x" after the end of the value at line 2 column 2'],
    ["{} {}", 'invalid JSON: "{" after the end of the value at line 1 column 4'],
    ['{"a":1,}', 'invalid JSON: a comma before "}" at line 1 column 8'],
    ["[1,]", 'invalid JSON: a comma before "]" at line 1 column 4'],
    ["[1 2]", 'invalid JSON: "2" where "," or "]" should be at line 1 column 4'],
    ['{"a" 1}', 'invalid JSON: "1" where ":" should be at line 1 column 6'],
    ["{a: 1}", 'invalid JSON: "a" where the name of a field should be at line 1 column 2'],
    ['{"a":\n  tru}', 'invalid JSON: "tru" is not a value at line 2 column 3'],
    ['{"a": 01}', 'invalid JSON: "01" is not a value at line 1 column 7'],
    ['{"a": +1}', 'invalid JSON: "+1" is not a value at line 1 column 7'],
    ['{"a": NaN}', 'invalid JSON: "NaN" is not a value at line 1 column 7'],
    ['{"a": ,}', 'invalid JSON: "," where a value should be at line 1 column 7'],
    ['{"a": "b', "invalid JSON: a string that does not end at line 1 column 7"],
    ['{"a": "\\x"}', 'invalid JSON: "\\\\x" is not an escape at line 1 column 8'],
    ['{"a": "\\u12"}', 'invalid JSON: "\\\\u" is not an escape at line 1 column 8'],
    [
      '["a\nb"]',
      "invalid JSON: the control character U+000a inside a string (write it as an escape) at line 1 column 4",
    ],
    [
      '["\0"]',
      "invalid JSON: the control character U+0000 inside a string (write it as an escape) at line 1 column 3",
    ],
    ["\0", "invalid JSON: "],
    ['{"a": {"b": [1', 'invalid JSON: the end of the text where "," or "]" should be at line 1 column 15'],
    ["// comment\n{}", 'invalid JSON: "//" is not a value at line 1 column 1'],
    ["{'a': 1}", 'invalid JSON: "\'" where the name of a field should be at line 1 column 2'],
  ])("%j", (text, message) => {
    expect(messageOf(() => parseJson(text))).toStartWith(message);
    expect(messageOf(() => parseJsonRounded(text))).toStartWith(message);
  });

  test("depth is no danger, closed or not, exact or not", () => {
    const depth = 300_000;
    expect(parseJson("[".repeat(depth) + "]".repeat(depth))).toBeArray();
    expect(messageOf(() => parseJson("[".repeat(depth)))).toBe(
      `invalid JSON: the end of the text where a value should be at line 1 column ${depth + 1}`,
    );
    expect(parseJson(`${"[".repeat(1000)}1234567890123456789${"]".repeat(1000)}`)).toBeArray();
    const deep = `${"[".repeat(depth)}1234567890123456789${"]".repeat(depth)}`;
    expect(messageOf(() => parseJson(deep))).toBe("invalid JSON: nested too deep");
    expect(messageOf(() => parseJson(`${'{"a":'.repeat(depth)}x`))).toContain('"x" is not a value');
  });

  test("50 MB parse, and an error at their end is found", () => {
    const text = `["${"x".repeat(50_000_000)}"`;
    expect(parseJson(`${text}]`)).toBeArrayOfSize(1);
    expect(messageOf(() => parseJson(text))).toContain(`column ${text.length + 1}`);
  }, 30_000);

  test("__proto__ is a key like others", () => {
    const value = parseJson('{"__proto__": {"polluted": 1}, "n": 18446744073709551615}') as object;
    expect(Object.hasOwn(value, "__proto__")).toBe(true);
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });
});

describe("the scanner", () => {
  test("agrees with JSON.parse on damaged copies of a text", () => {
    const good = `{"a": [1, -2.5e+3, true, null, "x\\u00e9\\n\\\\"], "b": {"c": {}, "d": [[], {}]}, "e": "\u{1f600}"} `;
    expect(findJsonError(good)).toBeUndefined();
    let invalid = 0;
    for (let at = 0; at < good.length; at++) {
      for (const insert of [
        "",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"',
        "\\",
        "0",
        "-",
        "e",
        ".",
        " ",
        "\n",
        "\0",
        "t",
        "\ud800",
      ]) {
        for (const cut of [0, 1]) {
          const text = good.slice(0, at) + insert + good.slice(at + cut);
          let valid = true;
          try {
            JSON.parse(text);
          } catch {
            valid = false;
          }
          if (!valid) invalid++;
          if ((findJsonError(text) === undefined) !== valid)
            throw new Error(`they differ on ${JSON.stringify(text)}`);
        }
      }
    }
    expect(invalid).toBeGreaterThan(1000);
  });

  test("finds keys that occur twice, and the last one counts", () => {
    const text = '{"a": 1,\n "b": {"a": 2, "c": [{"x": 1}, {"x": 1}]},\n "\\u0061": 3, "a": 4}';
    expect(findDuplicateKeys(text)).toEqual([
      { key: "a", line: 3, column: 2 },
      { key: "a", line: 3, column: 15 },
    ]);
    expect(parseJson(text)).toEqual({ a: 4, b: { a: 2, c: [{ x: 1 }, { x: 1 }] } });
  });
});
