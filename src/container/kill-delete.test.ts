import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BuncError } from "../errors.ts";
import * as abi from "../linux/abi.gen.ts";
import { restoreWaiting, waitInBackground } from "../linux/wait.rig.ts";
import { laterFailure as failure } from "../testing.ts";
import { Life } from "./lifecycle.rig.ts";
import { createStateDir, openStateDir } from "./store.ts";

const lives: Life[] = [];
const fresh = (): Life => {
  lives.push(new Life());
  return lives.at(-1)!;
};
afterEach(async () => {
  for (const life of lives.splice(0)) await life.close();
});

restoreWaiting();

describe("kill", () => {
  test("sends the signal to init, and only asks with 0", async () => {
    const life = fresh();
    const init = life.create("x", "trap 'exit 7' USR1; while :; do sleep 0.01; done");
    await life.kill("x", 0);
    await Bun.sleep(50);
    await life.kill("x", abi.SIGUSR1);
    expect(await init.exited).toBe(7);
    for (const signo of [abi.SIGKILL, abi.SIGTERM, 0]) {
      const error = await failure(life.kill("x", signo));
      expect(error.message).toBe("container not running");
    }
  });

  test("a signal the kernel does not have", async () => {
    const life = fresh();
    life.create("x", "exec sleep 30");
    const error = await failure(life.kill("x", 99));
    expect([error.message, error.fields.errno]).toEqual([
      "unable to signal init: invalid argument",
      "EINVAL",
    ]);
  });

  test("SIGKILL thaws, other signals do not", async () => {
    const life = fresh();
    const init = life.create("x", "exec sleep 30");
    life.cgroups.frozen = true;
    await life.kill("x", abi.SIGTERM + 0).catch(() => {});
    expect(life.cgroups.calls).toEqual([]);
    await init.exited;
    const other = life.create("y", "exec sleep 30");
    await life.kill("y", abi.SIGKILL);
    expect(life.cgroups.calls).toEqual(["thaw"]);
    await other.exited;
  });

  test("SIGKILL without a pid namespace goes to all of the cgroup, or to init where there is none", async () => {
    const life = fresh();
    const init = life.create("x", "exec sleep 30", { sharedPid: true });
    const other = life.spawn(["sleep", "30"]);
    life.cgroups.members = [init.pid, other.pid];
    await life.kill("x", abi.SIGKILL);
    await Promise.all([init.exited, other.exited]);
    const alone = life.create("y", "exec sleep 30", { sharedPid: true });
    life.cgroups.members = [];
    await life.kill("y", abi.SIGKILL);
    await alone.exited;
    expect((await failure(life.kill("y", abi.SIGKILL))).message).toBe("container not running");
  });

  test("a container that was never started is not touched: its cgroup may be somebody's", async () => {
    const life = fresh();
    const other = life.create("x", "exec sleep 30", { sharedPid: true }, { init_process_pid: -1 });
    life.cgroups.members = [other.pid];
    expect((await failure(life.kill("x", abi.SIGKILL))).message).toBe("container not running");
    expect(life.cgroups.calls).toEqual([]);
  });

  test("needs no lock", async () => {
    const life = fresh();
    const init = life.create("x", "exec sleep 30");
    const dir = openStateDir(life.root, "x");
    expect(dir.tryLock()).toBe(true);
    await life.kill("x", abi.SIGKILL);
    await init.exited;
    dir.close();
  });
});

describe("delete", () => {
  test("of a stopped or a created container", async () => {
    const life = fresh();
    const init = life.create("x", "exec sleep 30");
    await life.remove("x");
    expect(await init.exited).not.toBe(0);
    expect(readdirSync(life.root)).toEqual([]);
    expect(life.cgroups.calls).toEqual(["destroy"]);
    const other = life.create("x", "exit 0");
    await other.exited;
    await life.remove("x");
    expect(readdirSync(life.root)).toEqual([]);
    expect((await failure(life.remove("x"))).message).toBe("container does not exist");
    await life.remove("x", true);
  });

  test("of a running or paused one is refused without force", async () => {
    const life = fresh();
    const init = life.create("x", 'printf 0 >"$1"; exec sleep 30');
    await life.start("x");
    const error = await failure(life.remove("x"));
    expect(error.message).toBe("cannot delete container x that is not stopped: running");
    life.cgroups.frozen = true;
    expect((await failure(life.remove("x"))).message).toBe(
      "cannot delete container x that is not stopped: paused",
    );
    await life.remove("x", true);
    await init.exited;
    expect(life.cgroups.calls).toEqual(["thaw", "destroy"]);
    expect(readdirSync(life.root)).toEqual([]);
  });

  test("poststop hooks: all run, when the directory is gone; failures are warnings", async () => {
    const life = fresh();
    const out = join(life.scratch, "hook");
    const shell = (text: string) => ({
      path: "/bin/sh",
      args: ["sh", "-c", text],
      env: null,
      dir: "",
      timeout: null,
    });
    const poststop = [
      shell("exit 2"),
      shell(`cat >${out}; test -e ${join(life.root, "x")} || echo gone >>${out}`),
    ];
    life.create("x", "exec sleep 30", { hooks: { poststop } });
    const warnings: string[] = [];
    await life.remove("x", false, { warn: (line: string) => warnings.push(line) });
    expect(readFileSync(out, "utf8")).toBe(
      '{"ociVersion":"1.3.0","id":"x","status":"stopped","bundle":"/b"}gone\n',
    );
    expect(warnings.length).toBe(1);
    expect(warnings[0]).toStartWith("error running poststop hook #0: exit status 2");
  });

  test("without a pid namespace what outlived init is killed", async () => {
    const life = fresh();
    const init = life.create("x", "exit 0", { sharedPid: true });
    await init.exited;
    const other = life.spawn(["sleep", "30"]);
    life.cgroups.members = [other.pid];
    await life.remove("x");
    await other.exited;
    expect(life.cgroups.calls).toEqual(["killAll", "destroy"]);
  });

  test("an init that does not end", async () => {
    const life = fresh();
    const init = life.create("x", "exec sleep 30");
    // Stopped by its tracer, a process ends all the same; one in the kernel's hands is made up here: nobody signals it.
    const state = JSON.parse(readFileSync(join(life.root, "x", "state.json"), "utf8"));
    state.bunc.sharedPid = true;
    writeFileSync(join(life.root, "x", "state.json"), JSON.stringify(state));
    life.cgroups.killAll = () => true;
    const error = await failure(life.remove("x", true, { endMilliseconds: 50 }));
    expect(error.message).toBe("container init still running");
    expect(existsSync(join(life.root, "x", "state.json"))).toBe(true);
    expect(init.killed).toBe(false);
  });

  test("a cgroup that stays is an error, and the container stays to be deleted again", async () => {
    const life = fresh();
    life.create("x", "exec sleep 30");
    life.cgroups.destroyError = new BuncError("rmdir /sys/fs/cgroup/memory/none: device or resource busy");
    const error = await failure(life.remove("x"));
    expect(error.message).toBe(
      "unable to remove container's cgroup: rmdir /sys/fs/cgroup/memory/none: device or resource busy",
    );
    life.cgroups.destroyError = undefined;
    await life.remove("x");
    expect(readdirSync(life.root)).toEqual([]);
  });

  test("a busy container: the other command is named", async () => {
    const life = fresh();
    life.create("x", "exit 0");
    await life.children[0]!.exited;
    const dir = openStateDir(life.root, "x");
    dir.tryLock();
    waitInBackground();
    const waiting = life.remove("x");
    await Bun.sleep(60);
    dir.close();
    await waiting;
    expect(readdirSync(life.root)).toEqual([]);
  });
});

describe("delete of what a killed create left", () => {
  const half = { init_process_pid: -1, init_process_start: 0 };

  test("an empty directory, with force or without", async () => {
    const life = fresh();
    mkdirSync(join(life.root, "x"), { recursive: true });
    await life.remove("x", true);
    expect(readdirSync(life.root)).toEqual([]);
    // runc's words, and it removes the directory all the same.
    mkdirSync(join(life.root, "x"));
    expect((await failure(life.remove("x"))).message).toBe("container does not exist");
    expect(readdirSync(life.root)).toEqual([]);
  });

  test.each([
    ["no state", undefined],
    ["a state that has not been written", ""],
  ])("temporary files and a fifo, but %s", async (_, text) => {
    const life = fresh();
    const dir = createStateDir(life.root, "x");
    if (text !== undefined) writeFileSync(join(dir.path, "state.json"), text);
    dir.makeFifo(process.getuid!(), process.getgid!());
    writeFileSync(join(dir.path, ".state.json"), '{"bunc":');
    dir.close();
    await life.remove("x", true);
    expect(readdirSync(life.root)).toEqual([]);
    expect(life.cgroups.calls).toEqual([]);
  });

  test.each(["{", "null", "\0\0\0", '{"id":"x"}'])("a state that is %j", async (text) => {
    const life = fresh();
    mkdirSync(join(life.root, "x"), { recursive: true });
    writeFileSync(join(life.root, "x", "state.json"), text);
    const error = await failure(life.remove("x"));
    expect(error.message).toStartWith(`${life.root}/x/state.json `);
    expect(existsSync(join(life.root, "x"))).toBe(true);
    const warnings: string[] = [];
    await life.remove("x", true, { warn: (line: string) => warnings.push(line) });
    expect(readdirSync(life.root)).toEqual([]);
    expect(warnings.length).toBe(1);
  });

  test("a state without a process: empty cgroups are removed, others' processes in them are not killed", async () => {
    const life = fresh();
    const paths = { memory: join(life.scratch, "memory"), "": join(life.scratch, "unified") };
    for (const path of Object.values(paths)) mkdirSync(path);
    // Somebody else's, and not empty.
    mkdirSync(join(paths[""], "below"));
    const other = life.create("x", "exec sleep 30", { sharedPid: true }, { ...half, cgroup_paths: paths });
    life.cgroups.members = [other.pid];
    const warnings: string[] = [];
    expect(life.status("x")).toBe("stopped");
    await life.remove("x", true, { warn: (line: string) => warnings.push(line) });
    expect(other.exitCode).toBeNull();
    expect(life.cgroups.calls).toEqual([]);
    expect(warnings).toEqual([`not removed, as it may not be the container's: cgroup ${paths[""]}`]);
    expect(existsSync(paths.memory)).toBe(false);
    expect(existsSync(join(paths[""], "below"))).toBe(true);
    expect(readdirSync(life.root)).toEqual([]);
  });

  test("unknown files are kept, and named", async () => {
    const life = fresh();
    life.create("x", "exit 0");
    await life.children[0]!.exited;
    writeFileSync(join(life.root, "x", "precious"), "");
    const error = await failure(life.remove("x", true));
    expect(error.message).toBe(
      `unable to remove container state dir: rmdir ${life.root}/x: directory not empty`,
    );
    expect(error.fields.hint).toContain('"precious"');
    // It is still a container, and can be deleted when the file is gone.
    expect(readdirSync(join(life.root, "x")).sort()).toEqual(["precious", "state.json"]);
    rmSync(join(life.root, "x", "precious"));
    await life.remove("x");
    expect(readdirSync(life.root)).toEqual([]);
  });
});
