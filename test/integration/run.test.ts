// `run`: exit codes, streams, signals, what is left afterwards; --detach, --keep, --pid-file, --no-subreaper.
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { entries } from "../rig/leaks.ts";
import { useRig } from "../rig/rig.ts";
import { systemdDriver } from "../rig/runtime.ts";

const rig = useRig();

/** A container that runs a shell script. */
function script(text: string) {
  return rig.container((config) => {
    config.process.args = ["sh", "-c", text];
  });
}

describe("in the foreground", () => {
  test("returns the program's exit code, 128+n for a signal, and leaves nothing", async () => {
    const container = script("exit 0");
    for (const [text, code] of [
      ["exit 0", 0],
      ["exit 1", 1],
      ["exit 42", 42],
      ["exit 255", 255],
      // A pid 1 is immune to its own signals, so a child's death is passed on by number.
      ["sh -c 'kill -KILL $$'; exit $?", 137],
    ] as const) {
      container.config.process.args = ["sh", "-c", text];
      const result = await container.run();
      expect([text, result.code, result.stderr]).toEqual([
        text,
        code,
        text.includes("KILL") ? "Killed\n" : "",
      ]);
      expect(rig.states()).toEqual([]);
      expect(container.cgroupDirectories()).toEqual([]);
    }
    container.config.process.args = ["sleep", "60"];
    container.write();
    const running = rig.spawn(["run", "--bundle", container.bundle, container.id]);
    await container.waitFor("running");
    (await container.call("kill", "KILL")).ok();
    expect((await running.done).code).toBe(137);
    expect(rig.states()).toEqual([]);
  });

  test("passes standard input, output and error through", async () => {
    const container = script("cat; echo to-stderr >&2; echo to-stdout");
    const text = "line\n".repeat(20_000); // more than a pipe holds
    const result = (await container.run([], { stdin: text })).ok();
    expect(result.stdout).toBe(`${text}to-stdout\n`);
    expect(result.stderr).toBe("to-stderr\n");
    container.config.process.args = ["sh", "-c", "cat; echo eof"];
    expect((await container.run()).ok().stdout).toBe("eof\n");
  });

  test("forwards signals to the program", async () => {
    const traps = ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM"].map((name) => `trap 'echo ${name}' ${name}`);
    const container = script(
      `${traps.join(";")}; trap 'exit 7' ALRM; echo ready; while :; do sleep 0.02; done`,
    );
    const running = rig.spawn(["run", "--bundle", container.bundle, container.id]);
    await running.now.until("ready");
    for (const name of ["SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM"] as const) {
      running.signal(name);
      await running.now.until(`${name.slice(3)}\n`);
    }
    running.signal("SIGALRM");
    expect((await running.done).code).toBe(7);
  });

  test("ends with the program even while a process it left holds the streams' files", async () => {
    const container = script("sleep 60 & echo $!; exit 5");
    expect((await container.run()).code).toBe(5);
    expect(container.cgroupDirectories()).toEqual([]);
  });

  test("waits for the program, not for orphans it inherits as a subreaper", async () => {
    // Without a pid namespace of its own a daemon outlives the program; it must not outlive the container.
    const container = script("(sleep 60 &) ; exit 4");
    container.config.linux.namespaces = container.config.linux.namespaces.filter(
      ({ type }) => type !== "pid",
    );
    for (const flags of [[], ["--no-subreaper"]]) {
      expect((await container.run(flags)).code).toBe(4);
      expect(container.cgroupDirectories()).toEqual([]);
    }
  });

  test("--keep leaves a stopped container with its cgroup", async () => {
    const container = script("exit 9");
    expect((await container.run(["--keep"])).code).toBe(9);
    expect(await container.state()).toMatchObject({ status: "stopped", pid: 0 });
    // systemd removes a scope that nothing is left in.
    if (!systemdDriver) expect(container.cgroupDirectories().length).toBeGreaterThan(0);
    const again = await container.run();
    expect(again.code).toBe(1);
    expect(again.stderr).toContain("container with given ID already exists");
    (await container.call("delete")).ok();
    expect(container.cgroupDirectories()).toEqual([]);
  });

  test("the bundle is the current directory when none is given; a relative one is taken from there", async () => {
    const container = script("echo here");
    expect((await rig.call(["run", container.id], { cwd: container.bundle })).ok().stdout).toBe("here\n");
    const flags = ["-b", container.id];
    const result = await rig.call(["run", ...flags, container.id], { cwd: rig.scratch.bundles });
    expect(result.ok().stdout).toBe("here\n");
  });

  test("finishes within a second of a short program when its parent ignores SIGCHLD and blocks signals", async () => {
    const container = script("exit 6");
    // A shell cannot block signals, but it can hand down ignored ones, as nohup and cron do.
    const wrap = ["sh", "-c", "trap '' CHLD HUP PIPE; exec \"$@\"", "sh"];
    const before = Date.now();
    expect((await container.run([], { wrap })).code).toBe(6);
    expect(Date.now() - before).toBeLessThan(2000);
  });
});

describe("--detach", () => {
  test("returns while the program runs, and the program keeps the streams", async () => {
    const container = script("read line; echo got $line; sleep 60");
    const result = await container.detach([], { stdin: "input\n" });
    expect(await container.state()).toMatchObject({ status: "running" });
    expect(await result.until("\n")).toBe("got input\n");
    // Its parent is whoever reaps orphans, not a helper process of the runtime that stays behind.
    const { pid } = await container.state();
    const parent = /^PPid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]!;
    expect(readFileSync(`/proc/${parent}/cmdline`, "utf8")).not.toContain(container.id);
  });

  test("a program that ends leaves a stopped container", async () => {
    const container = script("exit 3");
    await container.detach();
    expect((await container.waitFor("stopped")).pid).toBe(0);
    (await container.call("delete")).ok();
  });
});

describe("--pid-file", () => {
  test("holds the pid without a newline; relative to the caller's directory; replaced", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    await Bun.write(join(rig.scratch.tmp, "pid"), "old content");
    rig.defer(() => rmSync(join(rig.scratch.tmp, "pid"), { force: true }));
    await container.create(["--pid-file", "pid"], { cwd: rig.scratch.tmp });
    const { pid } = await container.state();
    expect(readFileSync(join(rig.scratch.tmp, "pid"), "utf8")).toBe(String(pid));
    expect(entries(rig.scratch.tmp)).toEqual(["pid"]);
    (await container.remove("--force")).ok();

    const file = container.path("run.pid");
    container.config.process.args = ["true"];
    (await container.run(["--pid-file", file])).ok();
    expect(readFileSync(file, "utf8")).toMatch(/^\d+$/);
  });

  test("that cannot be written fails the command, and nothing is left running", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    const result = await container.start("create", ["--pid-file", "/nonexistent/pid"]);
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("/nonexistent");
    expect(result.stderr).toContain("no such file or directory");
    expect(rig.states()).toEqual([]);
    expect(container.cgroupDirectories()).toEqual([]);
    expect(existsSync("/nonexistent")).toBe(false);
  });
});
