// Namespaces: new ones, ones joined by path, none; what the process and the host see of them.
import { describe, expect, test } from "bun:test";
import { readFileSync, readlinkSync } from "node:fs";
import type { Config } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, cgroupPaths, host, isBunc } from "../rig/runtime.ts";

const rig = useRig();

/** Namespace types of the spec by their file in /proc/PID/ns. */
const files = {
  pid: "pid",
  network: "net",
  mount: "mnt",
  ipc: "ipc",
  uts: "uts",
  user: "user",
  cgroup: "cgroup",
  time: "time",
} as const;
type Type = keyof typeof files;

const namespaces = (pid: number | "self"): Record<Type, string> =>
  Object.fromEntries(
    Object.entries(files).map(([type, file]) => [type, readlinkSync(`/proc/${pid}/ns/${file}`)]),
  ) as Record<Type, string>;

function sleeper(edit: (config: Config) => void = () => {}): Container {
  return rig.container((config) => {
    config.process.args = ["sleep", "60"];
    edit(config);
  });
}

test("those that are listed are new, the others are the runtime's", async () => {
  const own = namespaces("self");
  for (const types of [
    ["mount"],
    ["mount", "pid", "network", "ipc", "uts"],
    ["mount", "pid", "network", "ipc", "uts", "cgroup", ...(isBunc ? ["time"] : [])],
  ] as Type[][]) {
    const container = sleeper((config) => {
      config.linux.namespaces = types.map((type) => ({ type }));
      if (!types.includes("uts")) delete config.hostname;
    });
    await container.detach();
    const its = namespaces((await container.state()).pid);
    for (const type of Object.keys(files) as Type[]) {
      expect([type, its[type] === own[type]]).toEqual([type, !types.includes(type)]);
    }
    (await container.remove("--force")).ok();
  }
});

describe("from inside", () => {
  test("pid: the program is 1 and sees nobody else; network: loopback alone, and it is up", async () => {
    const container = rig.container();
    const report = await container.report();
    expect(report).toMatchObject({ pid: 1, ppid: 0, sid: 1, pgid: 1, loopback: true });
    const text = await container.shell("ps -o pid | wc -l; ls /sys/class/net; ip addr show lo");
    const lines = text.trim().split("\n");
    expect(Number(lines[0])).toBeLessThanOrEqual(4); // heading, sh, ps, wc
    expect(lines[1]).toBe("lo");
    expect(text).toContain("127.0.0.1/8");
    expect(text).toContain("UP"); // of <LOOPBACK,UP,LOWER_UP>
  });

  test("uts: the hostname is the config's, the host's is untouched", async () => {
    const before = readFileSync("/proc/sys/kernel/hostname", "utf8");
    const container = rig.container((config) => {
      config.hostname = "mrsdalloway";
    });
    expect((await container.report()).uts[0]).toBe("mrsdalloway");
    expect(readFileSync("/proc/sys/kernel/hostname", "utf8")).toBe(before);
  });

  test("ipc: System V objects and message queues of the host are not there", async () => {
    const container = rig.container();
    const text = await container.shell(
      "ipcs -q | grep -c '^0x'; ls /dev/mqueue | wc -l; echo >/dev/shm/x && ls /dev/shm",
    );
    expect(text).toBe("0\n0\nx\n");
  });

  test("the host's pid namespace: the program has a host pid, and the runtime's /proc shows it", async () => {
    const container = rig.container((config) => {
      config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "pid");
    });
    const report = await container.report();
    expect(report.pid).toBeGreaterThan(1);
    expect(report.status.NSpid).toBe(String(report.pid));
  });

  test("cgroup: the container's own cgroup is the root", async () => {
    const container = rig.container((config) => {
      config.linux.namespaces.push({ type: "cgroup" });
    });
    for (const line of (await container.output("cat", "/proc/self/cgroup")).trim().split("\n")) {
      expect(line.split(":")[2]).toBe("/");
    }
    const without = rig.container();
    const paths = cgroupPaths(await without.output("cat", "/proc/self/cgroup"));
    expect([...paths.values()]).toEqual([...host.cgroups].map(() => without.cgroupPath));
  });
});

buncDescribe("time", () => {
  test("clocks are offset, also by negative and by nanoseconds", async () => {
    const container = rig.container((config) => {
      config.linux.namespaces.push({ type: "time" });
      config.linux.timeOffsets = {
        monotonic: { secs: 7881, nanosecs: 2718281 },
        boottime: { secs: -100, nanosecs: 5 },
      };
      config.process.args = ["cat", "/proc/self/timens_offsets"];
    });
    const uptime = (): number => Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
    const lines = (await container.output()).trim().split("\n");
    expect(lines.map((line) => line.split(/\s+/))).toEqual([
      ["monotonic", "7881", "2718281"],
      ["boottime", "-100", "5"],
    ]);
    const report = await container.report();
    expect(Math.abs(report.boottime - uptime() + 100)).toBeLessThan(10);
    expect(Math.abs(report.monotonic - uptime() - 7881)).toBeLessThan(10);
  });

  test("without offsets the clocks are the host's; an unknown clock is an error", async () => {
    const container = rig.container((config) => {
      config.linux.namespaces.push({ type: "time" });
    });
    expect((await container.output("cat", "/proc/self/timens_offsets")).replace(/\s+/g, " ")).toBe(
      "monotonic 0 0 boottime 0 0 ",
    );
    container.config.linux.timeOffsets = { realtime: { secs: 1 } };
    const result = await container.run();
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("realtime")]);
  });
});

describe("joined by path", () => {
  test("the namespaces of another container", async () => {
    const target = sleeper((config) => {
      config.linux.namespaces.push({ type: "cgroup" });
      if (isBunc) config.linux.namespaces.push({ type: "time" });
    });
    await target.detach();
    const { pid } = await target.state();
    const types: Type[] = ["pid", "network", "ipc", "uts", "cgroup", ...(isBunc ? (["time"] as const) : [])];
    const joiner = sleeper((config) => {
      config.linux.namespaces = [
        { type: "mount" },
        ...types.map((type) => ({ type, path: `/proc/${pid}/ns/${files[type]}` })),
      ];
      delete config.hostname;
    });
    await joiner.detach();
    const state = await joiner.state();
    const [its, theirs] = [namespaces(state.pid), namespaces(pid)];
    for (const type of types) expect([type, its[type]]).toEqual([type, theirs[type]]);
    expect(its.mount).not.toBe(theirs.mount);
    // Both programs are in the one pid namespace: in it, the joiner's number is not 1.
    expect(readFileSync(`/proc/${state.pid}/status`, "utf8")).toMatch(/^NSpid:\t\d+\t([2-9]|\d\d+)$/m);
    // Killing the joiner leaves the other alone.
    (await joiner.call("kill", "KILL")).ok();
    await joiner.waitFor("stopped");
    (await joiner.call("delete")).ok();
    expect((await target.state()).status).toBe("running");
  });

  test("a network namespace that a command keeps open, and its mounts of /sys", async () => {
    const script =
      "ip link add bt0 type veth peer name bt1; ip addr add 10.9.8.7/24 dev bt0; echo ready; exec sleep 60";
    const holder = await rig.background(["unshare", "-n", "/bin/busybox", "sh", "-c", script]);
    const container = rig.container((config) => {
      config.linux.namespaces = config.linux.namespaces.map(({ type }) =>
        type === "network" ? { type, path: `/proc/${holder.pid}/ns/net` } : { type },
      );
    });
    const text = await container.shell("ls /sys/class/net; ip -o -4 addr show dev bt0");
    expect(text).toStartWith("bt0\nlo\n");
    expect(text).toContain("10.9.8.7/24");
  });

  test("the runtime's own namespace", async () => {
    const container = sleeper((config) => {
      config.linux.namespaces = config.linux.namespaces.map(({ type }) =>
        type === "ipc" ? { type, path: "/proc/self/ns/ipc" } : { type },
      );
    });
    await container.detach();
    expect(namespaces((await container.state()).pid).ipc).toBe(namespaces("self").ipc);
  });

  test("a path that is missing, no namespace, or of another type is an error", async () => {
    const bad: [type: Type, path: string][] = [
      ["network", "/no/such/namespace"],
      ["network", "/etc/passwd"],
      ["network", "/proc/self/ns/ipc"],
      ["pid", "/proc/self/ns/net"],
      ["ipc", "relative/path"],
    ];
    for (const [type, path] of bad) {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.linux.namespaces = config.linux.namespaces.map((entry) =>
          entry.type === type ? { type, path } : entry,
        );
      });
      const result = await container.run();
      expect([type, path, result.code]).toEqual([type, path, 1]);
      expect(rig.states()).toEqual([]);
      expect(container.cgroupDirectories()).toEqual([]);
      if (isBunc) {
        expect(result.stderr).toContain("linux.namespaces");
        expect(result.stderr).toContain(path);
      }
    }
  });

  test("a mount namespace: the program is in it, the host's mounts are as before", async () => {
    const holder = await rig.background([
      "unshare",
      "-m",
      "sh",
      "-c",
      "mount -t tmpfs marker /mnt; echo; exec sleep 60",
    ]);
    const container = sleeper((config) => {
      config.linux.namespaces = config.linux.namespaces.map(({ type }) =>
        type === "mount" ? { type, path: `/proc/${holder.pid}/ns/mnt` } : { type },
      );
    });
    await container.detach();
    const { pid } = await container.state();
    expect(namespaces(pid).mount).toBe(namespaces(holder.pid).mount);
    expect(readFileSync(`/proc/${pid}/root/etc/passwd`, "utf8")).toContain("guest");
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(" marker ");
  });
});
