// `exec`: descriptors, namespaces, seccomp, and the attributes of a process.
import { describe, expect, test } from "bun:test";
import {
  closeSync,
  lchownSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Config } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import type { Report } from "../rig/helper.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest } from "../rig/runtime.ts";

const rig = useRig();

async function running(edit: (config: Config, container: Container) => void = () => {}): Promise<Container> {
  const container = rig.container((config, it) => {
    config.process.args = ["sleep", "60"];
    edit(config, it);
  });
  await container.detach();
  return container;
}

const exec = ({ id }: Container, ...command: string[]) => rig.call(["exec", id, ...command]);

/** Executes a process of a file. */
async function execFile(container: Container, process: object) {
  const file = container.path("process.json");
  const base = { user: { uid: 0, gid: 0 }, cwd: "/", env: ["PATH=/bin"] };
  writeFileSync(file, JSON.stringify({ ...base, ...process }));
  return await rig.call(["exec", "--process", file, container.id]);
}

async function report(container: Container, ...flags: string[]): Promise<Report> {
  const { stdout } = (await rig.call(["exec", ...flags, container.id, "test-helper", "report"])).ok();
  return JSON.parse(stdout) as Report;
}

const namespaces = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/** That a process of exec has the namespaces of the container's init, seen from the host. */
async function expectJoined(container: Container): Promise<void> {
  const file = container.path("exec.pid");
  (await rig.call(["exec", "-d", "--pid-file", file, container.id, "sleep", "50"])).ok();
  const { pid } = await container.state();
  const of = (who: string | number) => namespaces.map((name) => readlinkSync(`/proc/${who}/ns/${name}`));
  expect(of(readFileSync(file, "utf8"))).toEqual(of(pid));
}

describe("namespaces", () => {
  test("those of the default spec", async () => {
    await expectJoined(await running());
  });

  test("a user namespace: its root, mapped, with rights there", async () => {
    const own = (dir: string): void => {
      lchownSync(dir, 100000, 200000);
      for (const entry of readdirSync(dir, { withFileTypes: true })) {
        if (entry.isDirectory()) own(join(dir, entry.name));
      }
    };
    const container = await running((config, { rootfs }) => {
      config.linux.namespaces.push({ type: "user" });
      config.linux.uidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
      config.linux.gidMappings = [{ containerID: 0, hostID: 200000, size: 1000 }];
      config.root.readonly = false;
      own(rootfs);
    });
    await expectJoined(container);
    expect((await exec(container, "sh", "-c", "id -u; touch /x; stat -c %u:%g /x")).ok().stdout).toBe(
      "0\n0:0\n",
    );
    const user = await rig.call(["exec", "--user", "7:8", container.id, "id"]);
    expect(user.ok().stdout).toStartWith("uid=7 gid=8");
    const outside = await rig.call(["exec", "--user", "70000", container.id, "true"]);
    expect([outside.code, outside.stderr]).toEqual([255, expect.stringContaining("setuid to uid 70000")]);
  });

  test("a time namespace with offsets", async () => {
    const container = await running((config) => {
      config.linux.namespaces.push({ type: "time" });
      config.linux.timeOffsets = { boottime: { secs: 1_000_000, nanosecs: 0 } };
    });
    await expectJoined(container);
    const { stdout } = (await exec(container, "cat", "/proc/uptime")).ok();
    expect(Number(stdout.split(" ")[0])).toBeGreaterThan(1_000_000);
  });

  test("joined ones, and those of the host", async () => {
    const first = await running();
    const { pid } = await first.state();
    const container = await running((config) => {
      config.linux.namespaces = [
        { type: "mount" },
        { type: "pid", path: `/proc/${pid}/ns/pid` },
        { type: "network", path: `/proc/${pid}/ns/net` },
        { type: "uts", path: `/proc/${pid}/ns/uts` },
      ];
      delete config.hostname;
    });
    await expectJoined(container);
    expect((await exec(container, "readlink", "/proc/self/ns/net")).ok().stdout.trim()).toBe(
      readlinkSync(`/proc/${pid}/ns/net`),
    );
  });

  test("no pid namespace: the process has the pid of the host", async () => {
    const container = await running((config) => {
      config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "pid");
    });
    await expectJoined(container);
    expect((await exec(container, "sh", "-c", "exit 3")).code).toBe(3);
  });
});

describe("descriptors", () => {
  test("--preserve-fds passes on, and no others", async () => {
    const container = await running();
    const file = container.file("data", "hello\n");
    const fds = [openSync(file, "r"), openSync(file, "r"), openSync(file, "r")];
    const command = ["sh", "-c", "ls /proc/self/fd; cat <&4"];
    const result = await rig.call(["exec", "--preserve-fds", "2", container.id, ...command], { fds });
    // 5 is the directory that ls reads.
    expect(result.ok().stdout).toBe("0\n1\n2\n3\n4\n5\nhello\n");
    for (const fd of fds) closeSync(fd);
    const missing = await rig.call(["exec", "--preserve-fds", "2", container.id, "true"]);
    expect([missing.code, missing.stderr]).toEqual([
      255,
      expect.stringContaining("unable to stat preserved-fd 0"),
    ]);
  });

  test("LISTEN_FDS for this very process are passed on", async () => {
    const container = await running();
    const fd = openSync(container.file("data", "hello\n"), "r");
    const wrap = ["sh", "-c", 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"', "sh"];
    const result = await rig.call(["exec", container.id, "sh", "-c", "echo $LISTEN_FDS; cat <&3"], {
      wrap,
      fds: [fd],
    });
    closeSync(fd);
    expect(result.ok().stdout).toBe("1\nhello\n");
    const others = await rig.call(["exec", container.id, "sh", "-c", "echo $LISTEN_FDS; ls /proc/self/fd"], {
      env: { LISTEN_FDS: "1", LISTEN_PID: "1" },
    });
    expect(others.ok().stdout).toBe("\n0\n1\n2\n3\n");
  });

  test("--pidfd-socket gets a pidfd of the process", async () => {
    const container = await running();
    const listener = await rig.listener("recvfd");
    const file = container.path("exec.pid");
    const flags = ["-d", "--pid-file", file, "--pidfd-socket", listener.path];
    (await rig.call(["exec", ...flags, container.id, "sleep", "50"])).ok();
    const { fds } = await listener.message();
    expect(fds).toEqual([expect.objectContaining({ pid: Number(readFileSync(file, "utf8")) })]);
    await listener.write("9\n");
    expect(await listener.line<{ errno: number }>()).toMatchObject({ sent: 9, errno: 0 });
  });

  test("a process comes from a pipe that is written late, and is long", async () => {
    const container = await running();
    const process = {
      user: { uid: 0, gid: 0 },
      cwd: "/",
      args: ["sh", "-c", "echo $#", "sh", ...Array.from({ length: 9000 }, (_, i) => `argument${i}`)],
      env: ["PATH=/bin"],
    };
    const file = container.path("process.json");
    writeFileSync(file, JSON.stringify(process));
    const wrap = ["bash", "-c", `exec "$@" -p <(sleep 0.2; cat ${file}) ${container.id}`, "bash"];
    expect((await rig.call(["exec"], { wrap })).ok().stdout).toBe("9000\n");
  });
});

describe("seccomp", () => {
  test("the container's filter", async () => {
    for (const noNewPrivileges of [true, false]) {
      const container = await running((config) => {
        config.process.noNewPrivileges = noNewPrivileges;
        config.linux.seccomp = {
          defaultAction: "SCMP_ACT_ALLOW",
          architectures: ["SCMP_ARCH_X86_64"],
          syscalls: [{ names: ["mkdirat"], action: "SCMP_ACT_ERRNO", errnoRet: 31 }],
        };
      });
      expect((await report(container)).status).toMatchObject({ Seccomp: "2", Seccomp_filters: "1" });
      const { stdout } = (await exec(container, "test-helper", "sys", "mkdirat -100 /tmp/x 0755")).ok();
      expect(JSON.parse(stdout)).toMatchObject({ error: "EMLINK" });
    }
  });

  test("SCMP_ACT_NOTIFY: the agent gets a listener of each process, and the container's state", async () => {
    const agent = await rig.listener("agent", "31");
    const container = await running((config) => {
      config.linux.seccomp = {
        defaultAction: "SCMP_ACT_ALLOW",
        architectures: ["SCMP_ARCH_X86_64"],
        listenerPath: agent.path,
        listenerMetadata: "meta",
        syscalls: [{ names: ["mkdirat"], action: "SCMP_ACT_NOTIFY" }],
      };
    });
    const { pid } = await container.state();
    await agent.message();
    // The helper serves one connection: another one listens at the same place for the process of exec.
    await agent.close();
    const second = await rig.listener("agent", "31");
    Object.assign(container.config.linux.seccomp!, { listenerPath: second.path });
    container.write();
    const ran = rig.spawn(["exec", container.id, "test-helper", "sys", "mkdirat -100 /tmp/x 0755"]);
    const message = await second.message();
    expect(message.fds).toEqual([expect.objectContaining({ target: "anon_inode:seccomp notify" })]);
    const told = JSON.parse(message.text) as { pid: number };
    expect(told).toMatchObject({
      fds: ["seccompFd"],
      metadata: "meta",
      state: { id: container.id, status: "running", pid, bundle: container.bundle },
    });
    expect(told.pid).not.toBe(pid);
    expect(await second.line<{ nr: number; pid: number }>()).toEqual({ nr: 258, pid: told.pid });
    expect((await ran.done).ok().stdout).toContain('"error":"EMLINK"');
  });
});

describe("attributes", () => {
  test("execCPUAffinity of the container and of a file", async () => {
    const container = await running((config) => {
      config.process.execCPUAffinity = { initial: "0", final: "1" };
    });
    const allowed = ["grep", "Cpus_allowed_list", "/proc/self/status"];
    expect((await exec(container, ...allowed)).ok().stdout).toBe("Cpus_allowed_list:\t1\n");
    const both = await execFile(container, {
      args: allowed,
      execCPUAffinity: { initial: "1", final: "0-1" },
    });
    expect(both.ok().stdout).toBe("Cpus_allowed_list:\t0-1\n");
    const bad = await execFile(container, { args: allowed, execCPUAffinity: { final: "x" } });
    expect([bad.code, bad.stderr]).toEqual([255, expect.stringContaining("execCPUAffinity.final")]);
  });

  buncTest("otherwise it may use what its cgroups allow, whatever the caller is bound to", async () => {
    const container = await running();
    const allowed = ["grep", "Cpus_allowed_list", "/proc/self/status"];
    const free = (await exec(container, ...allowed)).ok().stdout;
    const bound = await rig.call(["exec", container.id, ...allowed], { wrap: ["taskset", "-c", "0"] });
    expect(bound.ok().stdout).toBe(free);
  });

  test("scheduler, I/O priority, limits, umask, groups, oom score", async () => {
    const container = await running();
    const result = await execFile(container, {
      args: ["test-helper", "report"],
      user: { uid: 5, gid: 6, umask: 0o27, additionalGids: [7, 8] },
      scheduler: { policy: "SCHED_BATCH", nice: 3 },
      ioPriority: { class: "IOPRIO_CLASS_BE", priority: 6 },
      rlimits: [{ type: "RLIMIT_CORE", soft: 10, hard: 20 }],
      oomScoreAdj: 321,
    });
    const found = JSON.parse(result.ok().stdout);
    const status = found.status as Record<string, string>;
    expect([status.Uid, status.Gid, status.Groups]).toEqual(["5\t5\t5\t5", "6\t6\t6\t6", "7 8"]);
    expect(status.Umask).toBe("0027");
    const score = await execFile(container, { args: ["cat", "/proc/self/oom_score_adj"], oomScoreAdj: 321 });
    expect(score.ok().stdout).toBe("321\n");
    const limits = await execFile(container, {
      args: ["grep", "core", "/proc/self/limits"],
      rlimits: [{ type: "RLIMIT_CORE", soft: 10, hard: 20 }],
    });
    expect(limits.ok().stdout).toMatch(/10 +20/);
  });

  test("HOME is of the container's passwd, whatever that holds", async () => {
    const container = await running((config) => {
      config.root.readonly = false;
    });
    container.file("etc/passwd", "root:x:0:0::/the/root:/bin/sh\nme:x:12:0::/home/me:/bin/sh\n");
    const home = async (...flags: string[]) =>
      (await rig.call(["exec", ...flags, container.id, "sh", "-c", "echo $HOME"])).ok().stdout;
    expect(await home()).toBe("/the/root\n");
    expect(await home("--user", "12")).toBe("/home/me\n");
    expect(await home("--user", "13")).toBe("/\n");
    expect(await home("-e", "HOME=/set")).toBe("/set\n");
    container.file(
      "etc/passwd",
      `${"x".repeat(70000)}:0:0\n\0:::\nme:x:12:0::/${"h".repeat(5000)}:/bin/sh\n`,
    );
    expect(await home("--user", "12")).toMatch(/^\/.*\n$/);
    // A fifo must not hold anybody up, and no file of the host is reached by a link.
    (await exec(container, "sh", "-c", "rm /etc/passwd; mkfifo /etc/passwd")).ok();
    expect(await home()).toMatch(/^\/.*\n$/);
    (await exec(container, "sh", "-c", "rm /etc/passwd; ln -s /proc/self/environ /etc/passwd")).ok();
    expect(await home()).toMatch(/^\/.*\n$/);
  });

  test("labels that this host cannot apply are errors that name them", async () => {
    const container = await running();
    for (const [flag, label, words] of [
      ["--apparmor", "no-such-profile", /apparmor/i],
      ["--process-label", "system_u:system_r:x_t:s0", /selinux|label/i],
    ] as const) {
      const result = await rig.call(["exec", flag, label, container.id, "true"]);
      expect([flag, result.code]).toEqual([flag, 255]);
      expect(result.stderr).toMatch(words);
    }
  });

  test("all problems of a process are told at once, each with its place", async () => {
    const container = await running();
    const result = await execFile(container, {
      args: [],
      cwd: "x",
      env: ["A", "=b"],
      rlimits: [{ type: "RLIMIT_X", soft: 2, hard: 1 }],
    });
    expect(result.code).toBe(255);
    for (const place of ["cwd", "args", "env[0]", "env[1]", "rlimits[0].type", "rlimits[0].soft"]) {
      expect(result.stderr).toContain(`${place}: `);
    }
    const flags = ["--cwd", "x", "-e", "A", "-e", "=b"];
    const changed = await rig.call(["exec", ...flags, container.id, "true"]);
    for (const words of [
      "process.cwd: Cwd must be an absolute path",
      "missing '='",
      "name cannot be empty",
    ]) {
      expect(changed.stderr).toContain(words);
    }
  });
});

test("a container that waits for start takes processes, too", async () => {
  const container = rig.container();
  container.config.process.args = ["sleep", "60"];
  await container.create();
  expect((await exec(container, "sh", "-c", "exit 4")).code).toBe(4);
  (await container.call("start")).ok();
  expect((await container.state()).status).toBe("running");
});

test("--ignore-paused: the process starts when the container goes on", async () => {
  const container = await running();
  (await container.call("pause")).ok();
  const started = rig.spawn(["exec", "--ignore-paused", container.id, "sh", "-c", "exit 9"]);
  await Bun.sleep(300);
  (await container.call("resume")).ok();
  expect((await started.done).code).toBe(9);
});
