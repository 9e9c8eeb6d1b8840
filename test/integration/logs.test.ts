// --log and --log-format: what callers read of an error that is not on standard error.
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { useRig } from "../rig/rig.ts";

const rig = useRig();

describe("--log", () => {
  test("has the error as its last entry, as text or json; standard error has it too", async () => {
    const container = rig.container((config) => {
      config.process.args = ["no-such-program"];
    });
    const log = container.path("log");
    const words = 'exec: "no-such-program": executable file not found in $PATH';
    for (const format of ["json", "text"]) {
      rmSync(log, { force: true });
      const global = ["--log", log, "--log-format", format];
      for (let i = 0; i < 2; i++) {
        const result = await container.run([], { global });
        expect(result.code).toBe(1);
        expect(result.stderr).toContain(words); // plain, not as a log entry
        expect(result.stderr).not.toContain("level=");
      }
      const last = readFileSync(log, "utf8").trimEnd().split("\n").at(-1)!;
      expect(readFileSync(log, "utf8").split("no-such-program").length).toBeGreaterThan(2); // appended
      if (format === "json") {
        const entry = JSON.parse(last);
        expect(Object.keys(entry).sort()).toEqual(["level", "msg", "time"]);
        expect(entry.level).toBe("error");
        expect(entry.msg).toStartWith("runc run failed: ");
        expect(entry.msg).toContain(words);
        expect(entry.time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/);
      } else {
        expect(last).toMatch(/^time="[^"]+" level=error msg="runc run failed: /);
        expect(last).toContain('exec: \\"no-such-program\\"');
      }
    }
  });

  test("other commands log too; a log that cannot be opened and an unknown format are errors", async () => {
    const log = join(rig.scratch.output, "log");
    const state = await rig.call(["state", "no-such"], { global: ["--log", log, "--log-format=json"] });
    expect(state.code).toBe(1);
    expect(JSON.parse(readFileSync(log, "utf8")).msg).toStartWith("container does not exist");
    const closed = await rig.call(["list"], { global: ["--log", "/no/such/dir/log"] });
    expect(closed.code).toBe(1);
    expect(closed.stderr).toContain("/no/such/dir/log");
    const format = await rig.call(["list"], { global: ["--log-format", "xml"] });
    expect([format.code, format.stderr]).toEqual([1, expect.stringContaining("invalid log-format: xml")]);
  });

  test("a container's own output does not go there", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sh", "-c", "echo to-stderr >&2"];
    });
    const log = container.path("log");
    const result = (await container.run([], { global: ["--log", log] })).ok();
    expect(result.stderr).toBe("to-stderr\n");
    expect(existsSync(log) ? readFileSync(log, "utf8") : "").toBe("");
  });
});
