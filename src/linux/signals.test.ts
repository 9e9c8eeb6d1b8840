import { describe, expect, test } from "bun:test";
import { parseSignal, signalName } from "./signals.ts";

describe("parseSignal", () => {
  test("names with and without SIG, in any case", () => {
    for (const text of ["SIGTERM", "TERM", "term", "sigterm", "SigTerm", "15", "+15", "015"]) {
      expect(parseSignal(text)).toBe(15);
    }
    expect(parseSignal("KILL")).toBe(9);
    expect(parseSignal("sigwinch")).toBe(28);
    expect(parseSignal("SIGCLD")).toBe(parseSignal("SIGCHLD"));
  });
  test("every number from 0 to 64, and no other", () => {
    for (let number = 0; number <= 64; number += 1) expect(parseSignal(String(number))).toBe(number);
    for (const text of ["65", "-1", "-9", "999999999999999999999", "9".repeat(1 << 20)]) {
      expect(parseSignal(text)).toBeUndefined();
    }
    expect(Object.is(parseSignal("-0"), 0)).toBe(true);
  });
  test("real-time signals", () => {
    expect(parseSignal("SIGRTMIN")).toBe(34);
    expect(parseSignal("rtmin+3")).toBe(37);
    expect(parseSignal("SIGRTMAX-1")).toBe(63);
    expect(parseSignal("RTMAX")).toBe(64);
    expect(parseSignal("RTMIN+30")).toBe(64);
    for (const text of ["RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMIN+100", "RT"]) {
      expect(parseSignal(text)).toBeUndefined();
    }
  });
  test("nonsense", () => {
    for (const text of [
      "",
      "SIG",
      "FOO",
      "SIGSIGTERM",
      "TERM ",
      "TERM\n",
      "9\n",
      "9\0",
      "constructor",
      "1e1",
      "0x9",
    ]) {
      expect(parseSignal(text)).toBeUndefined();
    }
    expect(parseSignal("T".repeat(1 << 20))).toBeUndefined();
  });
});

test("signalName is the inverse of parseSignal", () => {
  expect(signalName(15)).toBe("SIGTERM");
  expect(signalName(6)).toBe("SIGABRT");
  expect(signalName(37)).toBe("SIGRTMIN+3");
  expect(signalName(32)).toBe("signal 32");
  for (let number = 1; number <= 64; number += 1) {
    if (number !== 32 && number !== 33) expect(parseSignal(signalName(number))).toBe(number);
  }
});
