import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { restoreWaiting, waitInBackground } from "../linux/wait.rig.ts";
import { freeze, removeAll, thaw } from "./live.ts";

// Directories with the files of a cgroup: nothing is frozen, the test plays the kernel.
const top = mkdtempSync(join(tmpdir(), "bunc-live-"));
afterAll(() => rmSync(top, { recursive: true }));
restoreWaiting();
let counter = 0;
let timer: ReturnType<typeof setInterval> | undefined;
afterEach(() => clearInterval(timer));

function group(files: Record<string, string>): string {
  const dir = join(top, String(counter++));
  mkdirSync(dir);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  return dir;
}

describe("while a cgroup is waited for other work goes on", () => {
  test("freezing it, v2", async () => {
    waitInBackground();
    const dir = group({ "cgroup.freeze": "0", "cgroup.events": "populated 1\nfrozen 0\n" });
    let turns = 0;
    timer = setInterval(() => {
      if (++turns === 20) writeFileSync(join(dir, "cgroup.events"), "populated 1\nfrozen 1\n");
    }, 2);
    await freeze({ "": dir });
    expect(turns).toBeGreaterThanOrEqual(20);
    expect(readFileSync(join(dir, "cgroup.freeze"), "utf8")).toBe("1");
    thaw({ "": dir });
    expect(readFileSync(join(dir, "cgroup.freeze"), "utf8")).toBe("0");
  });

  test("removing it", async () => {
    waitInBackground();
    const dir = group({});
    // What keeps a directory: an entry that cannot be removed as a cgroup is.
    writeFileSync(join(dir, "busy"), "");
    let turns = 0;
    timer = setInterval(() => {
      if (++turns === 20) rmSync(join(dir, "busy"));
    }, 2);
    let asked = 0;
    await removeAll({ "": dir }, 5000, () => asked++);
    expect(turns).toBeGreaterThanOrEqual(20);
    expect(asked).toBeGreaterThan(3);
  });
});

test("v1 is frozen when its file says so, and what is wrong is told", async () => {
  const dir = group({ "freezer.state": "THAWED" });
  await freeze({ freezer: dir, devices: dir });
  expect(readFileSync(join(dir, "freezer.state"), "utf8")).toBe("FROZEN");
  expect(freeze({ devices: dir })).rejects.toThrow(
    "cannot toggle freezer: cgroups not configured for container",
  );
  expect(freeze({ freezer: "/nowhere" })).rejects.toThrow(
    "unable to freeze: write /nowhere/freezer.state: no such file",
  );
  expect(freeze({ "": "/nowhere" })).rejects.toThrow(
    "unable to freeze: write /nowhere/cgroup.freeze: no such file",
  );
});
