// Containers of an ordinary user. Run as one, in a cgroup that is the user's own: the lane "user" of `make vm-test`.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Config } from "../rig/config.ts";
import { repository } from "../rig/repository.ts";
import { busybox } from "../rig/rootfs.ts";

const runtime = process.env.BUNC ?? join(repository, "bunc");
const uid = process.getuid!();
const dir = mkdtempSync(join(tmpdir(), "bunc-rootless-"));
const root = join(dir, "state");
let count = 0;

/** What a command did. */
interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

function call(...args: string[]): Result {
  const command = [runtime, "--root", root, ...args];
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  return { code: exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

function good(result: Result): Result {
  if (result.code !== 0) throw new Error(`exit ${result.code}: ${result.stderr}${result.stdout}`);
  return result;
}

/** A command that starts a container which stays: its output is the container's, so it goes to files. */
function detach(...args: string[]): Result {
  return detached(runtime, "--root", root, ...args);
}

/** The same for any command line. */
function detached(...command: string[]): Result {
  const base = join(dir, `out${++count}`);
  const streams = [Bun.file(`${base}.out`), Bun.file(`${base}.err`)] as const;
  const { exitCode } = Bun.spawnSync(command, { stdio: [null, ...streams] });
  return {
    code: exitCode,
    stdout: readFileSync(`${base}.out`, "utf8"),
    stderr: readFileSync(`${base}.err`, "utf8"),
  };
}

/** A bundle as `spec --rootless` begins it, and the id for its container. */
function bundle(script: string, edit: (config: Config) => void = () => {}): { id: string; path: string } {
  const id = `rl-${process.pid}-${++count}`;
  const path = join(dir, id);
  const bin = join(path, "rootfs/bin");
  mkdirSync(bin, { recursive: true });
  for (const name of ["proc", "sys", "dev", "tmp"]) mkdirSync(join(path, "rootfs", name));
  copyFileSync(busybox(), join(bin, "busybox"));
  chmodSync(join(bin, "busybox"), 0o755);
  for (const applet of ["sh", "cat", "id", "sleep", "ls", "head"]) symlinkSync("busybox", join(bin, applet));
  good(call("spec", "--rootless", "--bundle", path));
  const file = join(path, "config.json");
  const config = JSON.parse(readFileSync(file, "utf8")) as Config;
  config.process.terminal = false;
  config.process.args = ["sh", "-c", script];
  edit(config);
  writeFileSync(file, JSON.stringify(config));
  return { id, path };
}

afterEach(() => {
  for (const { id } of existsSync(root)
    ? (JSON.parse(good(call("list", "--format", "json")).stdout) ?? [])
    : [])
    good(call("delete", "--force", id));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("is run as an ordinary user", () => {
  expect(uid).not.toBe(0);
});

const own = readFileSync("/proc/self/cgroup", "utf8").trim().slice("0::".length);
const beside = own.slice(0, own.lastIndexOf("/"));

describe("without anything special", () => {
  test("run: the user is root inside", () => {
    const { id, path } = bundle("id -u; cat /proc/self/uid_map; exit 3");
    const { code, stdout, stderr } = call("run", "--bundle", path, id);
    expect({ code, stderr, lines: stdout.split(/\s+/) }).toEqual({
      code: 3,
      stderr: "",
      lines: ["0", "0", String(uid), "1", ""],
    });
  });

  test("create, state, start, kill, delete", () => {
    const { id, path } = bundle("exec sleep 60");
    good(detach("create", "--bundle", path, id));
    const state = () => JSON.parse(good(call("state", id)).stdout);
    expect(state().status).toBe("created");
    expect(call("exec", id, "sh", "-c", "id -u; exit 3")).toEqual({ code: 3, stdout: "0\n", stderr: "" });
    // Nor does what runs beside it see anything of the init that waits.
    const look =
      "for f in exe environ mem; do head -c 1 /proc/1/$f >/dev/null 2>&1 && echo $f; done; echo done";
    expect(call("exec", id, "sh", "-c", look).stdout).toBe("done\n");
    expect(state().status).toBe("created");
    good(call("start", id));
    expect(state().status).toBe("running");
    good(call("exec", id, "sh", "-c", "exit 0"));
    good(call("kill", id, "KILL"));
    for (let i = 0; i < 100 && state().status !== "stopped"; i++) Bun.sleepSync(50);
    good(call("delete", id));
    expect(call("state", id).stderr).toContain("container does not exist");
  });

  test("exec, ps, pause, resume, update and events, as of any container", () => {
    const { id, path } = bundle("exec sleep 60");
    good(detach("run", "--detach", "--bundle", path, id));
    const state = () => JSON.parse(good(call("state", id)).stdout);
    expect(good(call("exec", id, "sh", "-c", "id -u; cat /proc/self/uid_map")).stdout.split(/\s+/)).toEqual([
      ...["0", "0", String(uid), "1", ""],
    ]);
    expect(call("exec", id, "sh", "-c", "exit 7").code).toBe(7);
    expect(JSON.parse(good(call("ps", "--format", "json", id)).stdout)).toEqual([state().pid]);
    good(call("pause", id));
    expect(state().status).toBe("paused");
    good(call("resume", id));
    expect(state().status).toBe("running");
    good(call("update", "--pids-limit", "17", "--memory", String(48 << 20), id));
    const stats = JSON.parse(good(call("events", "--stats", id)).stdout);
    expect(stats.data.pids).toMatchObject({ current: 1, limit: 17 });
    expect(stats.data.memory.usage.limit).toBe(48 << 20);
  });

  test("devices are the host's, bound", () => {
    const { id, path } = bundle(
      "ls -ln /dev/null /dev/fuse; echo gone > /dev/null; cat /proc/mounts",
      (config) => {
        config.linux.devices = [{ path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 0o600 }];
      },
    );
    const { stdout } = good(call("run", "--bundle", path, id));
    expect(stdout).toMatch(/^crw-rw-rw- .* 10, 229 .*\/dev\/fuse$/m);
    expect(stdout).toMatch(/^crw-rw-rw- .* 1, +3 .*\/dev\/null$/m);
    for (const name of ["null", "zero", "urandom", "fuse"]) expect(stdout).toContain(` /dev/${name} `);
  });

  test("sysfs is the host's, bound, where the container has its network", () => {
    const { id, path } = bundle("ls /sys/class/net; cat /proc/mounts", (config) => {
      const sys = config.mounts.find(({ destination }) => destination === "/sys")!;
      Object.assign(sys, { type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"] });
    });
    const { stdout } = good(call("run", "--bundle", path, id));
    expect(stdout).toMatch(/^lo$/m);
    expect(stdout).toMatch(/^sysfs \/sys sysfs ro,nosuid,nodev,noexec/m);
  });

  test("ids of /etc/subuid through newuidmap", () => {
    const line = readFileSync("/etc/subuid", "utf8")
      .split("\n")
      .find((one) => one.startsWith("u:"))!;
    const first = Number(line.split(":")[1]);
    const { id, path } = bundle("id -u; cat /proc/self/uid_map", (config) => {
      const ranges = [
        { containerID: 0, hostID: uid, size: 1 },
        { containerID: 1, hostID: first, size: 1000 },
      ];
      Object.assign(config.linux, { uidMappings: ranges, gidMappings: ranges });
      config.process.user = { uid: 5, gid: 5 };
    });
    const { stdout } = good(call("run", "--bundle", path, id));
    expect(stdout.trim().split(/\s+/)).toEqual(["5", "0", String(uid), "1", "1", String(first), "1000"]);
  });
});

describe("what an ordinary user cannot have is refused with what would allow it", () => {
  const refused = (edit: (config: Config) => void, env: Record<string, string> = {}): string => {
    const { id, path } = bundle("true", edit);
    const command = [runtime, "--root", root, "run", "--bundle", path, id];
    const streams = { stdin: "ignore", stdout: "pipe", stderr: "pipe" } as const;
    const { exitCode, stderr } = Bun.spawnSync(command, { ...streams, env: { ...process.env, ...env } });
    expect(exitCode).toBe(1);
    expect(existsSync(join(root, id))).toBe(false);
    return stderr.toString();
  };
  const mapped = (hostID: number) => (config: Config) => {
    const ranges = [{ containerID: 0, hostID, size: 1000 }];
    Object.assign(config.linux, { uidMappings: ranges, gidMappings: ranges });
  };

  test("ids that /etc/subuid does not give", () => {
    const said = refused(mapped(3_000_000));
    expect(said).toContain("newuidmap: exit status 1");
    expect(said).toContain(
      "/etc/subuid must give the user all host ids of the mapping, in lines like u:3000000:1000",
    );
  });

  test("ids of others without newuidmap", () => {
    const said = refused(mapped(100_000), { PATH: "/nowhere" });
    expect(said).toContain("newuidmap not found in $PATH");
    expect(said).toContain("install the package uidmap");
    expect(said).toContain(`can only map its own id (hostID ${uid}, size 1)`);
  });

  test.each<[string, (config: Config) => void, string[]]>([
    [
      "network devices",
      (config) => {
        config.linux.namespaces.push({ type: "network" });
        Object.assign(config.linux, { netDevices: { eth0: {} } });
      },
      ["network devices are not supported for rootless containers", "CAP_NET_ADMIN on the host"],
    ],
    [
      "a file system of a disk",
      (config) => config.mounts.push({ destination: "/tmp", type: "ext4", source: "/dev/vda" }),
      ["operation not permitted", "mounts[", "root of the host, who may mount it first, to be bound here"],
    ],
    [
      "a realtime scheduler",
      (config) => Object.assign(config.process, { scheduler: { policy: "SCHED_FIFO", priority: 10 } }),
      ["cannot set the scheduler", "CAP_SYS_NICE of the host, or RLIMIT_RTPRIO"],
    ],
    [
      "a lower oom_score_adj",
      (config) => Object.assign(config.process, { oomScoreAdj: -999 }),
      ["cannot set oomScoreAdj to -999", "CAP_SYS_RESOURCE"],
    ],
    [
      "a higher hard limit",
      (config) => {
        config.process.rlimits = [{ type: "RLIMIT_NOFILE", soft: 1, hard: 1_000_000_000 }];
      },
      ["error setting rlimit type RLIMIT_NOFILE", "CAP_SYS_RESOURCE"],
    ],
    [
      "a device that the host has not",
      (config) => {
        config.linux.devices = [{ path: "/dev/bunc-none", type: "c", major: 1, minor: 3 }];
      },
      ['cannot make device \\"/dev/bunc-none\\"', "the host's is bound, so it must exist"],
    ],
  ])("%s", (_, edit, words) => {
    const said = refused(edit);
    for (const one of words) expect(said).toContain(one);
  });

  test("user namespaces where they are used up", () => {
    const { id, path } = bundle("true");
    // The limit is one of each user namespace: this is not the host's.
    const script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"';
    const command = [
      "unshare",
      "-rm",
      "sh",
      "-c",
      script,
      runtime,
      "--root",
      root,
      "run",
      "--bundle",
      path,
      id,
    ];
    const { exitCode, stderr } = Bun.spawnSync(command, { stdout: "pipe", stderr: "pipe" });
    expect(exitCode).toBe(1);
    expect(stderr.toString()).toContain("user.max_user_namespaces is 0");
    expect(stderr.toString()).toContain("sysctl -w user.max_user_namespaces=");
  });

  test("a place for its state without XDG_RUNTIME_DIR", () => {
    const { id, path } = bundle("true");
    const { XDG_RUNTIME_DIR: _, ...env } = process.env;
    const { exitCode, stderr } = Bun.spawnSync([runtime, "run", "--bundle", path, id], {
      env,
      stderr: "pipe",
    });
    expect(exitCode).toBe(1);
    expect(stderr.toString()).toContain("permission denied");
    expect(stderr.toString()).toContain("XDG_RUNTIME_DIR");
  });
});

describe("cgroups", () => {
  const limited = (config: Config) => {
    config.linux.resources = { pids: { limit: 20 }, memory: { limit: 32 << 20 } };
  };
  const groupOf = (id: string): string => {
    const { pid } = JSON.parse(good(call("state", id)).stdout);
    return readFileSync(`/proc/${pid}/cgroup`, "utf8").trim().slice("0::".length);
  };

  test("where they are delegated limits are set, and the cgroup is removed", () => {
    const { id, path } = bundle("exec sleep 60", limited);
    good(detach("run", "--detach", "--bundle", path, id));
    expect(groupOf(id)).toBe(`${beside}/${id}`);
    const group = `/sys/fs/cgroup${beside}/${id}`;
    expect(readFileSync(`${group}/pids.max`, "utf8")).toBe("20\n");
    expect(readFileSync(`${group}/memory.max`, "utf8")).toBe(`${32 << 20}\n`);
    good(call("delete", "--force", id));
    expect(existsSync(group)).toBe(false);
  });

  describe("where they are not", () => {
    // The tests' own cgroup is the user's: a directory below it that may not be written to stands for one that is not.
    const box = `/sys/fs/cgroup${own}/rl-${process.pid}`;
    const inside = (...args: string[]): Result => {
      const enter = `echo $$ > ${box}/inner/cgroup.procs && exec "$@"`;
      return detached("sh", "-c", enter, "sh", runtime, "--root", root, ...args);
    };
    beforeAll(() => {
      mkdirSync(`${box}/inner`, { recursive: true });
      chmodSync(box, 0o555);
    });
    afterAll(() => {
      chmodSync(box, 0o755);
      for (const group of [`${box}/inner`, box]) rmdirSync(group);
    });

    test("the container goes without", () => {
      const { id, path } = bundle("exec sleep 60");
      const { code, stderr } = inside("run", "--detach", "--bundle", path, id);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(groupOf(id)).toBe(`${own}/rl-${process.pid}/inner`);
      expect(good(call("exec", id, "id", "-u")).stdout).toBe("0\n");
      for (const args of [["ps"], ["pause"], ["update", "--pids-limit", "5"]]) {
        const { code, stderr } = call(...args, id);
        expect(code).toBe(1);
        expect(stderr).toContain("the container has no cgroup; start it in a delegated one");
      }
      good(call("delete", "--force", id));
    });

    test("but not without limits that it asks for", () => {
      const { id, path } = bundle("true", limited);
      const { code, stderr } = inside("run", "--bundle", path, id);
      expect(code).toBe(1);
      expect(stderr).toContain("rootless needs no limits + no cgrouppath when no permission is granted");
      expect(stderr).toContain("Delegate=yes");
    });

    test("nor without the cgroup that it names", () => {
      const { id, path } = bundle("true", (config) => {
        config.linux.cgroupsPath = "/not-mine/at-all";
      });
      const { code, stderr } = inside("run", "--bundle", path, id);
      expect(code).toBe(1);
      expect(stderr).toMatch(
        /unable to apply cgroup configuration: .*permission denied.* at linux\.cgroupsPath/,
      );
      expect(stderr).toContain("Delegate=yes");
      expect(call("state", id).stderr).toContain("container does not exist");
    });

    test("without a pid namespace either there is a warning: its processes may outlive it", () => {
      const { id, path } = bundle("exit 4", (config) => {
        config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "pid");
        // Without a pid namespace of one's own there is no mounting /proc either.
        const proc = config.mounts.findIndex(({ destination }) => destination === "/proc");
        config.mounts[proc] = { destination: "/proc", type: "none", source: "/proc", options: ["rbind"] };
      });
      const { code, stderr } = inside("run", "--bundle", path, id);
      expect(code).toBe(4);
      expect(stderr).toContain("level=warning");
      expect(stderr).toContain("Such configuration is strongly discouraged");
    });
  });

  test("made by the user's systemd", () => {
    const { id, path } = bundle("exec sleep 60", limited);
    good(detach("--systemd-cgroup", "run", "--detach", "--bundle", path, id));
    const group = groupOf(id);
    expect(group).toBe(`/user.slice/user-${uid}.slice/user@${uid}.service/user.slice/runc-${id}.scope`);
    expect(readFileSync(`/sys/fs/cgroup${group}/pids.max`, "utf8")).toBe("20\n");
    good(call("--systemd-cgroup", "update", "--pids-limit", "21", id));
    expect(readFileSync(`/sys/fs/cgroup${group}/pids.max`, "utf8")).toBe("21\n");
    good(call("delete", "--force", id));
    expect(existsSync(`/sys/fs/cgroup${group}`)).toBe(false);
  });

  test("without a session bus --systemd-cgroup says what is missing", () => {
    const { id, path } = bundle("true");
    const { DBUS_SESSION_BUS_ADDRESS: _, XDG_RUNTIME_DIR: __, ...env } = process.env;
    const command = [runtime, "--root", root, "--systemd-cgroup", "run", "--bundle", path, id];
    const { exitCode, stderr } = Bun.spawnSync(command, { env, stdout: "pipe", stderr: "pipe" });
    expect(exitCode).toBe(1);
    expect(stderr.toString()).toContain("could not detect DBUS_SESSION_BUS_ADDRESS from the environment");
    expect(stderr.toString()).toContain("dbus-user-session");
  });
});
