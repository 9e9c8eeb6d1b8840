/** HOOK, executed by build/libbunc.so: what a hook gets, and what is said of one that fails. Needs a build, no root. */
import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as abi from "../linux/abi.gen.ts";
import { sys } from "../linux/lib.ts";
import { descriptors, opened } from "../testing.ts";
import { opFailure } from "./failure.ts";
import { hookStruct } from "./hooks.ts";
import { Part } from "./program.ts";
import { inTemporary, type Outcome, run } from "./testing-run.ts";

interface Given {
  path?: string;
  args?: string[];
  env?: string[];
  timeout?: number;
  state?: string;
}

function hook({ path = "/bin/sh", args, env, timeout, state = "{}" }: Given): Outcome & { message: string } {
  const part = new Part().at("hooks", "hooks.createRuntime[0]");
  const struct = hookStruct({ path, args, env, timeout }, state, ["DEFAULT=1"]);
  part.op(abi.BUNC_OP_HOOK, [struct], { about: "error running createRuntime hook #0" });
  const outcome = run(part);
  const errno = outcome.errno === "EHOOK" ? abi.BUNC_EHOOK : abi.ENOENT;
  return { ...outcome, message: opFailure(part.ops[0]!, errno, outcome.text).message };
}

const shell = (script: string, more: Given = {}) => hook({ args: ["sh", "-c", script], ...more });

/** "e" or "s", the status, and the outputs of a hook that failed. */
function told({ text }: Outcome): { how: string; status: number; stdout: string; stderr: string } {
  const end = text.indexOf(0, 2);
  const decoder = new TextDecoder();
  return {
    how: String.fromCharCode(text[0]!),
    status: text[1]!,
    stdout: decoder.decode(text.subarray(2, end)),
    stderr: decoder.decode(text.subarray(end + 1)),
  };
}

describe("a hook", () => {
  test("gets its arguments, its environment and the state", async () => {
    await inTemporary((dir) => {
      const out = join(dir, "out");
      const script = `cat > ${out}; printf '%s|' "$0" "$@" >> ${out}; env | grep -c . >> ${out}; echo $A >> ${out}`;
      const state = JSON.stringify({ id: "größe", pid: 1 });
      const outcome = hook({ args: ["sh", "-c", script, "zero", "", "two words"], env: ["A=b=c"], state });
      expect(outcome.errno).toBe("");
      const lines = readFileSync(out, "utf8");
      expect(lines).toStartWith(`${state}zero||two words|`);
      expect(lines).toEndWith("b=c\n");
    });
  });

  test("without an environment of its own gets the default one; an empty one is empty", async () => {
    await inTemporary((dir) => {
      const out = join(dir, "out");
      expect(shell(`echo "$DEFAULT" > ${out}`).errno).toBe("");
      expect(readFileSync(out, "utf8")).toBe("1\n");
      expect(shell(`echo "$DEFAULT" > ${out}`, { env: [] }).errno).toBe("");
      expect(readFileSync(out, "utf8")).toBe("\n");
    });
  });

  test("gets a state of any size, and need not read it", () => {
    const state = "x".repeat(1_000_000);
    expect(shell("test $(wc -c) = 1000000", { state }).errno).toBe("");
    expect(shell("exit 0", { state }).errno).toBe("");
    expect(shell("exec < /dev/null; test $(wc -c) = 0", { state: "" }).errno).toBe("");
  });

  test("has no descriptors but its standard streams, and no signal ignored or blocked", () => {
    const outcome = shell("ls /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status; exit 1");
    const { stdout } = told(outcome);
    // The fourth is ls's own, of the directory.
    expect(stdout.split("\n").filter((line) => /^\d+$/.test(line))).toEqual(["0", "1", "2", "3"]);
    for (const set of stdout.match(/Sig\w+:\s+\S+/g) ?? []) expect(set).toMatch(/:\s+0+$/);
    expect(stdout).toContain("SigBlk");
  });

  test("of a hundred leaves no descriptor and no process", () => {
    const before = descriptors();
    for (let i = 0; i < 100; i++) expect(hook({ path: "/bin/true" }).errno).toBe("");
    expect(hook({ path: "/no/such/hook" }).errno).toBe("ENOENT");
    expect(shell("sleep 10", { timeout: 0.05 }).errno).toBe("ETIMEDOUT");
    expect(opened(before)).toEqual([]);
    // No child of this process waits to be reaped; the call only looks, as others of its children are Bun's.
    const info = new Uint8Array(abi.sizeof_.siginfo);
    sys(abi.SYS_waitid, 0, 0, info, abi.WEXITED | abi.WNOHANG | abi.WNOWAIT, 0);
    expect(new DataView(info.buffer).getInt32(abi.siginfo_.si_pid, true)).toBe(0);
  });
});

describe("a hook that fails", () => {
  test.each([1, 2, 42, 127, 255])("with status %d", (status) => {
    const outcome = shell(`echo out; echo err >&2; exit ${status}`);
    expect(outcome.errno).toBe("EHOOK");
    expect(told(outcome)).toEqual({ how: "e", status, stdout: "out\n", stderr: "err\n" });
    expect(outcome.message).toBe(
      `error running createRuntime hook #0: exit status ${status}, stdout: out, stderr: err`,
    );
  });

  test.each([
    ["KILL", abi.SIGKILL],
    ["TERM", abi.SIGTERM],
    ["SEGV", abi.SIGSEGV],
  ])("by SIG%s", (name, signal) => {
    const outcome = shell(`ulimit -c 0; kill -${name} $$`);
    expect(outcome.errno).toBe("EHOOK");
    expect(told(outcome)).toMatchObject({ how: "s", status: signal });
  });

  test("by not being there, not being executable, or being no program", async () => {
    await inTemporary((dir) => {
      const path = join(dir, "hook");
      expect(hook({ path }).errno).toBe("ENOENT");
      writeFileSync(path, "#!/no/such/interpreter\n");
      chmodSync(path, 0o644);
      expect(hook({ path }).errno).toBe("EACCES");
      chmodSync(path, 0o755);
      expect(hook({ path }).errno).toBe("ENOENT");
      writeFileSync(path, "no program");
      expect(hook({ path }).errno).toBe("ENOEXEC");
      expect(hook({ path: dir }).errno).toBe("EACCES");
      expect(hook({ path: `${path}/below` }).errno).toBe("ENOTDIR");
      expect(hook({ path: "" }).errno).toBe("ENOENT");
    });
  });

  test("by taking too long is killed", async () => {
    await inTemporary((dir) => {
      const mark = join(dir, "mark");
      const before = performance.now();
      expect(shell(`exec sleep 5; touch ${mark}`, { timeout: 0.2 }).errno).toBe("ETIMEDOUT");
      const took = performance.now() - before;
      expect(took).toBeGreaterThan(150);
      expect(took).toBeLessThan(3000);
      expect(existsSync(mark)).toBe(false);
      // Nobody can ignore it.
      expect(shell("trap '' TERM INT; while :; do sleep 0.05; done", { timeout: 0.1 }).errno).toBe(
        "ETIMEDOUT",
      );
    });
  });

  test("within its time is not killed", () => {
    expect(shell("sleep 0.1", { timeout: 5 }).errno).toBe("");
    expect(told(shell("sleep 0.1; exit 3", { timeout: 5 })).status).toBe(3);
  });

  test("with much to say: the end of it is kept", () => {
    const outcome = shell(
      "yes out | head -c 2000000; echo; echo last; yes err | head -c 2000000 >&2; echo why >&2; exit 1",
    );
    expect(outcome.errno).toBe("EHOOK");
    expect(outcome.text.length).toBeLessThanOrEqual(abi.BUNC_TEXT_MAX);
    const { stdout, stderr } = told(outcome);
    expect(stdout).toEndWith("last\n");
    expect(stderr).toEndWith("why\n");
    expect(stdout.length).toBeGreaterThan(100);
  });

  test("with NUL bytes and other rubbish in its output", () => {
    const outcome = shell("printf 'a\\0b'; printf '\\377\\376' >&2; exit 1");
    expect(outcome.errno).toBe("EHOOK");
    expect(outcome.message).toStartWith("error running createRuntime hook #0: exit status 1, stdout: a");
  });
});
