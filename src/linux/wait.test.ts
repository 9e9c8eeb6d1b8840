import { describe, expect, test } from "bun:test";
import { runHooks } from "../container/hooks.ts";
import { BuncError } from "../errors.ts";
import { abi } from "./abi.gen.ts";
import { sys } from "./lib.ts";
import { closeFd } from "./process.ts";
import { restoreWaiting, waitInBackground } from "./wait.rig.ts";
import { servesOthers, sleep, waitReady } from "./wait.ts";

restoreWaiting();

function pipe(): [number, number] {
  const ends = new Int32Array(2);
  expect(sys(abi.SYS_pipe2, new Uint8Array(ends.buffer), abi.O_CLOEXEC)).toBe(0);
  return [ends[0]!, ends[1]!];
}

describe("a command", () => {
  test("blocks until a descriptor is ready, or the time is over", () => {
    const [read, write] = pipe();
    const other = pipe();
    try {
      expect(waitReady([read, other[0]], 0)).toEqual([false, false]);
      sys(abi.SYS_write, write, new Uint8Array([1]), 1);
      expect(waitReady([read, other[0]])).toEqual([true, false]);
      closeFd(other[1]);
      other[1] = -1;
      // The other end is closed.
      expect(waitReady([other[0]])).toEqual([true]);
    } finally {
      for (const fd of [read, write, ...other]) closeFd(fd);
    }
  });

  test("lets time pass", () => {
    const before = performance.now();
    expect(sleep(30)).toEqual([]);
    expect(performance.now() - before).toBeGreaterThanOrEqual(29);
  });
});

describe("a process that serves others", () => {
  test("waits by its loop", async () => {
    waitInBackground();
    expect(servesOthers()).toBe(true);
    const [read, write] = pipe();
    try {
      const waiting = waitReady([read]);
      expect(waiting).toBeInstanceOf(Promise);
      closeFd(write);
      expect(await waiting).toEqual([true]);
    } finally {
      closeFd(read);
    }
  });

  test("runs hooks while other work goes on", async () => {
    waitInBackground();
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const shell = (script: string) => ({ path: "/bin/sh", args: ["sh", "-c", script] });
    try {
      await runHooks("createRuntime", [shell("cat >/dev/null; sleep 0.1")], "{}");
      expect(turns).toBeGreaterThan(5);
      const failing = [shell("cat; echo no >&2; exit 3"), shell("exit 4")];
      const error = await Promise.resolve(runHooks("prestart", failing, '{"id":"x"}')).catch((e) => e);
      expect(error).toBeInstanceOf(BuncError);
      expect(error.message).toBe(
        'error running prestart hook #0: exit status 3, stdout: {"id":"x"}, stderr: no',
      );
      const said: string[] = [];
      await runHooks("poststop", failing, "{}", { failed: ({ message }) => said.push(message) });
      expect(said).toHaveLength(2);
      expect(said[1]).toContain("hook #1: exit status 4");
    } finally {
      clearInterval(timer);
    }
  });
});
