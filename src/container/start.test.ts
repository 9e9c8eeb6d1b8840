import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as abi from "../linux/abi.gen.ts";
import { laterFailure as failure } from "../testing.ts";
import { Life } from "./lifecycle.rig.ts";
import { startFailure } from "./start.ts";
import type { StartOp } from "./state.ts";
import { openStateDir } from "./store.ts";

const lives: Life[] = [];
const fresh = (): Life => {
  lives.push(new Life());
  return lives.at(-1)!;
};
afterEach(async () => {
  for (const life of lives.splice(0)) await life.close();
});

/** struct bunc_event. */
function event(index: number, errno: number, text: string, kind: number = abi.BUNC_EVENT_ERROR): Uint8Array {
  const bytes = new Uint8Array(abi.sizeof_.bunc_event + text.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(abi.bunc_event_.kind, kind, true);
  view.setUint32(abi.bunc_event_.index, index, true);
  view.setUint32(abi.bunc_event_.text_size, text.length, true);
  view.setBigInt64(abi.bunc_event_.value, BigInt(errno), true);
  bytes.set(Buffer.from(text, "latin1"), abi.sizeof_.bunc_event);
  return bytes;
}

const EXEC: StartOp = {
  index: 80,
  call: abi.SYS_execve,
  phase: "start",
  path: "process.args",
  about: "exec /bin/x",
};
const HOOK: StartOp = {
  index: 79,
  call: abi.BUNC_OP_HOOK,
  phase: "hooks",
  path: "hooks.startContainer[1]",
  hook: { path: "/hook", timeout: 2 },
};

describe("start", () => {
  test("an init of runc: writes 0 and closes", async () => {
    const life = fresh();
    life.create("x", 'printf 0 >"$1"; exec sleep 30');
    expect(life.status("x")).toBe("created");
    await life.start("x");
    expect(life.status("x")).toBe("running");
    expect(readdirSync(join(life.root, "x"))).toEqual(["state.json"]);
    expect((await failure(life.start("x"))).message).toBe("cannot start an already running container");
  });

  test("an init of bunc: holds the fifo until it has executed the program", async () => {
    const life = fresh();
    // The descriptor is inherited by no program: sh closes it when it executes the last one.
    life.create("x", 'exec 9>"$1"; printf 0 >&9; sleep 0.2 9>&-; touch "$2/../begun"; exec sleep 30 9>&-');
    await life.start("x");
    expect(existsSync(join(life.root, "begun"))).toBe(true);
    expect(life.status("x")).toBe("running");
  });

  test("an init that is slow to open the fifo", async () => {
    const life = fresh();
    life.create("x", 'sleep 0.3; printf 0 >"$1"; exec sleep 30');
    await life.start("x");
    expect(life.status("x")).toBe("running");
  });

  test("a program that ends at once is started all the same", async () => {
    const life = fresh();
    life.create("x", 'printf 0 >"$1"');
    await life.start("x");
    await life.children[0]!.exited;
    expect(life.status("x")).toBe("stopped");
  });

  test("a failure after the 0 is told with the operation", async () => {
    for (const [bytes, words, fields] of [
      [
        event(80, abi.ENOEXEC, ""),
        "exec /bin/x: exec format error",
        { path: "process.args", errno: "ENOEXEC" },
      ],
      [
        event(79, abi.BUNC_EHOOK, "e\x03out\0err"),
        "error running startContainer hook #1: exit status 3, stdout: out, stderr: err",
        { code: "hook", path: "hooks.startContainer[1]" },
      ],
      [
        event(79, abi.ETIMEDOUT, ""),
        "error running startContainer hook #1: hook ran past specified timeout of 2.0s",
        { code: "hook" },
      ],
    ] as const) {
      const life = fresh();
      writeFileSync(join(life.scratch, "event"), bytes);
      life.create("x", 'exec 9>"$1"; printf 0 >&9; sleep 0.05; cat "$2/../../event" >&9; exit 1', {
        startOps: [HOOK, EXEC],
      });
      const error = await failure(life.start("x"));
      expect(error.message).toBe(words);
      expect(error.fields).toMatchObject(fields);
      expect(life.status("x")).toBe("stopped");
      expect(readdirSync(join(life.root, "x"))).toEqual(["state.json"]);
      expect((await failure(life.start("x"))).message).toBe("cannot start a container that has stopped");
    }
  });

  test("an event that is none, cut, or of an unknown operation", async () => {
    const garbage = "container init failed to start";
    expect((await startFailure(new Uint8Array(3), [])).message).toContain(garbage);
    expect((await startFailure(event(80, 2, "", 7), [EXEC])).message).toContain(garbage);
    expect((await startFailure(event(80, 2, "text").slice(0, -1), [EXEC])).message).toContain(garbage);
    expect((await startFailure(event(80, abi.ENOENT, ""), [])).message).toBe(
      "container init failed at operation 80: no such file or directory",
    );
  });

  test("an init that dies instead of opening the fifo", async () => {
    const life = fresh();
    life.create("x", "sleep 0.2; exit 1");
    const error = await failure(life.start("x"));
    expect(error.message).toBe("container process is already dead");
  });

  test("an init that opens the fifo and dies before it writes", async () => {
    const life = fresh();
    life.create("x", 'exec 9>"$1"; kill -9 $$');
    expect((await failure(life.start("x"))).message).toBe("container process is already dead");
  });

  test("statuses in which it is refused", async () => {
    const life = fresh();
    const init = life.create("x", "exec sleep 30");
    life.cgroups.frozen = true;
    expect((await failure(life.start("x"))).message).toBe("cannot start a container in the paused state");
    life.cgroups.frozen = false;
    init.kill("SIGKILL");
    await init.exited;
    expect((await failure(life.start("x"))).message).toBe("cannot start a container that has stopped");
    expect((await failure(life.start("y"))).message).toBe("container does not exist");
    expect((await failure(life.start("a/b"))).message).toBe("invalid container ID format");
    // Refused commands leave the lock to others.
    const dir = openStateDir(life.root, "x");
    expect(dir.tryLock()).toBe(true);
    dir.close();
  });

  test("two at once: one starts it, the other is told", async () => {
    const life = fresh();
    life.create("x", 'exec 9>"$1"; printf 0 >&9; sleep 0.2 9>&-; exec sleep 30 9>&-');
    const results = await Promise.allSettled([life.start("x"), life.start("x")]);
    const errors = results.filter((result) => result.status === "rejected");
    expect(errors.length).toBe(1);
    expect(String(errors[0]!.reason.message)).toBe("cannot start an already running container");
  });

  test("poststart hooks run after the program was executed, without the lock", async () => {
    const life = fresh();
    const out = join(life.scratch, "hook");
    const text = `cat >${out}; test ! -e ${join(life.root, "x", "exec.fifo")} && flock -n ${join(life.root, "x")} echo free >>${out}`;
    const poststart = [{ path: "/bin/sh", args: ["sh", "-c", text], env: null, dir: "", timeout: null }];
    const init = life.create("x", 'printf 0 >"$1"; exec sleep 30', {
      hooks: { poststart },
      annotations: { a: "b" },
    });
    await life.start("x");
    expect(readFileSync(out, "utf8")).toBe(
      `{"ociVersion":"1.3.0","id":"x","status":"running","pid":${init.pid},"bundle":"/b","annotations":{"a":"b"}}free\n`,
    );
  });

  test("a failing poststart hook stops the container", async () => {
    const life = fresh();
    const poststart = [{ path: "/bin/false", args: null, env: null, dir: "", timeout: null }];
    life.create("x", 'printf 0 >"$1"; exec sleep 30', { hooks: { poststart } });
    expect((await failure(life.start("x"))).message).toBe(
      "error running poststart hook #0: exit status 1, stdout: , stderr: ",
    );
    expect(life.status("x")).toBe("stopped");
  });
});
