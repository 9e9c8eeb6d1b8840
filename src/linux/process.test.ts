/** Whose child a process is, which decides whom a launch that fails may kill. */
import { expect, test } from "bun:test";
import { SIGKILL, SYS_wait4 } from "./abi.gen.ts";
import { sys } from "./lib.ts";
import { isChild } from "./process.ts";

test("a child is one until it is reaped; others, this process and what is no pid are none", () => {
  const child = Bun.spawn(["sleep", "60"]);
  expect(isChild(child.pid)).toBe(true);
  child.kill(SIGKILL);
  expect(sys(SYS_wait4, child.pid, 0, 0, 0)).toBe(child.pid);
  expect(isChild(child.pid)).toBe(false);
  for (const pid of [1, process.pid, 0x7fffffff, -child.pid])
    expect([pid, isChild(pid)]).toEqual([pid, false]);
});
