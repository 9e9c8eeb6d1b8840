// The benchmark's own arithmetic: medians, bisection, verdicts, the table, and the plan for the timer.
import { expect, test } from "bun:test";
import { bisect, LIMITS } from "./memory.ts";
import { crowdTable, limitTable, median, RUN_TARGETS, table, timeTable } from "./report.ts";
import type { Runtime } from "./runtimes.ts";
import { findCgroups } from "./sweep.ts";
import { planText } from "./timer.ts";

const runtimes = (["bunc", "crun", "runc"] as const).map(
  (kind): Runtime => ({ kind, name: `${kind} 1`, key: `${kind}0`, path: `/${kind}`, root: `/root-${kind}` }),
);

/** The time table of one measurement with targets, by lines of trimmed cells. */
function rows(times: Record<string, number[]>): string[][] {
  const named = Object.entries(times).map(([name, milliseconds]) => ({ name, milliseconds }));
  const timings = [{ timing: { what: "run", times: named }, targets: RUN_TARGETS }];
  const text = timeTable({ timings, crowds: [], weights: [], limits: [] }, runtimes);
  const lines = text.trimEnd().split("\n").slice(2);
  return lines.map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

test("the median is the middle of the sorted values", () => {
  expect(median([10, 9, 100])).toBe(10);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([7])).toBe(7);
});

test("ratios and targets compare medians", () => {
  expect(rows({ "bunc 1": [8, 9, 10], "crun 1": [9, 9, 90], "runc 1": [20, 30, 25] })).toEqual([
    ["run", "bunc 1", "9.00 ms", "8.00 ms", "1.00", "0.36", "target 1.0 x crun: met; target 0.4 x runc: met"],
    ["", "crun 1", "9.00 ms", "9.00 ms", "1.00", "0.36", ""],
    ["", "runc 1", "25.00 ms", "20.00 ms", "2.78", "1.00", ""],
  ]);
});

test("a target that is just missed is missed, also when the ratio rounds to it", () => {
  const [bunc] = rows({ "bunc 1": [10.01], "crun 1": [10], "runc 1": [20] });
  expect(bunc!.slice(4)).toEqual(["1.00", "0.50", "target 1.0 x crun: missed; target 0.4 x runc: missed"]);
});

test("without a peer there is no ratio to it", () => {
  const [bunc] = rows({ "bunc 1": [10], "crun 1": [20] });
  expect(bunc!.slice(4)).toEqual(["0.50", "", "target 1.0 x crun: met; target 0.4 x runc: no runc here"]);
});

test("other cgroups: the ratio is of medians, and only bunc has a target", () => {
  const crowd = (kind: string, among: number[]) => ({ name: `${kind} 1`, alone: [9, 10, 90], among });
  const text = (among: number[]) =>
    crowdTable({ crowds: [crowd("bunc", among), crowd("runc", [20, 20, 20])] }, runtimes);
  expect(text([1, 11, 12])).toContain("| bunc 1  | 10.00 ms | 11.00 ms |  1.10 | target 1.1: met ");
  expect(text([1, 11, 12])).toContain("| runc 1  | 10.00 ms | 20.00 ms |  2.00 |                 |");
  expect(text([11.01])).toContain("target 1.1: missed");
});

test("the table pads its cells and marks columns that stand at the right", () => {
  expect(table(["a", "long one"], [["wide cell", "1"]], [1])).toBe(
    "| a         | long one |\n| --------- | -------: |\n| wide cell |        1 |\n",
  );
});

test("bisection finds the smallest limit that works, in few tries", async () => {
  for (const least of [257, 320, 2048, 2049, 8191, 8192]) {
    let tries = 0;
    const found = await bisect(async (kilobytes) => {
      tries++;
      return kilobytes >= least;
    });
    expect(found).toBe(Math.ceil(least / LIMITS.step) * LIMITS.step);
    expect(tries).toBeLessThanOrEqual(10);
  }
  expect(await bisect(async () => true)).toBe(LIMITS.least);
  expect(await bisect(async () => false)).toBeUndefined();
});

test("limits at the bounds of the search are shown as bounds", () => {
  const limits = [
    { name: "bunc 1", least: undefined },
    { name: "crun 1", least: LIMITS.least },
    { name: "runc 1", least: 4096 },
  ];
  const text = limitTable({ timings: [], crowds: [], weights: [], limits }, runtimes);
  expect(text).toContain("> 8192 kB | target 512 kB: missed");
  expect(text).toContain("<= 256 kB");
  expect(text).toContain("  4096 kB");
});

test("a plan is one line per step; a field that would break it is refused", () => {
  const steps = [{ run: ["/bin/true", "a b"] }, { reap: "/tmp/pid" }];
  expect(planText([{ name: "x", steps }])).toBe("entrant\nrun\t/bin/true\ta b\nreap\t/tmp/pid\n");
  for (const bad of ["a\tb", "a\nb", "a\0b"])
    expect(() => planText([{ name: "x", steps: [{ run: ["/x", bad] }] }])).toThrow("no tabs or newlines");
});

test("only cgroups of a benchmark are ever swept", () => {
  for (const tag of ["", "/", "bunc", "bunc-bench-"]) expect(() => findCgroups(tag)).toThrow("no tag");
});
