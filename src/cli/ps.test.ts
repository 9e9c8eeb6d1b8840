import { beforeEach, describe, expect, test } from "bun:test";
import { BuncError } from "../errors.ts";
import { selectLines } from "./ps.ts";
import { message, reset, rig, run } from "./recorded.ts";

beforeEach(reset);

const TEXT = "UID   PID  PPID CMD\nroot    1     0 init\nroot   77     1 sh -c 1\nroot  177    77 sleep\n";

describe("the lines of ps", () => {
  test("are those whose column PID has one of the pids", () => {
    expect(selectLines(TEXT, [1, 77])).toBe(TEXT.split("\n").slice(0, 3).join("\n").concat("\n"));
    expect(selectLines(TEXT, [])).toBe("UID   PID  PPID CMD\n");
  });

  test("must have the column, and numbers in it", () => {
    expect(() => selectLines("CMD\nsh\n", [1])).toThrow("couldn't find PID field in ps output");
    expect(() => selectLines("", [1])).toThrow("couldn't find PID field in ps output");
    expect(() => selectLines("PID\nx\n", [1])).toThrow("unable to parse pid: x");
    expect(() => selectLines("UID PID\nshort\n", [1])).toThrow("unable to parse pid: short");
  });
});

describe("commands on a container's processes", () => {
  test("ps writes the pids as JSON", async () => {
    expect(await run(["ps", "-f", "json", "x"])).toBe(0);
    expect(rig.stdout).toBe("[1,77]\n");
  });

  test("options after the id are those of ps(1)", async () => {
    expect(await run(["ps", "x", "--format", "json", "-p", "1"])).toBe(1);
    expect(rig.calls.map(([name]) => name)).toContain("ps");
    expect(message()).toContain("exit status 1");
  });

  test.each(["pause", "resume", "ps"])(
    "%s: missing rights on cgroups are said before the error",
    async (name) => {
      rig.failure = new BuncError("open /x: permission denied", { code: "host", errno: "EACCES" });
      expect(await run([name, "x"])).toBe(1);
      const [warning, error] = rig.stderr.trim().split("\n");
      expect(warning).toContain(`runc ${name} failure might be caused by lack of full access to cgroups`);
      expect(error).toContain("permission denied");
    },
  );

  test("features is indented by four spaces", async () => {
    expect(await run(["features"])).toBe(0);
    expect(rig.stdout).toBe('{\n    "ociVersionMin": "1.0.0"\n}\n');
  });
});
