import { beforeEach, expect, test } from "bun:test";
import { message, reset, rig, run } from "./recorded.ts";

beforeEach(reset);

const lines = () =>
  rig.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

test("each event is a line of JSON", async () => {
  expect(await run(["--root=/r", "events", "web"])).toBe(0);
  expect(rig.calls).toEqual([["watch", "/r", "web", 5000]]);
  expect(rig.stdout).toStartWith('{"type":"oom","id":"web"}\n{"type":"stats","id":"web","data":{"cpu":{},');
  expect(lines()[1].data.pids).toEqual({ current: 1 });
});

test("--stats shows the statistics once", async () => {
  expect(await run(["--root=/r", "events", "--stats", "web"])).toBe(0);
  expect(rig.calls).toEqual([["stats", "/r", "web"]]);
  expect(lines().map(({ type, id }) => [type, id])).toEqual([["stats", "web"]]);
});

test("the interval is a duration as Go writes it", async () => {
  expect(await run(["--root=/r", "events", "web", "--interval", "1m0.5s"])).toBe(0);
  expect(rig.calls).toEqual([["watch", "/r", "web", 60_500]]);
  for (const wrong of ["5", "", "1 s", "x"]) {
    reset();
    expect(await run(["events", "--interval", wrong, "web"])).toBe(1);
    expect(rig.calls).toEqual([]);
    expect(rig.stdout).toStartWith(
      `Incorrect Usage: invalid value "${wrong}" for flag -interval: parse error\n`,
    );
    expect(message()).toContain("parse error");
  }
});

test("help tells the default as runc does", async () => {
  expect(await run(["events", "--help"])).toBe(0);
  expect(rig.stdout).toContain("(default: 5s)");
});
