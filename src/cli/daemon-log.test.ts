/** The datagrams of --log=journald: and syslog:, as a daemon gets them. */
import { describe, expect, test } from "bun:test";
import { daemonLog, journalEntry, syslogEntry } from "./daemon-log.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe("entries", () => {
  test("the journal's fields, with a message of any content", () => {
    const bytes = journalEntry("web", "error", "a\nMESSAGE=b\0é");
    const head = "PRIORITY=3\nSYSLOG_IDENTIFIER=web\nMESSAGE\n";
    expect(text(bytes.subarray(0, head.length))).toBe(head);
    const size = new DataView(bytes.buffer).getBigUint64(head.length, true);
    expect(Number(size)).toBe(bytes.length - head.length - 9);
    expect(text(bytes.subarray(head.length + 8))).toBe("a\nMESSAGE=b\0é\n");
  });
  test("syslog's line, of which no newline makes two", () => {
    const time = new Date(2026, 10, 5, 7, 8, 9);
    expect(text(syslogEntry("we\nb", "warning", "a\n<1>b", time))).toBe("<12>Nov  5 07:08:09 we; b: a; <1>b");
    expect(text(syslogEntry("web", "debug", "x", time))).toStartWith("<15>");
  });
  test("a huge message is cut", () => {
    expect(journalEntry("x", "error", "m".repeat(1 << 22)).length).toBeLessThan(1 << 17);
    expect(syslogEntry("x", "error", "m".repeat(1 << 22)).length).toBe(1 << 16);
  });
});

test("no daemon is an error that names its socket", () => {
  const sockets = { journald: "/nowhere/journal", syslog: "/nowhere/log" };
  expect(() => daemonLog("journald:web", "error", sockets)).toThrow("connect /nowhere/journal: no such file");
  expect(() => daemonLog("syslog:", "error", sockets)).toThrow("connect /nowhere/log: no such file");
});
