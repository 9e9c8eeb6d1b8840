import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import * as abi from "../linux/abi.gen.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { poll } from "../linux/wait.ts";
import type { Summary } from "./state.ts";
import { formatTime, isAlive, openProcess, parseStat, processStat, statusOf, timestamp } from "./status.ts";

/** A line of /proc/PID/stat. */
function line(comm: string, state: string, start: number | string): string {
  const before = "1 1 1 0 -1 4194560 29689 28896 0 3 146 32 76 19 20 0 1 0";
  return `89653 (${comm}) ${state} ${before} ${start} 52965376 3920 18446744073709551615 1 1\n`;
}

describe("parseStat", () => {
  test("reads state and start time whatever the command is called", () => {
    for (const comm of ["sh", "", "a b", "x) Z 1 1", ") ", "((", "\n", "é"]) {
      expect(parseStat(line(comm, "S", 213287))).toEqual({ state: "S", start: 213287 });
    }
  });

  test("refuses everything else", () => {
    const cut = line("sh", "S", 213287);
    for (const text of [
      "",
      "1",
      "1 (sh",
      "1 (sh) ",
      "1 (sh) S 1 2",
      cut.slice(0, 60),
      line("sh", "S", "x"),
    ]) {
      expect(parseStat(text)).toBeUndefined();
    }
  });

  test("this process", () => {
    const text = readFileSync("/proc/self/stat", "utf8");
    expect(processStat(process.pid)).toEqual(parseStat(text)!);
    expect(processStat(0)).toBeUndefined();
    expect(processStat(-1)).toBeUndefined();
    expect(processStat(0x7fffffff)).toBeUndefined();
  });
});

describe("a process", () => {
  const start = processStat(process.pid)!.start;

  test("is alive only with its own start time", () => {
    expect(isAlive({ pid: process.pid, start })).toBe(true);
    expect(isAlive({ pid: process.pid, start: start + 1 })).toBe(false);
    expect(isAlive({ pid: -1, start: 0 })).toBe(false);
  });

  test("that nobody has reaped is not alive", async () => {
    // Its parent sleeps instead of waiting.
    const parent = Bun.spawn(["sh", "-c", "sleep 0 & echo $!; exec sleep 30"], { stdout: "pipe" });
    try {
      const { value } = await parent.stdout.getReader().read();
      const pid = Number(new TextDecoder().decode(value));
      for (let i = 0; i < 200 && processStat(pid)?.state !== "Z"; i++) await Bun.sleep(10);
      const stat = processStat(pid)!;
      expect(stat.state).toBe("Z");
      expect(isAlive({ pid, start: stat.start })).toBe(false);
      expect(openProcess({ pid, start: stat.start })).toBe(-abi.ESRCH);
    } finally {
      parent.kill();
      await parent.exited;
    }
  });

  test("is opened only with its own start time, and tells its end", async () => {
    const child = Bun.spawn(["sleep", "30"]);
    const { start } = processStat(child.pid)!;
    expect(openProcess({ pid: child.pid, start: start + 1 })).toBe(-abi.ESRCH);
    expect(openProcess({ pid: -1, start: 0 })).toBe(-abi.ESRCH);
    const fd = openProcess({ pid: child.pid, start });
    try {
      expect(fd).toBeGreaterThan(2);
      expect(poll([fd], 0)).toEqual([false]);
      sys(abi.SYS_pidfd_send_signal, fd, abi.SIGKILL, 0, 0);
      expect(poll([fd], 5000)).toEqual([true]);
      await child.exited;
    } finally {
      closeFd(fd);
    }
  });
});

test("statusOf: stopped before paused before created before running", () => {
  const live = { pid: process.pid, start: processStat(process.pid)!.start, cgroupPaths: {} } as Summary;
  const frozen = { isFrozen: () => true };
  const thawed = { isFrozen: () => false };
  expect(statusOf({ ...live, start: 1 }, "/nonexistent", frozen)).toBe("stopped");
  expect(statusOf({ ...live, pid: -1 }, "/nonexistent", frozen)).toBe("stopped");
  expect(statusOf(live, "/nonexistent", frozen)).toBe("paused");
  expect(statusOf(live, "/nonexistent", thawed)).toBe("running");
});

test("times are Go's RFC3339Nano", () => {
  expect(formatTime(0, 0)).toBe("1970-01-01T00:00:00Z");
  expect(formatTime(1_795_218_805, 916_626_669)).toBe("2026-11-20T23:53:25.916626669Z");
  expect(formatTime(1_795_218_805, 10)).toBe("2026-11-20T23:53:25.00000001Z");
  expect(formatTime(1_795_218_805, 500_000_000)).toBe("2026-11-20T23:53:25.5Z");
  expect(Math.abs(Date.parse(timestamp()) - Date.now())).toBeLessThan(5000);
});
