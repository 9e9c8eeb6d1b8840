import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { poll } from "../linux/wait.ts";
import { resumeOom, watchOom } from "./oom.ts";

// v1 needs the kernel: test/integration/events.test.ts.
const top = mkdtempSync(join(tmpdir(), "bunc-oom-"));
afterAll(() => rmSync(top, { recursive: true }));

const events = (kills: unknown) =>
  writeFileSync(
    join(top, "memory.events"),
    `low 0\nhigh 0\nmax 9\noom 9\noom_kill ${kills}\noom_group_kill 7\n`,
  );
const populated = (value: number) =>
  writeFileSync(join(top, "cgroup.events"), `populated ${value}\nfrozen 0\n`);

test("v2: kills are counted from the beginning of the watch, each once", () => {
  events(3);
  populated(1);
  const watch = watchOom({ "": top });
  try {
    expect([poll([watch.fd], 0), watch.take(), watch.ended()]).toEqual([[false], 0, false]);
    events(5);
    expect([poll([watch.fd], 1000), watch.take(), watch.take()]).toEqual([[true], 2, 0]);
    expect(poll([watch.fd], 0)).toEqual([false]);
    // Known even before the kernel tells of it.
    events(6);
    expect(watch.take()).toBe(1);
    for (const odd of ["x", -4, "", "9".repeat(5000)]) {
      events(odd);
      expect(watch.take()).toBeGreaterThanOrEqual(0);
    }
    populated(0);
    expect([poll([watch.fd], 1000), watch.ended()]).toEqual([[true], true]);
    rmSync(join(top, "memory.events"));
    rmSync(join(top, "cgroup.events"));
    expect([watch.take(), watch.ended()]).toEqual([0, true]);
  } finally {
    watch.close();
  }
});

test("v2: a change that was told of before the cgroup went is a kill, its end alone is none", () => {
  for (const [last, expected] of [
    [() => events(1), 1],
    [() => populated(0), 0],
  ] as const) {
    events(0);
    populated(1);
    const watch = watchOom({ "": top });
    try {
      events(0);
      expect(watch.take()).toBe(0);
      last();
      for (const file of ["memory.events", "cgroup.events"]) rmSync(join(top, file));
      expect([watch.ended(), watch.take(), watch.take()]).toEqual([true, expected, 0]);
    } finally {
      watch.close();
    }
  }
});

test("v2: a kill that has been told of is not told of again when the kernel says so twice and the cgroup goes", () => {
  events(0);
  populated(1);
  const watch = watchOom({ "": top });
  try {
    events(1);
    expect(watch.take()).toBe(1);
    events(1);
    for (const file of ["memory.events", "cgroup.events"]) rmSync(join(top, file));
    expect([watch.take(), watch.ended()]).toEqual([0, true]);
  } finally {
    watch.close();
  }
});

test("v2: who goes on with a watch tells what came in between", () => {
  events(0);
  populated(1);
  const state = watchOom({ "": top }).state();
  events(1);
  for (const file of ["memory.events", "cgroup.events"]) rmSync(join(top, file));
  const watch = resumeOom(JSON.parse(JSON.stringify(state)));
  try {
    expect([watch.take(), watch.ended()]).toEqual([1, true]);
  } finally {
    watch.close();
  }
});

test("what cannot be watched is named, in runc's words", () => {
  expect(() => watchOom({ "": "/nowhere" })).toThrow(
    "unable to add inotify watch: no such file or directory",
  );
  expect(() => watchOom({})).toThrow("memory controller missing");
  expect(() => watchOom({ devices: "/x" })).toThrow("memory controller missing");
  expect(() => watchOom({ devices: "/x", memory: "/nowhere" })).toThrow(
    "open /nowhere/memory.oom_control: no such file or directory",
  );
});
