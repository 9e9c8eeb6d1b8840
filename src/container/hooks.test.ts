import { afterAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hookFailure, hookOfOp } from "../launch/hook-failure.ts";
import { hookStruct } from "../launch/hooks.ts";
import { Part } from "../launch/program.ts";
import * as abi from "../linux/abi.gen.ts";
import { HostState } from "../linux/run-part.ts";
import type { Hook } from "../oci/config.ts";
import { descriptors, failure, opened } from "../testing.ts";
import { hookStateJson } from "./hook-state.ts";
import { fromLibcontainer, hookEnvironment, runHooks } from "./hooks.ts";

const scratch = mkdtempSync(join(tmpdir(), "bunc-hooks-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const STATE = hookStateJson({ id: "x", status: "creating", pid: 12, bundle: "/b" });

/** A hook that is a shell script; its output goes to a file that `said` reads. */
let scripts = 0;
function script(text: string, more: Partial<Hook> = {}): Hook & { said(): string } {
  const out = join(scratch, `out${++scripts}`);
  writeFileSync(out, "");
  return {
    path: "/bin/sh",
    args: ["sh", "-c", `exec 3>${out}; ${text}`],
    ...more,
    said: () => readFileSync(out, "utf8"),
  };
}

describe("the state a hook reads", () => {
  test("has the fields and the order of specs-go", () => {
    expect(STATE).toBe('{"ociVersion":"1.3.0","id":"x","status":"creating","pid":12,"bundle":"/b"}');
    const annotations = { b: "2", a: '"<', ["__proto__"]: "p" };
    expect(hookStateJson({ id: "x", status: "stopped", pid: 0, bundle: "/b", annotations })).toBe(
      '{"ociVersion":"1.3.0","id":"x","status":"stopped","bundle":"/b","annotations":{"__proto__":"p","a":"\\"<","b":"2"}}',
    );
    expect(JSON.parse(hookStateJson({ id: "x", status: "stopped", bundle: "/b", annotations: {} }))).toEqual({
      ociVersion: "1.3.0",
      id: "x",
      status: "stopped",
      bundle: "/b",
    });
  });
});

describe("runHooks", () => {
  test("runs all in order with the state on stdin", () => {
    const order = join(scratch, "order");
    const first = script(`cat >&3; echo first >>${order}`);
    const second = script(`cat >&3; echo second >>${order}`);
    runHooks("createRuntime", [first, second], STATE);
    expect([first.said(), second.said()]).toEqual([STATE, STATE]);
    expect(readFileSync(order, "utf8")).toBe("first\nsecond\n");
    runHooks("createRuntime", [], STATE);
  });

  test("a large state arrives whole", () => {
    const annotations = { a: "x".repeat(300_000) };
    const state = hookStateJson({ id: "x", status: "created", bundle: "/b", annotations });
    const hook = script("cat >&3");
    runHooks("prestart", [hook], state);
    expect(hook.said()).toBe(state);
  });

  test("arguments: as given, or the path alone", () => {
    const tool = join(scratch, "tool");
    const out = join(scratch, "arguments");
    writeFileSync(tool, `#!/bin/sh\nprintf '%s.' "$0" "$@" >>${out}\n`, { mode: 0o755 });
    runHooks(
      "prestart",
      [{ path: tool }, { path: tool, args: [] }, { path: tool, args: ["x", "a b", ""] }],
      STATE,
    );
    expect(readFileSync(out, "utf8")).toBe(`${tool}.${tool}.${tool}.a b..`);
  });

  test("environment: its own, none, or the caller's without what steers Bun", () => {
    const own = script("env >&3", { env: ["A=1", "B=x y"] });
    const none = script("env >&3", { env: [] });
    process.env.BUN_OPTIONS_TEST = "no";
    process.env.BUNC_HOOK_TEST = "yes";
    const inherited = script("env >&3");
    try {
      runHooks("prestart", [own, none, inherited], STATE);
    } finally {
      delete process.env.BUN_OPTIONS_TEST;
      delete process.env.BUNC_HOOK_TEST;
    }
    const names = (text: string) => text.split("\n").filter((line) => !/^(PWD|SHLVL|_|OLDPWD)=/.test(line));
    expect(names(own.said())).toEqual(["A=1", "B=x y", ""]);
    expect(names(none.said())).toEqual([""]);
    expect(inherited.said()).toContain("BUNC_HOOK_TEST=yes\n");
    expect(inherited.said()).not.toContain("BUN_OPTIONS_TEST");
    expect(hookEnvironment({ A: "1", BUN_X: "2", BUNDLE: "3", NONE: undefined })).toEqual([
      "A=1",
      "BUNDLE=3",
    ]);
  });

  test("inherits no descriptor, no blocked signal, no ignored one", () => {
    const hook = script("ls /proc/self/fd >&3; grep -E '^Sig(Blk|Ign)' /proc/self/status >&3");
    runHooks("prestart", [hook], STATE);
    const [fds, signals] = hook.said().split("SigBlk:");
    // 0, 1, 2, the script's own 3, and that of `ls` for the directory.
    expect(fds!.trim().split("\n").length).toBeLessThanOrEqual(5);
    expect(signals).toMatch(/^\s*0{16}\nSigIgn:\s*0{16}\n$/);
  });

  test("a failing hook ends the list, in runc's words", () => {
    const later = script("echo ran >&3");
    const error = failure(() =>
      runHooks("createRuntime", [script("echo out; echo err >&2; exit 3"), later], STATE),
    );
    expect(error.message).toBe(
      "error running createRuntime hook #0: exit status 3, stdout: out, stderr: err",
    );
    expect(error.fields).toMatchObject({ code: "hook", path: "hooks.createRuntime[0]" });
    expect(later.said()).toBe("");
  });

  test("with `failed` the others are run, and each error is told", () => {
    const later = script("echo ran >&3");
    const said: string[] = [];
    const hooks = [script("exit 1"), { path: "/nonexistent" }, later];
    runHooks("poststop", hooks, STATE, { failed: (error) => said.push(error.message) });
    expect(said).toEqual([
      "error running poststop hook #0: exit status 1, stdout: , stderr: ",
      "error running poststop hook #1: fork/exec /nonexistent: no such file or directory",
    ]);
    expect(later.said()).toBe("ran\n");
  });

  test("signals, missing programs, timeouts", () => {
    const words = (hook: Hook) => failure(() => runHooks("poststart", [hook], STATE)).message;
    const killed = (name: string) => words({ path: "/bin/sh", args: ["sh", "-c", `kill -${name} $$`] });
    expect(killed("KILL")).toBe("error running poststart hook #0: signal: killed, stdout: , stderr: ");
    expect(killed("SEGV")).toContain("signal: segmentation fault, ");
    expect(killed("TERM")).toContain("signal: terminated, ");
    expect(words({ path: "/etc/passwd" })).toBe(
      "error running poststart hook #0: fork/exec /etc/passwd: permission denied",
    );
    expect(words({ path: scratch })).toEndWith("permission denied");
    const before = performance.now();
    expect(words({ path: "/bin/sleep", args: ["sleep", "30"], timeout: 1 })).toBe(
      "error running poststart hook #0: hook ran past specified timeout of 1.0s",
    );
    expect(performance.now() - before).toBeWithin(900, 10_000);
    runHooks("poststart", [script("sleep 0.05", { timeout: 20 })], STATE);
  });

  test("only the end of a long output is kept", () => {
    const error = failure(() =>
      runHooks("prestart", [script("yes | head -c 100000; echo the reason >&2; exit 1")], STATE),
    );
    expect(error.message.length).toBeLessThan(1000);
    expect(error.message).toEndWith("stderr: the reason");
  });

  test("appends what they write to the files; the error of one that fails says where it is", () => {
    const out = join(scratch, "hooks.out");
    writeFileSync(out, "before\n");
    const file = (stream: "stdout" | "stderr", path = join(scratch, `hooks.${stream.slice(3)}`)) => ({
      stream,
      file: path,
      path: `annotations["${stream}"]`,
    });
    const fds = descriptors();
    const hooks = ["echo a; echo b >&2", "echo c; ls /proc/self/fd >&3"].map((text) => script(text));
    runHooks("prestart", hooks, STATE, { files: [file("stdout")] });
    expect(readFileSync(out, "utf8")).toBe("before\na\nc\n");
    // 0, 1, 2, the script's own 3, and that of `ls` for the directory.
    expect(hooks[1]!.said().trim().split("\n")).toHaveLength(5);
    const failing = script("echo d; echo e >&2; exit 3");
    const both = [file("stdout"), file("stderr")];
    const error = failure(() => runHooks("prestart", [failing], STATE, { files: both }));
    expect(error.message).toBe("error running prestart hook #0: exit status 3, stdout: , stderr: ");
    expect(error.fields.hint).toBe(`its stdout is in ${out}, its stderr is in ${join(scratch, "hooks.err")}`);
    expect(readFileSync(join(scratch, "hooks.err"), "utf8")).toBe("e\n");
    const only = failure(() => runHooks("prestart", [failing], STATE, { files: [file("stderr")] }));
    expect(only.message).toEndWith("exit status 3, stdout: d, stderr: ");
    // The same file for both.
    runHooks("prestart", [script("echo f; echo g >&2")], STATE, {
      files: [file("stdout"), file("stderr", out)],
    });
    expect(readFileSync(out, "utf8")).toBe("before\na\nc\nd\nf\ng\n");
    expect(opened(fds)).toEqual([]);
  });

  test("a file that cannot be opened is an error; where each is told, the hooks run all the same", () => {
    execFileSync("mkfifo", [join(scratch, "fifo")]);
    const cases: [string, string][] = [
      [join(scratch, "no/such/file"), "no such file or directory"],
      ["", "no such file or directory"],
      [scratch, "is a directory"],
      [join(scratch, "fifo"), "no such device or address"],
      [`/${"x".repeat(300)}`, "file name too long"],
      ["/dev/null/x", "not a directory"],
    ];
    const fds = descriptors();
    for (const [file, words] of cases) {
      const files = [
        { stream: "stdout" as const, file: join(scratch, "fine"), path: "a" },
        { stream: "stderr" as const, file, path: "b" },
      ];
      const hook = script("echo ran >&3");
      const error = failure(() => runHooks("poststop", [hook], STATE, { files }));
      expect(error.message).toStartWith(`cannot open the file for the stderr of hooks: open`);
      expect(error.message).toEndWith(words);
      expect(error.fields.path).toBe("b");
      expect(hook.said()).toBe("");
      const said: string[] = [];
      runHooks("poststop", [hook], STATE, { files, failed: ({ message }) => said.push(message) });
      expect([said, hook.said()]).toEqual([[error.message], "ran\n"]);
    }
    expect(opened(fds)).toEqual([]);
  });

  test("counts its operations on in a program it is part of", () => {
    const state = new HostState();
    runHooks("prestart", [script(""), script("")], STATE, { state });
    expect(state.next).toBe(2);
  });
});

test("a hook of a state.json is one of config.json", () => {
  expect(fromLibcontainer({ path: "/h", args: null, env: null, dir: "", timeout: null })).toEqual({
    path: "/h",
    args: undefined,
    env: undefined,
    timeout: undefined,
  });
  expect(
    fromLibcontainer({ path: "/h", args: ["h", "1"], env: [], dir: "", timeout: 3_000_000_000 }),
  ).toEqual({ path: "/h", args: ["h", "1"], env: [], timeout: 3 });
});

describe("hookFailure", () => {
  const ended = (...bytes: (number | string)[]) =>
    Uint8Array.from(bytes.flatMap((part) => (typeof part === "string" ? [...Buffer.from(part)] : [part])));

  test("text that is cut or empty", () => {
    const words = (said: Uint8Array) =>
      hookFailure("hooks.prestart[2]", { path: "/h" }, abi.BUNC_EHOOK, said);
    expect(words(ended("e", 7)).message).toBe(
      "error running prestart hook #2: exit status 7, stdout: , stderr: ",
    );
    expect(words(ended("s", 77, "out", 0, "err")).message).toBe(
      "error running prestart hook #2: signal: signal 77, stdout: out, stderr: err",
    );
    expect(words(new Uint8Array(0)).message).toContain("signal: signal 0");
  });

  test("hookOfOp reads path and timeout back from an operation", () => {
    const part = new Part();
    part.op(abi.BUNC_OP_HOOK, [hookStruct({ path: "/h", timeout: 5 }, "{}", [])]);
    part.op(abi.BUNC_OP_HOOK, [hookStruct({ path: "/i" }, "{}", [])]);
    part.op(abi.SYS_close, [3]);
    expect(part.ops.map(hookOfOp)).toEqual([
      { path: "/h", timeout: 5 },
      { path: "/i", timeout: undefined },
      undefined,
    ]);
  });
});
