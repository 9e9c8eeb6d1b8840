/** The real host of the command line: log files, directories, terminals. Needs build/libbunc.ts. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { system } from "./system.ts";

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "bunc-cli-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("the log file", () => {
  test("is made with 0644, appended to, synchronous and closed on exec", () => {
    const path = join(directory, "log");
    const old = process.umask(0o022);
    const fd = system.openLog(path);
    process.umask(old);
    expect(statSync(path).mode & 0o777).toBe(0o644);
    system.writeAll(fd, "one\n");
    writeFileSync(path, "two\n", { flag: "a" });
    system.writeAll(fd, `${"é".repeat(100_000)}\n`);
    expect(readFileSync(path, "utf8")).toBe(`one\ntwo\n${"é".repeat(100_000)}\n`);
    const flags = Number.parseInt(
      /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "",
      8,
    );
    for (const flag of [0o2000 /* O_APPEND */, 0o4010000 /* O_SYNC */, 0o2000000 /* O_CLOEXEC */]) {
      expect(flags & flag).toBe(flag);
    }
  });
  test("errors have Go's words", () => {
    expect(() => system.openLog(join(directory, "no/log"))).toThrow("no/log: no such file or directory");
    expect(() => system.openLog(directory)).toThrow(`open ${directory}: is a directory`);
    expect(() => system.openLog("a\0b")).toThrow("NUL");
    expect(() => system.openLog("x".repeat(1 << 20))).toThrow("file name too long");
    const full = system.openLog("/dev/full");
    expect(() => system.writeAll(full, "x")).toThrow("no space left on device");
  });
});

describe("directories", () => {
  test("are made with their parents, and again without complaint", () => {
    const path = join(directory, "a/b/c");
    system.makeDirectories(path, 0o700);
    system.makeDirectories(path, 0o700);
    expect(statSync(path).mode & 0o777).toBe(0o700);
    system.changeMode(path, 0o1700);
    expect(statSync(path).mode & 0o7777).toBe(0o1700);
  });
  test("errors name the path", () => {
    writeFileSync(join(directory, "file"), "");
    expect(() => system.makeDirectories(join(directory, "file/x"), 0o700)).toThrow("file/x: not a directory");
    expect(() => system.changeMode(join(directory, "gone"), 0o700)).toThrow("chmod ");
  });
});

test("who and where", () => {
  expect(system.effectiveUid()).toBe(process.geteuid?.() as number);
  const map = readFileSync("/proc/self/uid_map", "utf8").trim().split(/\s+/);
  expect(system.inUserNamespace()).toBe(map.join(" ") !== "0 0 4294967295");
  const file = system.openLog(join(directory, "plain"));
  expect(system.isTerminal(file)).toBe(false);
  expect(system.isTerminal(-1)).toBe(false);
  expect(system.isTerminal(system.openLog("/dev/ptmx"))).toBe(true);
});
