// What is quoted of a log of criu's.
import { describe, expect, test } from "bun:test";
import { lastErrors } from "./log.ts";

const DUMP = `(00.000000) Version: 4.1.1 (gitid 0)
(00.020000) Warn  (criu/kerndat.c:1): something
(00.034567) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.
(00.034570) ----------------------------------------
(00.034590) Error (criu/cr-dump.c:1669): Dump files (pid: 12) failed with -1
(00.036000) Error (criu/cr-dump.c:2098): Dumping FAILED.
`;

describe("the errors of a log", () => {
  test("are quoted with their places, in order, without that it failed", () => {
    expect(lastErrors(DUMP)).toEqual([
      "(criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.",
      "(criu/cr-dump.c:1669): Dump files (pid: 12) failed with -1",
    ]);
  });

  test("are the last three, each once", () => {
    const log = ["a", "b", "b", "c", "d"].map((name) => `(00.1) Error (x.c:1): ${name}`).join("\n");
    expect(lastErrors(log)).toEqual(["(x.c:1): b", "(x.c:1): c", "(x.c:1): d"]);
  });

  test("are none in an empty log, in one without errors, and in a line that ends at the mark", () => {
    expect(lastErrors("")).toEqual([]);
    expect(lastErrors("\n\n")).toEqual([]);
    expect(lastErrors("(00.1) Warn (x.c:1): no Errors here\n(00.2) Error \n")).toEqual([]);
  });

  test("cannot break the line they are quoted in, and are cut", () => {
    expect(lastErrors("Error (x.c:1): name \u001b[2J\r\u0007\u2028end\n")).toEqual([
      "(x.c:1): name ?[2J???end",
    ]);
    expect(lastErrors(`Error ${"x".repeat(100_000)}\n`)[0]!.length).toBe(240);
  });
});
