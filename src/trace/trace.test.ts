/** The timeline and its writers, on what was taken down by hand. */
import { describe, expect, test } from "bun:test";
import type { Op } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { chromeTrace } from "./chrome.ts";
import { correctClock, sameTime } from "./recorder.ts";
import { traceSvg } from "./svg.ts";
import { leaves, traceTable } from "./table.ts";
import { type InitRun, type Recorded, TAKE_BACK, type Time, timeline } from "./timeline.ts";

const op = (call: number, args: Op["args"], path = "", options: Op["options"] = {}): Op => ({
  ...{ call, args, path, options, phase: "mounts" },
});
const time = (start: number, end: number, result = 0): Time => ({ start, end, result });

const OPS = [
  op(abi.SYS_getpid, []),
  op(abi.SYS_unlinkat, [abi.AT_FDCWD, "/x", 0], "mounts[0]", { tolerate: [[abi.ENOENT, 1]] }),
  op(abi.SYS_close, [5]),
  op(abi.BUNC_OP_PART, [1, 0]),
  op(abi.SYS_execve, ["/bin/true", 0, 0], "process.args"),
];
const TIMES = [time(1000, 2000), time(2000, 5000, -abi.ENOENT), undefined, time(6000, 7000), time(9000, 0)];

function recorded(run: Partial<InitRun> = {}, more: Partial<Recorded> = {}): Recorded {
  const init: InitRun = {
    ...{ pid: 42, ops: OPS, first: 0, fds: [], firstFd: 3, times: TIMES, ended: 12_000 },
    ...run,
  };
  return {
    ...{ title: "run web", version: "1", pid: 41, loaded: 500, end: 20_000, notes: [] },
    steps: [
      { name: "start bunc-init", path: "linux.namespaces", start: 0, end: 8000 },
      { name: "wait for bunc-init", path: "", start: 8000, end: 20_000 },
    ],
    calls: [
      { call: abi.SYS_openat, args: [abi.AT_FDCWD, "/a", abi.O_RDONLY, 0], ...time(100, 200, -abi.EACCES) },
      { call: abi.BUNC_CALL_RUN, args: [0, 0, 0], ...time(300, 900) },
    ],
    parts: [{ ops: [op(abi.SYS_mkdirat, [abi.AT_FDCWD, "/c", 0o755])], first: 0, times: [time(400, 800)] }],
    inits: [init],
    ...more,
  };
}

type Event = {
  name: string;
  ph: string;
  ts: number;
  dur?: number;
  pid: number;
  cat: string;
  args: Record<string, unknown>;
};

function events(text: string): Event[] {
  return JSON.parse(text).traceEvents.filter(({ ph }: Event) => ph !== "M");
}

describe("the timeline", () => {
  test("has each operation once: carried out, tolerated, passed over", () => {
    const { slices, lanes } = timeline(recorded());
    expect(lanes).toEqual([
      { name: "bunc", pid: 41 },
      { name: "bunc-init", pid: 42 },
    ]);
    const ops = slices.filter(({ lane, kind }) => lane === 1 && kind === "op");
    expect(ops.map(({ index, name, start, end }) => [index, name, start, end])).toEqual([
      [0, "getpid", 1000, 2000],
      [1, "unlinkat", 2000, 5000],
      [2, "close", 5000, 5000],
      [3, "part", 6000, 7000],
      [4, "execve", 9000, 12_000],
    ]);
    expect(ops.map(({ errno, skipped, failed }) => errno ?? skipped ?? failed)).toEqual([
      ...[undefined, "ENOENT", true, undefined, undefined],
    ]);
    const waits = slices.filter(({ kind }) => kind === "wait");
    expect(waits.map(({ start, end, index }) => [start, end, index])).toEqual([[7000, 9000, undefined]]);
  });

  test("of a failure ends at the operation that failed", () => {
    const times = [...TIMES.slice(0, 4), time(9000, 9500, -abi.ENOEXEC)];
    const failed = { index: 4, errno: abi.ENOEXEC };
    const { slices } = timeline(recorded({ times, failed, ended: undefined }, { error: "no" }));
    expect(slices.at(-1)).toMatchObject({ name: "execve", failed: true, errno: "ENOEXEC", end: 9500 });
    const early = timeline(recorded({ failed: { index: 1, errno: abi.EPERM }, ended: undefined }));
    expect(early.slices.filter(({ lane }) => lane === 1).map(({ index }) => index)).toEqual([0, 1]);
  });

  test("marks one failure: not what bunc went on after, nor what failed when it gave up", () => {
    const part = (at: number, call: number) => ({
      ...{ ops: [op(call, [5])], first: 0, times: [time(at, at + 10, -abi.EACCES)], failed: 0 },
    });
    const parts = [part(400, abi.SYS_mkdirat), part(15_000, abi.SYS_flock)];
    const run = {
      times: [time(1000, 2000, -abi.EPERM)],
      failed: { index: 0, errno: abi.EPERM },
      ended: undefined,
    };
    const steps = [{ name: TAKE_BACK, path: "", start: 14_000, end: 20_000 }];
    const names = (recorded: Recorded) =>
      timeline(recorded)
        .slices.filter(({ failed }) => failed)
        .map(({ name }) => name);
    expect(names(recorded(run, { parts, steps, error: "no" }))).toEqual(["getpid"]);
    expect(names(recorded({}, { parts, steps, error: "no" }))).toEqual(["mkdirat"]);
    expect(names(recorded({}, { parts }))).toEqual([]);
  });

  test("of an init that waits ends where it waits", () => {
    const { slices } = timeline(recorded({ times: [time(1000, 2000), time(2000, 0)], ended: undefined }));
    const ops = slices.filter(({ lane }) => lane === 1);
    expect(ops.map(({ index, unfinished, end }) => [index, unfinished, end])).toEqual([
      [0, undefined, 2000],
      [1, true, 20_000],
    ]);
  });

  test("goes on after an image that was executed anew", () => {
    const ops = [op(abi.SYS_execve, ["/proc/self/exe", 0, 0]), ...OPS.slice(2)];
    const times = [time(1000, 0), undefined, time(6000, 7000), time(9000, 0)];
    const { slices } = timeline(recorded({ ops, times }));
    const found = slices.filter(({ lane, kind }) => lane === 1 && kind === "op");
    expect(found.map(({ start, end, unfinished, skipped }) => [start, end, unfinished ?? skipped])).toEqual([
      [1000, 6000, undefined],
      [6000, 6000, true],
      [6000, 7000, undefined],
      [9000, 12_000, undefined],
    ]);
  });

  test("says what has no time, and why", () => {
    const untimed = { from: 2, why: "no clock" };
    const times = [TIMES[0], TIMES[1], undefined, undefined, undefined];
    const { slices, notes } = timeline(recorded({ untimed, times }));
    expect(notes).toEqual(["no clock"]);
    expect(slices.filter((slice) => slice.untimed).map(({ index }) => index)).toEqual([2, 3, 4]);
  });
});

describe("a time namespace", () => {
  const ops = [op(abi.SYS_getpid, []), op(abi.SYS_setns, [7, abi.CLONE_NEWTIME]), op(abi.SYS_close, [7])];
  const moved = () => [time(100, 200), time(200, 5300), time(5300, 5400)];

  test("moves the clock, which is moved back", () => {
    const times = moved();
    correctClock(ops, times, 5000n);
    expect(times).toEqual([time(100, 200), time(200, 300), time(300, 400)]);
  });

  test("of an unknown offset: the operation that enters it takes no time", () => {
    const times = moved();
    correctClock(ops, times, undefined);
    expect(times).toEqual([time(100, 200), time(200, 200), time(200, 300)]);
  });

  test("that is not entered changes nothing", () => {
    const times = [time(100, 200), time(200, 300, -abi.EPERM)];
    correctClock(ops, times, 5000n);
    correctClock(ops.slice(0, 1), times, 5000n);
    expect(times).toEqual([time(100, 200), time(200, 300, -abi.EPERM)]);
  });
});

describe("Chrome's format", () => {
  test("is JSON with microseconds since the beginning, the path and the arguments", () => {
    const all = events(chromeTrace(timeline(recorded())));
    expect(all[0]).toMatchObject({ name: "load bunc", ph: "X", ts: 0, dur: 0.5, pid: 41 });
    expect(all.find(({ name, pid }) => name === "unlinkat" && pid === 42)).toMatchObject({
      ...{ ph: "X", ts: 2.5, dur: 3, cat: "op" },
      args: {
        path: "mounts[0]",
        phase: "mounts",
        index: 1,
        errno: "ENOENT",
        call: 'unlinkat(AT_FDCWD, "/x", 0)',
      },
    });
    expect(all.find(({ args }) => args.skipped)).toMatchObject({ name: "close", ph: "i" });
    expect(all.find(({ name }) => name === "openat")).toMatchObject({
      cat: "call",
      args: { errno: "EACCES" },
    });
    expect(all.every(({ ts, dur = 0 }) => ts >= 0 && dur >= 0)).toBe(true);
  });

  test("marks what failed, and has the error", () => {
    const text = chromeTrace(
      timeline(recorded({ failed: { index: 1, errno: abi.EPERM } }, { error: "it did not work" })),
    );
    expect(JSON.parse(text).otherData.error).toBe("it did not work");
    expect(events(text).at(-1)).toMatchObject({ name: "unlinkat: EPERM", args: { failed: true } });
  });
});

describe("the table", () => {
  test("has the slowest first, each without what it contains", () => {
    const lines = traceTable(timeline(recorded())).trimEnd().split("\n");
    expect(lines[0]).toBe("run web: 20.5 us");
    expect(lines[1]).toMatch(/^TIME us +SHARE +AT us +PROCESS +PATH +OPERATION$/);
    const times = lines.slice(2).map((line) => Number(line.trim().split(/\s+/)[0]));
    expect(times).toEqual([...times].sort((a, b) => b - a));
    // 8 us of the step, without the 0.1 and 0.6 of its calls.
    expect(lines.find((line) => line.includes("(start bunc-init)"))).toMatch(/^ *7\.3 .*linux\.namespaces/);
    expect(lines.find((line) => line.includes("execute a part"))).toMatch(/^ *0\.2 /);
    expect(lines.filter((line) => line.includes("close"))).toEqual([]);
  });

  test("adds up to the whole", () => {
    const { slices, start, end } = timeline(recorded());
    const own = leaves(slices).filter(({ slice }) => slice.lane === 0);
    expect(own.reduce((sum, row) => sum + row.own, 0)).toBe(end - start);
  });

  test("names the failed operation, and shows nothing of a bundle that a terminal would act on", () => {
    const ops = [op(abi.SYS_unlinkat, [abi.AT_FDCWD, "/\u001b[2J", 0], "mounts[0]")];
    const run = { ops, times: [time(1000, 2000, -abi.EPERM)], failed: { index: 0, errno: abi.EPERM } };
    const text = traceTable(timeline(recorded({ ...run, ended: undefined }, { error: "no" })));
    expect(text.split("\n")[1]).toStartWith("failed: bunc-init: unlinkat(AT_FDCWD,");
    expect(text).not.toContain("\u001b");
  });
});

describe("the picture", () => {
  /** Texts of one baseline, with the room that each takes at most. */
  function labels(svg: string): Map<number, [from: number, to: number, text: string][]> {
    const rows = new Map<number, [number, number, string][]>();
    for (const [, attributes, text] of svg.matchAll(/<text([^>]*)>([^<]*)<\/text>/g)) {
      const get = (name: string) => Number(new RegExp(` ${name}="([^"]*)"`).exec(attributes!)![1]);
      const size = attributes!.includes("title") ? 9.2 : 6.7;
      const plain = text!.replace(/&[a-z]+;/g, "x");
      const width = plain.length * size;
      const before = attributes!.includes('"middle"') ? width / 2 : attributes!.includes('"end"') ? width : 0;
      const from = get("x") - before;
      rows.set(get("y"), [...(rows.get(get("y")) ?? []), [from, from + width, plain]]);
    }
    return rows;
  }

  function checked(svg: string): string {
    // Well-formed: every element that is opened is closed, in order; no character that XML does not know.
    const open: string[] = [];
    for (const [, close, name, empty] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
      if (close) expect(open.pop()).toBe(name!);
      else if (!empty) open.push(name!);
    }
    expect(open).toEqual([]);
    expect(svg.replaceAll(/&(amp|lt|gt|quot);/g, "")).not.toContain("&");
    expect([...svg].every((char) => char === "\n" || char >= " ")).toBe(true);
    for (const row of labels(svg).values()) {
      row.sort((a, b) => a[0] - b[0]);
      for (const [i, [from, to, text]] of row.entries()) {
        expect([text, to <= 1401, from >= -1]).toEqual([text, true, true]);
        if (i > 0)
          expect([row[i - 1]![2], text, row[i - 1]![1] <= from + 1]).toEqual([row[i - 1]![2], text, true]);
      }
    }
    return svg;
  }

  test("is well-formed and no two labels meet", () => {
    const svg = checked(traceSvg(timeline(recorded())));
    expect(svg).toContain("prefers-color-scheme: dark");
    expect(svg).toContain("run web: 21 us");
    expect(svg).not.toMatch(/href|url\(|@import/);
  });

  test("with hostile texts, hundreds of operations and a failure", () => {
    const ops: Op[] = [];
    const times: Time[] = [];
    for (let i = 0; i < 400; i++) {
      ops.push(
        op(abi.SYS_unlinkat, [abi.AT_FDCWD, `/<&">'\u0000\u001b\ud800${"w".repeat(i)}`, 0], `mounts[${i}]`),
      );
      times.push(time(1000 + i * 40, 1000 + i * 40 + (i % 7) * 5));
    }
    const failed = { index: 399, errno: abi.EPERM };
    const error = `it is <bad> & ${"long ".repeat(200)}`;
    const svg = checked(traceSvg(timeline(recorded({ ops, times, failed, ended: undefined }, { error }))));
    expect(svg).toContain('class="failed"');
    expect(svg).toContain("shorter ones are only in the overview");
  });

  test("durations stand where there is room for them; a step says what of its time is its own", () => {
    const steps = [
      { name: "start", path: "", start: 0, end: 1_000_000 },
      { name: "wait for the program's end", path: "", start: 1_000_000, end: 100_000_000 },
    ];
    const calls = [
      { call: abi.SYS_ppoll, args: [], ...time(1_000_000, 99_000_000) },
      { call: abi.SYS_close, args: [3], ...time(99_900_000, 100_000_000, -abi.ETIMEDOUT) },
    ];
    const whole = recorded({}, { steps, calls, parts: [], inits: [], loaded: 0, end: 100_000_000 });
    const svg = checked(traceSvg(timeline(whole)));
    expect(svg).toMatch(/>99\.00 ms \(900 us own\)</);
    expect(svg).toMatch(/class="dim halo[^"]*" x="[0-9.]+" y="[0-9]+" text-anchor="end">100 us ETIMEDOUT</);
    // Round times have no decimals that say nothing.
    for (const text of ["0", "10 ms", "100 ms"]) expect(svg).toContain(`text-anchor="middle">${text}</text>`);
  });

  test("the longest id there may be does not run out of it", () => {
    const svg = checked(traceSvg({ ...timeline(recorded()), title: `run ${"x".repeat(1024)}` }));
    expect(svg).toMatch(/class="title"[^>]*>run x+…: 21 us</);
  });

  test("of nothing at all", () => {
    checked(
      traceSvg(timeline(recorded({}, { steps: [], calls: [], parts: [], inits: [], loaded: 0, end: 0 }))),
    );
  });
});

describe("two clocks", () => {
  /** Readings that take so long each, in turns of the two; the clocks are a million apart. */
  const clocks = (...costs: number[]) => {
    let now = 0;
    let at = 0;
    const read = () => {
      now += costs[at++ % costs.length]!;
      return now;
    };
    return [() => BigInt(read() + 1_000_000), read] as const;
  };
  /** How much later the one moment is by the clock of others: what seems to come before its cause. */
  const ahead = (monotonic: bigint, own: number) => Number(monotonic) - 1_000_000 - own;

  test("are read together, also by a process that is interrupted in between", () => {
    for (const costs of [[10], [10, 10, 5_000_000, 10, 10, 10, 10], [3_000_000, 9_000_000, 20, 20, 20, 20]]) {
      const { monotonic, own } = sameTime(...clocks(...costs));
      expect(ahead(monotonic, own)).toBeGreaterThan(0);
      expect(ahead(monotonic, own)).toBeLessThan(1000);
    }
  });

  test("that cannot be read at once: the closest reading, and never what has happened before why", () => {
    const { monotonic, own } = sameTime(...clocks(8000, 9000, 7000, 9000, 9000));
    expect(ahead(monotonic, own)).toBeGreaterThan(0);
    expect(ahead(monotonic, own)).toBeLessThan(10_000);
  });
});
