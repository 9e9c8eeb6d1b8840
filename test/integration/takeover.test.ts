// Live take-over, command by command: what Debian's runc has made is managed by bunc, and the reverse, with one --root.
// An administrator can put one in the place of the other while containers run.
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../rig/config.ts";
import { groupPath } from "../rig/container.ts";
import { helperBinary, Listener } from "../rig/helper.ts";
import { type Made, mounts, ok, present, type Ran, SLEEP, untilExists, useTakeover } from "./takeover.rig.ts";

const { bundle, bunc, fresh, root, runc, scratch } = useTakeover();

type Runtime = (...args: string[]) => Ran;

/** A file of the container's cgroup. */
function group(controller: string, { config }: Made, file: string): string {
  const dir = join(mounts.get(controller) ?? mounts.get("unified")!, groupPath(config.linux.cgroupsPath));
  return readFileSync(join(dir, file), "utf8").trim();
}

/** The processes in it; a scope of systemd goes with the last one. */
function left(made: Made): string {
  try {
    return group("devices", made, "cgroup.procs");
  } catch {
    return "";
  }
}

/** Whether a container here is in a cgroup of the controller. */
function has(controller: string): boolean {
  const dir = mounts.get("unified");
  if (mounts.has(controller)) return true;
  return (
    dir !== undefined &&
    readFileSync(join(dir, "cgroup.controllers"), "utf8").split(/\s/).includes(controller)
  );
}

const userNamespace = (config: Config) => {
  const map = [{ containerID: 0, hostID: 100000, size: 65536 }];
  config.linux.namespaces.push({ type: "user" });
  config.linux.uidMappings = map;
  config.linux.gidMappings = map;
};

const sharedPid = (config: Config) => {
  config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "pid");
};

function take(maker: Runtime, manager: Runtime): void {
  const create = (script: string, edit?: (config: Config, rootfs: string) => void): Made => {
    const made = bundle(script, edit);
    ok(maker("create", "--bundle", made.bundle, made.id));
    return made;
  };
  const running = (script: string, edit?: (config: Config, rootfs: string) => void): Made => {
    const made = create(script, edit);
    ok(maker("start", made.id));
    return made;
  };
  const state = (tool: Runtime, { id }: Made) => JSON.parse(ok(tool("state", id)));
  const until = async (made: Made, wanted: string): Promise<void> => {
    for (let i = 0; state(manager, made).status !== wanted; i++) {
      if (i > 500) throw new Error(`${made.id} is ${state(manager, made).status}, not ${wanted}`);
      await Bun.sleep(10);
    }
  };
  const exec = ({ id }: Made, ...args: string[]) => manager("exec", id, ...args);

  test("state and list", async () => {
    const first = create(SLEEP, (config) => {
      config.annotations = { "org.example": "x" };
    });
    const second = running("exec sleep 60");
    expect([state(manager, first), state(manager, second)]).toEqual([
      state(maker, first),
      state(maker, second),
    ]);
    expect(state(manager, first)).toMatchObject({ status: "created", annotations: { "org.example": "x" } });
    expect(state(manager, second)).toMatchObject({ status: "running", bundle: second.bundle });
    for (const flags of [[], ["--quiet"], ["--format", "json"]]) {
      expect(ok(manager("list", ...flags))).toBe(ok(maker("list", ...flags)));
    }
    ok(maker("kill", second.id, "KILL"));
    await until(second, "stopped");
    expect(state(manager, second)).toEqual(state(maker, second));
  });

  test("start of a created one, and its end", async () => {
    const made = create("echo started >/out; exit 3", (config) => {
      config.root.readonly = false;
    });
    ok(manager("start", made.id));
    await until(made, "stopped");
    expect(readFileSync(join(made.bundle, "rootfs/out"), "utf8")).toBe("started\n");
    expect(manager("start", made.id).stderr).toContain("cannot start a container that has stopped");
    ok(manager("delete", made.id));
    expect(existsSync(join(root, made.id))).toBe(false);
    const second = running(SLEEP);
    expect(manager("start", second.id).stderr).toContain("cannot start an already running container");
  });

  test("exec: output, exit code, user, directory, environment, detached", async () => {
    const made = running(SLEEP, (config) => {
      config.process.env.push("OF=config");
    });
    expect(ok(exec(made, "sh", "-c", "hostname; echo $OF; cat /proc/1/comm"))).toBe(
      "bunc-test\nconfig\nsleep\n",
    );
    expect(exec(made, "sh", "-c", "exit 7").code).toBe(7);
    const flags = ["--user", "12:34", "--cwd", "/tmp", "--env", "A=b"];
    expect(ok(manager("exec", ...flags, made.id, "sh", "-c", "id -u; id -g; pwd; echo $A"))).toBe(
      "12\n34\n/tmp\nb\n",
    );
    const missing = exec(made, "/nowhere");
    expect(missing.code).toBe(255);
    expect(missing.stderr).toContain("exec failed: ");
    const file = join(made.bundle, "exec.pid");
    ok(manager("exec", "--detach", "--pid-file", file, made.id, "sleep", "60"));
    const pid = readFileSync(file, "utf8");
    expect(readFileSync(`/proc/${pid}/cgroup`, "utf8")).toContain(
      `${groupPath(made.config.linux.cgroupsPath)}\n`,
    );
    const init = state(maker, made).pid;
    for (const name of ["pid", "mnt", "net", "uts", "ipc"]) {
      expect(ok(command("readlink", `/proc/${pid}/ns/${name}`))).toBe(
        ok(command("readlink", `/proc/${init}/ns/${name}`)),
      );
    }
    expect(readFileSync(`/proc/${pid}/status`, "utf8")).toMatch(/^NoNewPrivs:\s1$/m);
  });

  test("a terminal: the container's, and that of an exec", async () => {
    const made = bundle("tty; exec sleep 60", (config) => {
      config.process.terminal = true;
    });
    const own = await receive();
    const other = await receive();
    try {
      ok(maker("create", "--bundle", made.bundle, "--console-socket", own.path, made.id));
      ok(manager("start", made.id));
      await own.until("/dev/");
      const flags = [
        "--detach",
        "--tty",
        "--console-socket",
        other.path,
        "--pid-file",
        join(made.bundle, "tty.pid"),
      ];
      ok(manager("exec", ...flags, made.id, "sh", "-c", "tty && echo tty of an exec; exec sleep 60"));
      await other.until("tty of an exec");
      // Both have a controlling terminal, each its own.
      const terminal = (pid: string) =>
        readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")[4]!;
      const first = terminal(String(state(manager, made).pid));
      const second = terminal(readFileSync(join(made.bundle, "tty.pid"), "utf8"));
      expect([first, second]).not.toContain("0");
      expect(first).not.toBe(second);
    } finally {
      await own.close();
      await other.close();
    }
  });

  test("ps", () => {
    const made = running("sleep 61 & exec sleep 60");
    for (let i = 0; JSON.parse(ok(maker("ps", "--format", "json", made.id))).length < 2 && i < 500; i++);
    expect(ok(manager("ps", "--format", "json", made.id))).toBe(ok(maker("ps", "--format", "json", made.id)));
    const options = [made.id, "-e", "-o", "pid,args"];
    expect(ok(manager("ps", ...options))).toBe(ok(maker("ps", ...options)));
    expect(ok(manager("ps", ...options))).toContain("sleep 61");
  });

  test("pause and resume, each undone by the other", () => {
    const made = running(SLEEP);
    ok(manager("pause", made.id));
    expect(state(maker, made).status).toBe("paused");
    expect(state(manager, made).status).toBe("paused");
    expect(manager("exec", made.id, "true").stderr).toContain("cannot exec in a paused container");
    ok(maker("resume", made.id));
    expect(state(manager, made).status).toBe("running");
    ok(maker("pause", made.id));
    expect(state(manager, made).status).toBe("paused");
    ok(manager("resume", made.id));
    expect(state(maker, made).status).toBe("running");
    ok(exec(made, "true"));
  });

  test("pause of a created one", () => {
    const made = create(SLEEP);
    ok(manager("pause", made.id));
    expect(state(maker, made).status).toBe("paused");
    ok(manager("resume", made.id));
    expect(state(maker, made).status).toBe("created");
    ok(maker("start", made.id));
  });

  test.skipIf(!has("pids") || !has("memory"))("update, one after the other", () => {
    const made = running(SLEEP, (config) => {
      config.linux.resources = { ...config.linux.resources, pids: { limit: 50 } };
    });
    const limit = () => group("memory", made, mounts.has("memory") ? "memory.limit_in_bytes" : "memory.max");
    const most = () => group("pids", made, "pids.max");
    ok(manager("update", "--pids-limit", "60", made.id));
    expect(most()).toBe("60");
    ok(maker("update", "--memory", "64M", made.id));
    // What the other one has set is known, and stays.
    expect([most(), limit()]).toEqual(["60", String(64 << 20)]);
    const file = join(made.bundle, "resources.json");
    writeFileSync(file, '{"pids": {"limit": 70}}');
    ok(manager("update", "--resources", file, made.id));
    expect([most(), limit()]).toEqual(["70", String(64 << 20)]);
    expect(state(maker, made)).toEqual(state(manager, made));
    ok(exec(made, "true"));
    ok(maker("exec", made.id, "true"));
  });

  test("events --stats", () => {
    const made = running("sleep 61 & exec sleep 60", (config) => {
      if (has("memory")) config.linux.resources = { ...config.linux.resources, memory: { limit: 64 << 20 } };
    });
    for (let i = 0; JSON.parse(ok(maker("ps", "--format", "json", made.id))).length < 2 && i < 500; i++);
    const [theirs, ours] = [maker, manager].map((tool) => JSON.parse(ok(tool("events", "--stats", made.id))));
    expect([ours.type, ours.id, ours.data.pids]).toEqual([theirs.type, theirs.id, theirs.data.pids]);
    expect(Object.keys(ours.data)).toEqual(Object.keys(theirs.data));
    expect(ours.data.cpuset).toEqual(theirs.data.cpuset);
    expect(ours.data.memory.usage?.limit ?? 0).toBe(theirs.data.memory.usage?.limit ?? 0);
    expect(Object.keys(ours.data.memory.raw ?? {})).toEqual(Object.keys(theirs.data.memory.raw ?? {}));
    expect(ours.data.pids.current).toBe(2);
  });

  test("kill and delete", async () => {
    const made = running("trap 'exit 0' TERM; echo >/ready; while :; do sleep 0.02; done", (config) => {
      config.root.readonly = false;
    });
    await untilExists(join(made.bundle, "rootfs/ready"));
    const refused = manager("delete", made.id);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(`cannot delete container ${made.id} that is not stopped: running`);
    ok(manager("kill", made.id, "TERM"));
    await until(made, "stopped");
    expect(manager("kill", made.id, "TERM").stderr).toContain("container not running");
    ok(manager("delete", made.id));
    expect(readdirSync(root)).toEqual([]);
  });

  test("delete of a created one, of a running and of a paused one with --force", () => {
    ok(manager("delete", create(SLEEP).id));
    ok(manager("delete", "--force", running(SLEEP).id));
    const paused = running(SLEEP);
    ok(maker("pause", paused.id));
    ok(manager("delete", "--force", paused.id));
    expect(readdirSync(root)).toEqual([]);
  });

  test("poststop hooks run once, by whoever deletes", () => {
    const out = join(scratch.output, `hook${fresh()}`);
    const made = running(SLEEP, (config) => {
      const args = ["sh", "-c", `cat >>${out}; echo >>${out}`];
      config.hooks = { poststop: [{ path: "/bin/sh", args, timeout: 5 }] };
    });
    ok(manager("delete", "--force", made.id));
    const lines = readFileSync(out, "utf8").trim().split("\n");
    expect(lines.length).toBe(1);
    expect(JSON.parse(lines[0]!)).toMatchObject({ id: made.id, status: "stopped", bundle: made.bundle });
  });

  test("with a user namespace: start, exec, pause, kill, delete", async () => {
    const made = create(SLEEP, userNamespace);
    ok(manager("start", made.id));
    expect(
      ok(exec(made, "sh", "-c", "id -u; cat /proc/self/uid_map"))
        .trim()
        .split(/\s+/),
    ).toEqual(["0", "0", "100000", "65536"]);
    ok(manager("pause", made.id));
    ok(manager("resume", made.id));
    ok(manager("kill", made.id, "KILL"));
    await until(made, "stopped");
    ok(manager("delete", made.id));
  });

  test("that shares the host's pid namespace: all of it ends", async () => {
    const made = running("sleep 61 & exec sleep 60", sharedPid);
    for (let i = 0; JSON.parse(ok(manager("ps", "--format", "json", made.id))).length < 2 && i < 500; i++);
    expect(ok(exec(made, "sh", "-c", "cat /proc/1/comm")).trim()).toBe(
      readFileSync("/proc/1/comm", "utf8").trim(),
    );
    // runc 1.1 does not wait for the others when it deletes, and may leave the cgroup.
    ok(manager("kill", "--all", made.id, "KILL"));
    await until(made, "stopped");
    for (let i = 0; left(made) !== "" && i < 500; i++) await Bun.sleep(10);
    expect(left(made)).toBe("");
    ok(manager("delete", made.id));
  });

  test("with a seccomp profile: an exec has it too", () => {
    const made = running(SLEEP, (config) => {
      config.linux.seccomp = {
        defaultAction: "SCMP_ACT_ALLOW",
        syscalls: [{ names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO", errnoRet: 95 }],
      };
    });
    const refused = exec(made, "mkdir", "/dev/shm/x");
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("Operation not supported");
    ok(exec(made, "touch", "/dev/shm/x"));
  });
}

/** A command of the host. */
function command(...words: string[]): Ran {
  const { exitCode, stdout, stderr } = Bun.spawnSync(words);
  return { code: exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

/** A receiver of terminals. */
async function receive(): Promise<Listener> {
  const path = join(scratch.bundles, `s${fresh()}`);
  const listener = new Listener([helperBinary(), "recvtty", path], path, { ...process.env } as Record<
    string,
    string
  >);
  await listener.line();
  return listener;
}

describe.skipIf(!present)("a container of Debian's runc, managed by bunc", () => take(runc, bunc));

describe.skipIf(!present)("a container of bunc, managed by Debian's runc", () => take(bunc, runc));

describe.skipIf(!present)("one container, handed to and fro", () => {
  for (const [name, first, second] of [
    ["runc first", runc, bunc],
    ["bunc first", bunc, runc],
  ] as const) {
    test(name, async () => {
      const made = bundle("exec sleep 60");
      const { id } = made;
      ok(first("create", "--bundle", made.bundle, id));
      ok(second("start", id));
      ok(first("pause", id));
      ok(second("resume", id));
      ok(first("exec", id, "true"));
      ok(second("exec", id, "true"));
      if (has("pids")) {
        for (const [tool, limit] of [
          [first, "11"],
          [second, "12"],
          [first, "13"],
        ] as const) {
          ok(tool("update", "--pids-limit", limit, id));
          expect(group("pids", made, "pids.max")).toBe(limit);
        }
      }
      expect(JSON.parse(ok(second("state", id)))).toEqual(JSON.parse(ok(first("state", id))));
      ok(first("kill", id, "KILL"));
      for (let i = 0; JSON.parse(ok(first("state", id))).status !== "stopped" && i < 500; i++)
        await Bun.sleep(10);
      ok(second("delete", id));
    });
  }
});

// What an older runc cannot do is none of bunc's; it is written down here, so that nobody is surprised.
describe.skipIf(!present)("limits of Debian's runc with containers of bunc", () => {
  test("poststart hooks are left out when it starts what bunc has created: it runs them in create", () => {
    const out = join(scratch.output, `hook${fresh()}`);
    const [byRunc, byBunc] = ["runc", "bunc"].map((name) =>
      bundle(SLEEP, (config) => {
        const args = ["sh", "-c", `echo ${name} >>${out}`];
        config.hooks = { poststart: [{ path: "/bin/sh", args, timeout: 5 }] };
      }),
    );
    for (const { id, bundle } of [byRunc!, byBunc!]) ok(bunc("create", "--bundle", bundle, id));
    expect(existsSync(out)).toBe(false);
    ok(runc("start", byRunc!.id));
    ok(bunc("start", byBunc!.id));
    expect(readFileSync(out, "utf8")).toBe("bunc\n");
  });

  const old = present && runc("--version").stdout.startsWith("runc version 1.1.");

  test.skipIf(!old)(
    "it knows no time namespaces: its exec has the host's clock, bunc's the container's",
    () => {
      const made = bundle(SLEEP, (config) => {
        config.linux.namespaces.push({ type: "time" });
        config.linux.timeOffsets = { boottime: { secs: 1_000_000 } };
      });
      ok(bunc("create", "--bundle", made.bundle, made.id));
      ok(runc("start", made.id));
      const up = (tool: Runtime) => Number.parseFloat(ok(tool("exec", made.id, "cat", "/proc/uptime")));
      const host = Number.parseFloat(readFileSync("/proc/uptime", "utf8"));
      expect(up(bunc) - host).toBeGreaterThan(999_000);
      expect(up(runc) - host).toBeLessThan(999_000);
    },
  );
});
