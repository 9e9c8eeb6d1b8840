import { beforeEach, describe, expect, test } from "bun:test";
import { soundHost } from "../doctor/hosts.ts";
import { judge } from "../doctor/report.ts";
import { reset, rig, run } from "./recorded.ts";

beforeEach(reset);

describe("doctor", () => {
  test("a sound host: text, and 0", async () => {
    expect(await run(["--root", "/state", "doctor"])).toBe(0);
    expect(rig.calls.at(-1)).toEqual(["doctor", "/state", process.cwd()]);
    expect(rig.stdout).toContain("containers of root can run here");
    expect(rig.stderr).toBe("");
  });

  test("1 when something essential is missing, also with --json", async () => {
    const facts = soundHost();
    facts.calls.openat2 = "ENOSYS";
    rig.report = judge(facts);
    expect(await run(["doctor", "--json"])).toBe(1);
    const told = JSON.parse(rig.stdout);
    expect(told.canRun).toBe(false);
    expect(told.findings).toContainEqual(
      expect.objectContaining({ topic: "system call openat2", status: "missing", essential: true }),
    );
    expect(told.facts.calls.openat2).toBe("ENOSYS");
  });

  test("takes no arguments", async () => {
    expect(await run(["doctor", "me"])).not.toBe(0);
    expect(rig.calls.map(([name]) => name)).not.toContain("doctor");
  });
});
