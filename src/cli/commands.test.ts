/** Whole command lines through the commands: what reaches the container layer, and what they print. */
import { beforeEach, describe, expect, test } from "bun:test";
import type { ContainerInfo, LaunchOptions, RunOptions } from "../container/types.ts";
import { BuncError } from "../errors.ts";
import { launched, message, reset, rig, run } from "./recorded.ts";

beforeEach(reset);

const INFO: ContainerInfo = {
  ociVersion: "1.3.0",
  id: "web",
  pid: 4711,
  status: "running",
  bundle: "/b/web",
  rootfs: "/b/web/rootfs",
  created: "2026-11-20T10:00:00.123456789Z",
  annotations: { z: "<1>", a: "2" },
  owner: "root",
};

describe("create and run", () => {
  test("all flags reach the container layer", async () => {
    const args = [
      "-b",
      "b",
      "--console-socket",
      "c.sock",
      "--pidfd-socket=p.sock",
      "--pid-file",
      "pid",
      "--no-pivot",
    ];
    const code = await run([
      "--root=/r",
      "--systemd-cgroup",
      "--rootless=true",
      "create",
      ...args,
      "--no-new-keyring",
      "--preserve-fds=2",
      "web",
    ]);
    expect(code).toBe(0);
    const { log, ...options } = launched<LaunchOptions>();
    expect(rig.calls.map(([name]) => name)).toEqual(["create"]);
    expect(options).toEqual({
      root: "/r",
      id: "web",
      bundle: `${process.cwd()}/b`,
      consoleSocket: "c.sock",
      pidfdSocket: "p.sock",
      pidFile: `${process.cwd()}/pid`,
      noPivot: true,
      noNewKeyring: true,
      preserveFds: 2,
      systemdCgroup: true,
      rootless: true,
    });
    expect(log.debugging).toBe(false);
  });
  test("defaults", async () => {
    expect(await run(["run", "web"])).toBe(137);
    const { log: _, ...options } = launched<RunOptions>();
    expect(options).toEqual({
      root: "/run/bunc",
      id: "web",
      bundle: process.cwd(),
      noPivot: false,
      noNewKeyring: false,
      preserveFds: 0,
      systemdCgroup: false,
      detach: false,
      keep: false,
      noSubreaper: false,
    });
  });
  test("run's own flags", async () => {
    await run(["run", "-d", "web", "--keep", "--no-subreaper"]);
    expect(launched<RunOptions>()).toMatchObject({ detach: true, keep: true, noSubreaper: true });
  });
  test("--rootless", async () => {
    const values: [string, boolean | undefined][] = [
      ["auto", undefined],
      ["AUTO", undefined],
      ["", undefined],
      ["false", false],
      ["1", true],
    ];
    for (const [value, expected] of values) {
      rig.calls = [];
      await run(["--rootless", value, "create", "x"]);
      expect(launched<LaunchOptions>().rootless).toBe(expected);
    }
    expect(await run(["--rootless", "maybe", "create", "x"])).toBe(1);
    expect(message()).toContain(String.raw`runc create failed: invalid --rootless value \"maybe\"`);
    // Commands that make no container do not look at it, as in runc.
    expect(await run(["--rootless", "maybe", "start", "x"])).toBe(0);
  });
  test("--cgroup-manager", async () => {
    const cases: [string[], object][] = [
      [["--cgroup-manager=systemd"], { systemdCgroup: true }],
      [["--cgroup-manager=cgroupfs", "--systemd-cgroup"], { systemdCgroup: false }],
      [["--cgroup-manager", "disabled"], { systemdCgroup: false, noCgroup: true }],
    ];
    for (const [args, expected] of cases) {
      rig.calls = [];
      expect(await run([...args, "create", "x"])).toBe(0);
      expect(launched<LaunchOptions>()).toMatchObject(expected);
    }
    for (const value of ["", "Systemd", "none"]) {
      rig.stderr = "";
      expect(await run([`--cgroup-manager=${value}`, "create", "x"])).toBe(1);
      expect(message()).toContain("invalid --cgroup-manager value");
    }
  });
  test("--config is the caller's file, and config.json the bundle's", async () => {
    const cases: [string[], string | undefined][] = [
      [["--config", "other.json"], `${process.cwd()}/other.json`],
      [["-f", "/a//b.json"], "/a/b.json"],
      [["--config=config.json"], undefined],
      [["--config="], undefined],
    ];
    for (const [args, config] of cases) {
      rig.calls = [];
      expect(await run(["create", ...args, "-b", "/b", "x"])).toBe(0);
      expect(launched<LaunchOptions>().config).toBe(config as string);
    }
  });
  test("errors carry runc's prefix and keep their fields", async () => {
    rig.failure = new BuncError('exec: "nope": executable file not found in $PATH', {
      exitCode: 5,
      hint: "look",
    });
    expect(await run(["create", "x"])).toBe(5);
    expect(message()).toBe(
      String.raw`"runc create failed: exec: \"nope\": executable file not found in $PATH (hint: look)"`,
    );
    rig.stderr = "";
    rig.failure = new RangeError("boom");
    expect(await run(["run", "x"])).toBe(1);
    expect(message()).toBe('"runc run failed: boom"');
  });
  test("what cannot be right is refused before the container layer", async () => {
    expect(await run(["create", ""])).toBe(1);
    expect(message()).toBe('"runc create failed: container id cannot be empty"');
    rig.stderr = "";
    expect(await run(["run", "--preserve-fds", "-1", "x"])).toBe(1);
    expect(message()).toBe('"runc run failed: --preserve-fds must not be negative: -1"');
    expect(rig.calls).toEqual([]);
  });
  test("ids arrive as they are, whatever is in them", async () => {
    for (const id of ["a\nb", "a\0b", "../x", "é", "x".repeat(1 << 20), "-"]) {
      rig.calls = [];
      await run(["create", "--", id]);
      expect(launched<LaunchOptions>().id).toBe(id);
    }
  });
});

describe("start, delete, kill", () => {
  test("start and delete", async () => {
    expect(await run(["start", "x"])).toBe(0);
    expect(await run(["delete", "x"])).toBe(0);
    expect(await run(["delete", "x", "-f"])).toBe(0);
    expect(await run(["delete", "--force", "x"])).toBe(0);
    expect(rig.calls).toEqual([
      ["start", "/run/bunc", "x"],
      ["delete", "/run/bunc", "x", false],
      ["delete", "/run/bunc", "x", true],
      ["delete", "/run/bunc", "x", true],
    ]);
  });
  test("the empty id", async () => {
    for (const name of ["start", "delete", "kill", "state"]) {
      rig.stderr = "";
      expect(await run([name, ""])).toBe(1);
      expect(message()).toBe('"container id cannot be empty"');
    }
  });
  test("signals", async () => {
    const cases: [string[], number][] = [
      [["kill", "x"], 15],
      [["kill", "x", ""], 15],
      [["kill", "x", "KILL"], 9],
      [["kill", "--all", "x", "9"], 9],
      [["kill", "x", "--all", "SIGHUP"], 1],
      [["kill", "x", "0"], 0],
    ];
    for (const [args, signo] of cases) {
      rig.calls = [];
      expect(await run(args)).toBe(0);
      expect(rig.calls).toEqual([["kill", "/run/bunc", "x", signo]]);
    }
    for (const name of ["FOO", "-9", "65", "a\nb"]) {
      rig.stderr = "";
      rig.calls = [];
      expect(await run(["kill", "x", name])).toBe(1);
      expect(message()).toBe(JSON.stringify(`unknown signal ${JSON.stringify(name)}`));
      expect(rig.calls).toEqual([]);
    }
  });
  test("--all forgives only a container that has ended", async () => {
    rig.failure = new BuncError("container not running", { code: "state" });
    expect(await run(["kill", "-a", "x"])).toBe(0);
    expect(await run(["kill", "x"])).toBe(1);
    rig.failure = new BuncError("container does not exist", { code: "not-found" });
    expect(await run(["kill", "-a", "x"])).toBe(1);
  });
});

describe("state and list", () => {
  test("state is runc's JSON, without the owner and without a newline", async () => {
    rig.containers = [INFO];
    expect(await run(["state", "web"])).toBe(0);
    expect(rig.stdout).toBe(`{
  "ociVersion": "1.3.0",
  "id": "web",
  "pid": 4711,
  "status": "running",
  "bundle": "/b/web",
  "rootfs": "/b/web/rootfs",
  "created": "2026-11-20T10:00:00.123456789Z",
  "annotations": {
    "a": "2",
    "z": "\\u003c1\\u003e"
  },
  "owner": ""
}`);
  });
  test("list as a table", async () => {
    rig.containers = [
      INFO,
      { ...INFO, id: "a-long-name", pid: 0, status: "stopped", bundle: "/x\n\x1b[31m", owner: "#7" },
    ];
    expect(await run(["list"])).toBe(0);
    expect(rig.stdout).toBe(
      "ID            PID         STATUS      BUNDLE           CREATED                          OWNER\n" +
        "web           4711        running     /b/web           2026-11-20T10:00:00.123456789Z   root\n" +
        "a-long-name   0           stopped     /x\\x0a\\x1b[31m   2026-11-20T10:00:00.123456789Z   #7\n",
    );
    expect(rig.stderr).toBe("load container bad: unexpected end\n");
  });
  test("list as JSON, and nothing as null", async () => {
    expect(await run(["list", "-f", "json"])).toBe(0);
    expect(rig.stdout).toBe("null\n");
    rig.stdout = "";
    const { annotations: _, ...plain } = INFO;
    rig.containers = [plain, { ...INFO, annotations: {} }];
    expect(await run(["list", "--format=json"])).toBe(0);
    const json =
      '{"ociVersion":"1.3.0","id":"web","pid":4711,"status":"running","bundle":"/b/web","rootfs":"/b/web/rootfs","created":"2026-11-20T10:00:00.123456789Z","owner":"root"}';
    expect(rig.stdout).toBe(`[${json},${json}]\n`);
  });
  test("list -q, and no containers", async () => {
    rig.containers = [INFO, { ...INFO, id: "b" }];
    await run(["list", "-q"]);
    expect(rig.stdout).toBe("web\nb\n");
    rig.stdout = "";
    rig.containers = [];
    await run(["list", "-q"]);
    expect(rig.stdout).toBe("");
    await run(["list"]);
    expect(rig.stdout).toBe("ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
  });
  test("a missing root is empty by default and an error when asked for", async () => {
    rig.failure = new BuncError("open /r: no such file or directory", { errno: "ENOENT" });
    expect(await run(["list", "-f", "json"])).toBe(0);
    expect(rig.stdout).toBe("null\n");
    expect(await run(["--root", "/r", "list"])).toBe(1);
    expect(message()).toBe('"open /r: no such file or directory (ENOENT)"');
    rig.failure = new BuncError("open /r: permission denied", { errno: "EACCES" });
    expect(await run(["list"])).toBe(1);
  });
  test("an unknown format is refused, with or without containers", async () => {
    expect(await run(["list", "-f", "yaml"])).toBe(1);
    expect(message()).toContain("invalid format option");
    expect(rig.calls).toEqual([]);
    // runc looks at the format only when it needs one.
    expect(await run(["list", "-q", "-f", "yaml"])).toBe(0);
  });
});
