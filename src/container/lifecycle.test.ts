// start, kill and delete against a container whose init is a shell script: what runc's init does at the exec fifo, what
// bunc's does, and what goes wrong. The cgroups are made up, so that no root is needed; test/integration has real ones.
import { afterEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BuncError } from "../errors.ts";
import * as abi from "../linux/abi.gen.ts";
import type { CgroupOps } from "./cgroups.ts";
import { deleteContainer } from "./delete.ts";
import { loadState } from "./info.ts";
import { killContainer } from "./kill.ts";
import { startContainer, startFailure } from "./start.ts";
import { type OwnState, type StartOp, stateText } from "./state.ts";
import { processStat } from "./status.ts";
import { createStateDir, openStateDir } from "./store.ts";

/** Cgroups that write down what is asked of them. */
class FakeCgroups implements CgroupOps {
  frozen = false;
  members: number[] = [];
  destroyError: BuncError | undefined;
  readonly calls: string[] = [];

  load = () => this as CgroupOps;
  isFrozen = () => this.frozen;
  thaw = () => {
    this.calls.push("thaw");
    this.frozen = false;
  };
  killAll = () => {
    this.calls.push("killAll");
    for (const pid of this.members) process.kill(pid, "SIGKILL");
    return this.members.length > 0;
  };
  processes = () => this.members;
  destroy = () => {
    this.calls.push("destroy");
    if (this.destroyError) throw this.destroyError;
  };
}

let scratch = "";
let root = "";
let cgroups: FakeCgroups;
const children: Bun.Subprocess[] = [];

function fresh(): void {
  scratch = mkdtempSync(join(tmpdir(), "bunc-life-"));
  root = join(scratch, "root");
  cgroups = new FakeCgroups();
}

afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
  rmSync(scratch, { recursive: true, force: true });
});

/** A created container whose init is a shell script; $1 is the fifo, $2 the state directory. */
function create(id: string, script: string, own: Partial<OwnState> = {}, more: object = {}): Bun.Subprocess {
  const dir = createStateDir(root, id);
  dir.makeFifo(process.getuid!(), process.getgid!());
  const init = Bun.spawn(["sh", "-c", script, "init", dir.fifo, dir.path], { stdout: "ignore" });
  children.push(init);
  const state = {
    bunc: { version: 1, ociVersion: "1.3.0", bundle: "/b", rootfs: "/b/rootfs", ...own },
    id,
    init_process_pid: init.pid,
    init_process_start: processStat(init.pid)!.start,
    created: "2026-11-20T23:53:25Z",
    cgroup_paths: { memory: "/sys/fs/cgroup/memory/none" },
    config: { rootfs: "/b/rootfs" },
    ...more,
  };
  writeFileSync(join(dir.path, "state.json"), stateText(state as never));
  dir.close();
  return init;
}

async function failure(run: Promise<unknown>): Promise<BuncError> {
  const error = await run.then(
    () => undefined,
    (error) => error,
  );
  if (error instanceof BuncError) return error;
  throw error ?? new Error("no error");
}

const status = async (id: string) => (await loadState(root, id, cgroups.load)).status;
const start = (id: string) => startContainer(root, id, cgroups.load);
const remove = (id: string, force = false, options: object = {}) =>
  deleteContainer(root, id, force, { cgroups: cgroups.load, ...options });

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
    fresh();
    create("x", 'printf 0 >"$1"; exec sleep 30');
    expect(await status("x")).toBe("created");
    await start("x");
    expect(await status("x")).toBe("running");
    expect(readdirSync(join(root, "x"))).toEqual(["state.json"]);
    expect((await failure(start("x"))).message).toBe("cannot start an already running container");
  });

  test("an init of bunc: holds the fifo until it has executed the program", async () => {
    fresh();
    // The descriptor is inherited by no program: sh closes it when it executes the last one.
    create("x", 'exec 9>"$1"; printf 0 >&9; sleep 0.2 9>&-; touch "$2/../begun"; exec sleep 30 9>&-');
    await start("x");
    expect(existsSync(join(root, "begun"))).toBe(true);
    expect(await status("x")).toBe("running");
  });

  test("an init that is slow to open the fifo", async () => {
    fresh();
    create("x", 'sleep 0.3; printf 0 >"$1"; exec sleep 30');
    await start("x");
    expect(await status("x")).toBe("running");
  });

  test("a program that ends at once is started all the same", async () => {
    fresh();
    create("x", 'printf 0 >"$1"');
    await start("x");
    await children[0]!.exited;
    expect(await status("x")).toBe("stopped");
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
      fresh();
      writeFileSync(join(scratch, "event"), bytes);
      create("x", 'exec 9>"$1"; printf 0 >&9; sleep 0.05; cat "$2/../../event" >&9; exit 1', {
        startOps: [HOOK, EXEC],
      });
      const error = await failure(start("x"));
      expect(error.message).toBe(words);
      expect(error.fields).toMatchObject(fields);
      expect(await status("x")).toBe("stopped");
      expect(readdirSync(join(root, "x"))).toEqual(["state.json"]);
      expect((await failure(start("x"))).message).toBe("cannot start a container that has stopped");
      rmSync(scratch, { recursive: true });
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
    fresh();
    create("x", "sleep 0.2; exit 1");
    const error = await failure(start("x"));
    expect(error.message).toBe("container process is already dead");
  });

  test("an init that opens the fifo and dies before it writes", async () => {
    fresh();
    create("x", 'exec 9>"$1"; kill -9 $$');
    expect((await failure(start("x"))).message).toBe("container process is already dead");
  });

  test("statuses in which it is refused", async () => {
    fresh();
    const init = create("x", "exec sleep 30");
    cgroups.frozen = true;
    expect((await failure(start("x"))).message).toBe("cannot start a container in the paused state");
    cgroups.frozen = false;
    init.kill("SIGKILL");
    await init.exited;
    expect((await failure(start("x"))).message).toBe("cannot start a container that has stopped");
    expect((await failure(start("y"))).message).toBe("container does not exist");
    expect((await failure(start("a/b"))).message).toBe("invalid container ID format");
    // Refused commands leave the lock to others.
    const dir = openStateDir(root, "x");
    expect(dir.tryLock()).toBe(true);
    dir.close();
  });

  test("two at once: one starts it, the other is told", async () => {
    fresh();
    create("x", 'exec 9>"$1"; printf 0 >&9; sleep 0.2 9>&-; exec sleep 30 9>&-');
    const results = await Promise.allSettled([start("x"), start("x")]);
    const errors = results.filter((result) => result.status === "rejected");
    expect(errors.length).toBe(1);
    expect(String(errors[0]!.reason.message)).toBe("cannot start an already running container");
  });

  test("poststart hooks run after the program was executed, without the lock", async () => {
    fresh();
    const out = join(scratch, "hook");
    const text = `cat >${out}; test ! -e ${join(root, "x", "exec.fifo")} && flock -n ${join(root, "x")} echo free >>${out}`;
    const poststart = [{ path: "/bin/sh", args: ["sh", "-c", text], env: null, dir: "", timeout: null }];
    const init = create("x", 'printf 0 >"$1"; exec sleep 30', {
      hooks: { poststart },
      annotations: { a: "b" },
    });
    await start("x");
    expect(readFileSync(out, "utf8")).toBe(
      `{"ociVersion":"1.3.0","id":"x","status":"running","pid":${init.pid},"bundle":"/b","annotations":{"a":"b"}}free\n`,
    );
  });

  test("a failing poststart hook stops the container", async () => {
    fresh();
    const poststart = [{ path: "/bin/false", args: null, env: null, dir: "", timeout: null }];
    create("x", 'printf 0 >"$1"; exec sleep 30', { hooks: { poststart } });
    expect((await failure(start("x"))).message).toBe(
      "error running poststart hook #0: exit status 1, stdout: , stderr: ",
    );
    expect(await status("x")).toBe("stopped");
  });
});

describe("kill", () => {
  test("sends the signal to init, and only asks with 0", async () => {
    fresh();
    const init = create("x", "trap 'exit 7' USR1; while :; do sleep 0.01; done");
    await killContainer(root, "x", 0, cgroups.load);
    await Bun.sleep(50);
    await killContainer(root, "x", abi.SIGUSR1, cgroups.load);
    expect(await init.exited).toBe(7);
    for (const signo of [abi.SIGKILL, abi.SIGTERM, 0]) {
      const error = await failure(killContainer(root, "x", signo, cgroups.load));
      expect(error.message).toBe("container not running");
    }
  });

  test("a signal the kernel does not have", async () => {
    fresh();
    create("x", "exec sleep 30");
    const error = await failure(killContainer(root, "x", 99, cgroups.load));
    expect([error.message, error.fields.errno]).toEqual([
      "unable to signal init: invalid argument",
      "EINVAL",
    ]);
  });

  test("SIGKILL thaws, other signals do not", async () => {
    fresh();
    const init = create("x", "exec sleep 30");
    cgroups.frozen = true;
    await killContainer(root, "x", abi.SIGTERM + 0, cgroups.load).catch(() => {});
    expect(cgroups.calls).toEqual([]);
    await init.exited;
    const other = create("y", "exec sleep 30");
    await killContainer(root, "y", abi.SIGKILL, cgroups.load);
    expect(cgroups.calls).toEqual(["thaw"]);
    await other.exited;
  });

  test("SIGKILL without a pid namespace goes to all of the cgroup, or to init where there is none", async () => {
    fresh();
    const init = create("x", "exec sleep 30", { sharedPid: true });
    const other = Bun.spawn(["sleep", "30"]);
    children.push(other);
    cgroups.members = [init.pid, other.pid];
    await killContainer(root, "x", abi.SIGKILL, cgroups.load);
    await Promise.all([init.exited, other.exited]);
    const alone = create("y", "exec sleep 30", { sharedPid: true });
    cgroups.members = [];
    await killContainer(root, "y", abi.SIGKILL, cgroups.load);
    await alone.exited;
    expect((await failure(killContainer(root, "y", abi.SIGKILL, cgroups.load))).message).toBe(
      "container not running",
    );
  });

  test("a container that was never started is not touched: its cgroup may be somebody's", async () => {
    fresh();
    const other = create("x", "exec sleep 30", { sharedPid: true }, { init_process_pid: -1 });
    cgroups.members = [other.pid];
    expect((await failure(killContainer(root, "x", abi.SIGKILL, cgroups.load))).message).toBe(
      "container not running",
    );
    expect(cgroups.calls).toEqual([]);
  });

  test("needs no lock", async () => {
    fresh();
    const init = create("x", "exec sleep 30");
    const dir = openStateDir(root, "x");
    expect(dir.tryLock()).toBe(true);
    await killContainer(root, "x", abi.SIGKILL, cgroups.load);
    await init.exited;
    dir.close();
  });
});

describe("delete", () => {
  test("of a stopped or a created container", async () => {
    fresh();
    const init = create("x", "exec sleep 30");
    await remove("x");
    expect(await init.exited).not.toBe(0);
    expect(readdirSync(root)).toEqual([]);
    expect(cgroups.calls).toEqual(["destroy"]);
    const other = create("x", "exit 0");
    await other.exited;
    await remove("x");
    expect(readdirSync(root)).toEqual([]);
    expect((await failure(remove("x"))).message).toBe("container does not exist");
    await remove("x", true);
  });

  test("of a running or paused one is refused without force", async () => {
    fresh();
    const init = create("x", 'printf 0 >"$1"; exec sleep 30');
    await start("x");
    const error = await failure(remove("x"));
    expect(error.message).toBe("cannot delete container x that is not stopped: running");
    cgroups.frozen = true;
    expect((await failure(remove("x"))).message).toBe(
      "cannot delete container x that is not stopped: paused",
    );
    await remove("x", true);
    await init.exited;
    expect(cgroups.calls).toEqual(["thaw", "destroy"]);
    expect(readdirSync(root)).toEqual([]);
  });

  test("poststop hooks: all run, when the directory is gone; failures are warnings", async () => {
    fresh();
    const out = join(scratch, "hook");
    const shell = (text: string) => ({
      path: "/bin/sh",
      args: ["sh", "-c", text],
      env: null,
      dir: "",
      timeout: null,
    });
    const poststop = [
      shell("exit 2"),
      shell(`cat >${out}; test -e ${join(root, "x")} || echo gone >>${out}`),
    ];
    create("x", "exec sleep 30", { hooks: { poststop } });
    const warnings: string[] = [];
    await remove("x", false, { warn: (line: string) => warnings.push(line) });
    expect(readFileSync(out, "utf8")).toBe(
      '{"ociVersion":"1.3.0","id":"x","status":"stopped","bundle":"/b"}gone\n',
    );
    expect(warnings.length).toBe(1);
    expect(warnings[0]).toStartWith("error running poststop hook #0: exit status 2");
  });

  test("without a pid namespace what outlived init is killed", async () => {
    fresh();
    const init = create("x", "exit 0", { sharedPid: true });
    await init.exited;
    const other = Bun.spawn(["sleep", "30"]);
    children.push(other);
    cgroups.members = [other.pid];
    await remove("x");
    await other.exited;
    expect(cgroups.calls).toEqual(["killAll", "destroy"]);
  });

  test("an init that does not end", async () => {
    fresh();
    const init = create("x", "exec sleep 30");
    // Stopped by its tracer, a process ends all the same; one in the kernel's hands is made up here: nobody signals it.
    const state = JSON.parse(readFileSync(join(root, "x", "state.json"), "utf8"));
    state.bunc.sharedPid = true;
    writeFileSync(join(root, "x", "state.json"), JSON.stringify(state));
    cgroups.killAll = () => true;
    const error = await failure(remove("x", true, { endMilliseconds: 50 }));
    expect(error.message).toBe("container init still running");
    expect(existsSync(join(root, "x", "state.json"))).toBe(true);
    expect(init.killed).toBe(false);
  });

  test("a cgroup that stays is an error, and the container stays to be deleted again", async () => {
    fresh();
    create("x", "exec sleep 30");
    cgroups.destroyError = new BuncError("rmdir /sys/fs/cgroup/memory/none: device or resource busy");
    const error = await failure(remove("x"));
    expect(error.message).toBe(
      "unable to remove container's cgroup: rmdir /sys/fs/cgroup/memory/none: device or resource busy",
    );
    cgroups.destroyError = undefined;
    await remove("x");
    expect(readdirSync(root)).toEqual([]);
  });

  test("a busy container: the other command is named", async () => {
    fresh();
    create("x", "exit 0");
    await children[0]!.exited;
    const dir = openStateDir(root, "x");
    dir.tryLock();
    const waiting = remove("x");
    await Bun.sleep(60);
    dir.close();
    await waiting;
    expect(readdirSync(root)).toEqual([]);
  });
});

describe("delete of what a killed create left", () => {
  const half = { init_process_pid: -1, init_process_start: 0 };

  test("an empty directory, with force or without", async () => {
    fresh();
    mkdirSync(join(root, "x"), { recursive: true });
    await remove("x", true);
    expect(readdirSync(root)).toEqual([]);
    // runc's words, and it removes the directory all the same.
    mkdirSync(join(root, "x"));
    expect((await failure(remove("x"))).message).toBe("container does not exist");
    expect(readdirSync(root)).toEqual([]);
  });

  test("temporary files and a fifo, but no state", async () => {
    fresh();
    const dir = createStateDir(root, "x");
    dir.makeFifo(process.getuid!(), process.getgid!());
    writeFileSync(join(dir.path, ".state.json"), '{"bunc":');
    dir.close();
    await remove("x", true);
    expect(readdirSync(root)).toEqual([]);
    expect(cgroups.calls).toEqual([]);
  });

  test.each(["", "{", "null", "\0\0\0", '{"id":"x"}'])("a state that is %j", async (text) => {
    fresh();
    mkdirSync(join(root, "x"), { recursive: true });
    writeFileSync(join(root, "x", "state.json"), text);
    const error = await failure(remove("x"));
    expect(error.message).toStartWith(`${root}/x/state.json `);
    expect(existsSync(join(root, "x"))).toBe(true);
    const warnings: string[] = [];
    await remove("x", true, { warn: (line: string) => warnings.push(line) });
    expect(readdirSync(root)).toEqual([]);
    expect(warnings.length).toBe(1);
  });

  test("a state without a process: empty cgroups are removed, others' processes in them are not killed", async () => {
    fresh();
    const paths = { memory: join(scratch, "memory"), "": join(scratch, "unified") };
    for (const path of Object.values(paths)) mkdirSync(path);
    // Somebody else's, and not empty.
    mkdirSync(join(paths[""], "below"));
    const other = create("x", "exec sleep 30", { sharedPid: true }, { ...half, cgroup_paths: paths });
    cgroups.members = [other.pid];
    const warnings: string[] = [];
    expect(await status("x")).toBe("stopped");
    await remove("x", true, { warn: (line: string) => warnings.push(line) });
    expect(other.exitCode).toBeNull();
    expect(cgroups.calls).toEqual([]);
    expect(warnings).toEqual([`not removed, as it may not be the container's: cgroup ${paths[""]}`]);
    expect(existsSync(paths.memory)).toBe(false);
    expect(existsSync(join(paths[""], "below"))).toBe(true);
    expect(readdirSync(root)).toEqual([]);
  });

  test("unknown files are kept, and named", async () => {
    fresh();
    create("x", "exit 0");
    await children[0]!.exited;
    writeFileSync(join(root, "x", "precious"), "");
    const error = await failure(remove("x", true));
    expect(error.message).toBe(`unable to remove container state dir: rmdir ${root}/x: directory not empty`);
    expect(error.fields.hint).toContain('"precious"');
    // It is still a container, and can be deleted when the file is gone.
    expect(readdirSync(join(root, "x")).sort()).toEqual(["precious", "state.json"]);
    rmSync(join(root, "x", "precious"));
    await remove("x");
    expect(readdirSync(root)).toEqual([]);
  });
});
