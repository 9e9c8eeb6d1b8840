// Hooks that fail: what the command says and returns, and what is left of the container.
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Hook, HookKind } from "../rig/config.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest, isBunc } from "../rig/runtime.ts";

const rig = useRig();

const ok: Hook = { path: "/bin/busybox", args: ["true"] };
const boom: Hook = { path: "/bin/busybox", args: ["sh", "-c", "echo to-out; echo to-err >&2; exit 9"] };

/** What callers see of a failed hook: its kind and number, how it ended, what it printed. */
const words = (kind: HookKind): RegExp =>
  isBunc
    ? new RegExp(`error running ${kind} hook #1: exit status 9, stdout: to-out.*, stderr: to-err`)
    : /error running hook #1: .*exit status 9, stdout: .*to-out.*, stderr: .*to-err/s;

function withHooks(kind: HookKind, hooks: Hook[], poststop?: string) {
  return rig.container((config) => {
    config.process.args = ["sh", "-c", "echo program; sleep 60"];
    config.hooks = { [kind]: hooks };
    if (poststop !== undefined) {
      config.hooks.poststop = [{ path: "/bin/busybox", args: ["sh", "-c", `echo poststop >>${poststop}`] }];
    }
  });
}

describe.each(["prestart", "createRuntime", "createContainer"] as const)("a failing %s hook", (kind) => {
  test("fails create and run, undoes everything, and the poststop hooks run", async () => {
    const log = join(rig.directory(), "log");
    for (const command of ["create", "run"] as const) {
      const container = withHooks(kind, [ok, boom, ok], log);
      const result = await container.start(command);
      expect([result.code, result.stderr.replaceAll("\\n", "\n")]).toEqual([
        1,
        expect.stringMatching(words(kind)),
      ]);
      expect(result.stdout).toBe("");
      expect(rig.states()).toEqual([]);
      expect(rig.leaks()).toEqual([]);
    }
    expect(readFileSync(log, "utf8")).toBe("poststop\npoststop\n");
  });
});

describe("a failing startContainer hook", () => {
  test("fails run; the program never starts", async () => {
    const log = join(rig.directory(), "log");
    const container = withHooks("startContainer", [ok, boom], log);
    const result = await container.run();
    expect(result.code).toBe(1);
    expect(result.stdout).toBe("");
    expect(result.stderr.replaceAll("\\n", "\n")).toMatch(words("startContainer"));
    expect(rig.states()).toEqual([]);
    expect(readFileSync(log, "utf8")).toBe("poststop\n");
  });

  buncTest("fails start, and the container is stopped", async () => {
    const container = withHooks("startContainer", [ok, boom]);
    const created = await container.create();
    const result = await container.call("start");
    expect([result.code, result.stderr]).toEqual([1, expect.stringMatching(words("startContainer"))]);
    expect(await container.waitFor("stopped")).toMatchObject({ pid: 0 });
    expect(created.stdout).toBe("");
    (await container.remove()).ok();
  });
});

describe("a failing poststart hook", () => {
  test("fails run and kills the program", async () => {
    const container = withHooks("poststart", [ok, boom]);
    const before = Date.now();
    const result = await container.run();
    expect([result.code, result.stderr.replaceAll("\\n", "\n")]).toEqual([
      1,
      expect.stringMatching(words("poststart")),
    ]);
    expect(Date.now() - before).toBeLessThan(20_000);
    expect(rig.states()).toEqual([]);
    expect(rig.leaks()).toEqual([]);
  });

  buncTest("fails start and stops the container", async () => {
    const container = withHooks("poststart", [ok, boom]);
    await container.create();
    const result = await container.call("start");
    expect([result.code, result.stderr]).toEqual([1, expect.stringMatching(words("poststart"))]);
    expect((await container.waitFor("stopped")).pid).toBe(0);
    (await container.remove()).ok();
  });
});

describe("a failing poststop hook", () => {
  buncTest("is a warning: delete succeeds and the other hooks run", async () => {
    const log = join(rig.directory(), "log");
    const container = withHooks("poststop", [
      boom,
      { path: "/no/such/hook" },
      { path: "/bin/busybox", args: ["sh", "-c", `echo third >${log}`] },
    ]);
    await container.create();
    const result = (await container.remove("--force")).ok();
    expect(result.stderr).toContain("poststop");
    expect(result.stderr).toContain("to-err");
    expect(result.stderr).toContain("/no/such/hook");
    expect(readFileSync(log, "utf8")).toBe("third\n");
    expect(rig.states()).toEqual([]);
    // After a foreground run its exit code stays the program's.
    const run = withHooks("poststop", [boom]);
    run.config.process.args = ["sh", "-c", "exit 5"];
    expect((await run.run()).code).toBe(5);
  });
});

describe("a hook that", () => {
  test("cannot be executed is named", async () => {
    for (const kind of ["createRuntime", "createContainer", "startContainer"] as const) {
      for (const [path, reason] of [
        ["/no/such/hook", "no such file or directory"],
        ["/etc/passwd", "permission denied"],
      ] as const) {
        const container = withHooks(kind, [{ path }]);
        const result = await container.run();
        expect([kind, path, result.code]).toEqual([kind, path, 1]);
        expect(result.stderr).toContain(path);
        expect(result.stderr).toContain(reason);
        if (isBunc) expect(result.stderr).toContain(`hooks.${kind}[0]`);
        expect(rig.states()).toEqual([]);
      }
    }
  });

  test("is killed by a signal says so", async () => {
    const container = withHooks("createRuntime", [
      { path: "/bin/busybox", args: ["sh", "-c", "kill -SEGV $$"] },
    ]);
    const result = await container.run();
    expect([result.code, result.stderr]).toEqual([1, expect.stringMatching(/signal: segmentation fault/)]);
  });

  test("runs past its timeout is killed, and the container with it", async () => {
    for (const kind of ["createRuntime", "startContainer"] as const) {
      const container = withHooks(kind, [{ path: "/bin/busybox", args: ["sleep", "61"], timeout: 1 }]);
      const before = Date.now();
      const result = await container.run();
      const took = Date.now() - before;
      expect([kind, result.code, result.stderr]).toEqual([
        kind,
        1,
        expect.stringContaining("hook ran past specified timeout of 1.0s"),
      ]);
      expect(took).toBeGreaterThan(900);
      expect(took).toBeLessThan(10_000);
      expect(rig.leaks()).toEqual([]);
    }
    const quick = withHooks("createRuntime", [{ ...ok, timeout: 5 }]);
    quick.config.process.args = ["true"];
    (await quick.run()).ok();
  });

  buncTest(
    "has a relative path, or a timeout that is no positive number, is refused before anything is made",
    async () => {
      for (const hook of [
        { path: "bin/true" },
        { path: "" },
        { path: "/bin/true", timeout: 0 },
        { path: "/bin/true", timeout: -3 },
      ]) {
        const marker = join(rig.directory(), "ran");
        const container = withHooks("createRuntime", [
          { path: "/bin/busybox", args: ["touch", marker] },
          hook,
        ]);
        const result = await container.run();
        expect([hook, result.code, result.stderr]).toEqual([
          hook,
          1,
          expect.stringContaining("hooks.createRuntime[1]"),
        ]);
        expect(existsSync(marker)).toBe(false);
      }
    },
  );

  buncTest("kills the container while it is created makes create fail plainly", async () => {
    const kill = `kill -9 $(sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p')`;
    const container = withHooks("createRuntime", [{ path: "/bin/busybox", args: ["sh", "-c", kill] }]);
    const result = await container.start("create");
    expect([result.code, result.stderr]).toEqual([
      1,
      expect.stringMatching(/init (was killed|ended|died)|signal: killed/),
    ]);
    expect(rig.leaks()).toEqual([]);
  });
});
