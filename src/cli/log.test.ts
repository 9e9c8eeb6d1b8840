/** Entries as logrus writes them; the expected lines were printed by logrus 1.9. */
import { describe, expect, test } from "bun:test";
import { createLog, formatEntry, rfc3339 } from "./log.ts";

function at(offsetMinutes: number): Date {
  const time = new Date(1_700_000_000_000);
  time.getTimezoneOffset = () => -offsetMinutes;
  return time;
}

describe("entries", () => {
  test("text", () => {
    expect(formatEntry("text", "error", "container does not exist", at(0))).toBe(
      'time="2023-11-14T22:13:20Z" level=error msg="container does not exist"\n',
    );
    expect(formatEntry("text", "warning", "one-word.of/safe@chars^+", at(0))).toBe(
      'time="2023-11-14T22:13:20Z" level=warning msg=one-word.of/safe@chars^+\n',
    );
    expect(formatEntry("text", "debug", 'exec: "x": not\nfound\x1b', at(0))).toBe(
      'time="2023-11-14T22:13:20Z" level=debug msg="exec: \\"x\\": not\\nfound\\x1b"\n',
    );
  });
  test("json", () => {
    expect(formatEntry("json", "error", 'exec: "x" <y>\n', at(0))).toBe(
      '{"level":"error","msg":"exec: \\"x\\" \\u003cy\\u003e\\n","time":"2023-11-14T22:13:20Z"}\n',
    );
  });
  test("what a hook has said does not command the terminal", () => {
    const line = formatEntry("terminal", "error", "a\x1b]0;title\x07\tb\nc\r\x9bd \u00e9", at(0));
    expect(line).toEndWith("a\\x1b]0;title\\a\tb\nc\\r\\u009bd \u00e9\n");
    expect(line.split("\x1b").length).toBe(3);
  });

  test("terminal", () => {
    const line = formatEntry("terminal", "error", "container does not exist", at(0));
    expect(line).toMatch(/^\x1b\[31mERRO\x1b\[0m\[\d{4}\] container does not exist\n$/);
    expect(formatEntry("terminal", "warning", "w", at(0))).toContain("\x1b[33mWARN\x1b[0m");
  });
  test("a message of any length and content stays one line", () => {
    const message = `${"x".repeat(1 << 20)}\n"\\\0`;
    for (const form of ["text", "json"] as const) {
      const entry = formatEntry(form, "error", message, at(0));
      expect(entry.indexOf("\n")).toBe(entry.length - 1);
    }
    expect(JSON.parse(formatEntry("json", "error", message, at(0))).msg).toBe(message);
  });
});

test("times carry the local offset", () => {
  expect(rfc3339(at(0))).toBe("2023-11-14T22:13:20Z");
  expect(rfc3339(at(120))).toBe("2023-11-15T00:13:20+02:00");
  expect(rfc3339(at(-150))).toBe("2023-11-14T19:43:20-02:30");
});

describe("createLog", () => {
  test("debug messages only under --debug", () => {
    const entries: string[] = [];
    const quiet = createLog(
      "warning",
      () => "json",
      (entry) => entries.push(entry),
    );
    quiet.debug("no");
    quiet.warn("yes");
    const loud = createLog(
      "debug",
      () => "json",
      (entry) => entries.push(entry),
    );
    loud.debug("yes too");
    expect(entries.map((entry) => JSON.parse(entry)).map(({ level, msg }) => [level, msg])).toEqual([
      ["warning", "yes"],
      ["debug", "yes too"],
    ]);
    expect([quiet.debugging, loud.debugging]).toEqual([false, true]);
  });
  test("the form is asked for once, with the first entry", () => {
    let asked = 0;
    const log = createLog(
      "debug",
      () => {
        asked += 1;
        return "text";
      },
      () => {},
    );
    expect(asked).toBe(0);
    log.warn("a");
    log.error("b");
    expect(asked).toBe(1);
  });
});

test("a level drops what is below it", () => {
  const count = (least: "debug" | "warning" | "error") => {
    const entries: string[] = [];
    const log = createLog(
      least,
      () => "text",
      (entry) => entries.push(entry),
    );
    log.debug("a");
    log.warn("b");
    log.error("c");
    return [log.debugging, entries.length];
  };
  expect([count("debug"), count("warning"), count("error")]).toEqual([
    [true, 3],
    [false, 2],
    [false, 1],
  ]);
});
