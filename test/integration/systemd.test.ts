// The systemd driver: containers as units of the system's manager. Runs where systemd does, as in `make vm-test`; elsewhere
// only that bunc says so.
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import type { Result } from "../rig/rig.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncDescribe, buncTest, host, systemdDriver } from "../rig/runtime.ts";

const rig = useRig();
const booted = existsSync("/run/systemd/system");
const global = systemdDriver ? [] : ["--systemd-cgroup"];

/** A container whose cgroup is system.slice/t-<id>.scope, unless `edit` says otherwise. */
function scope(edit: (config: Config) => void = () => {}): Container {
  return rig.container((config, { id }) => {
    config.linux.cgroupsPath = `:t:${id}`;
    config.process.args = ["sleep", "60"];
    edit(config);
  });
}

const unitOf = ({ id }: Container): string => `t-${id}.scope`;

/** Properties of a unit as `systemctl show` prints them. */
function properties(unit: string, ...names: string[]): Record<string, string> {
  const text = output(["systemctl", "show", unit, ...names.map((name) => `--property=${name}`)]);
  const lines = text.trim().split("\n");
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
}

/** The cgroup of a process in cgroup2. */
function groupOf(pid: number): string {
  return /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, "utf8"))?.[1] ?? "";
}

const isLoaded = (unit: string): boolean => properties(unit, "LoadState").LoadState === "loaded";

buncTest("without systemd it says so, and leaves nothing", async () => {
  if (booted) return;
  const result = await scope().run([], { global });
  expect(result.code).toBe(1);
  expect(result.stderr).toContain("systemd not running on this host, cannot use systemd cgroups manager");
  expect(result.stderr).toContain("leave --systemd-cgroup out");
});

buncTest("a path that is no slice:prefix:name is refused", async () => {
  const container = scope((config) => {
    config.linux.cgroupsPath = "/a/b";
  });
  const result = await container.run([], { global });
  expect(result.code).toBe(1);
  expect(result.stderr).toContain(
    booted ? 'expected cgroupsPath to be of format \\"slice:prefix:name\\" for systemd cgroups' : "format",
  );
});

buncDescribe.skipIf(!booted || host.cgroupV1)("with systemd", () => {
  const start = (container: Container): Promise<Result> => container.detach([], { global });

  test("a scope around init, which delete stops", async () => {
    const container = scope();
    await container.create([], { global });
    const unit = unitOf(container);
    const { pid } = await container.state();
    expect(groupOf(pid)).toBe(`/system.slice/${unit}`);
    expect(
      properties(unit, "Slice", "Delegate", "Description", "MemoryAccounting", "ActiveState", "Transient"),
    ).toEqual({
      Slice: "system.slice",
      Delegate: "yes",
      Description: `libcontainer container ${container.id}`,
      MemoryAccounting: "yes",
      ActiveState: "active",
      Transient: "yes",
    });
    const state = JSON.parse(readFileSync(join(rig.scratch.root, container.id, "state.json"), "utf8"));
    expect(state.cgroup_paths).toEqual({ "": `/sys/fs/cgroup/system.slice/${unit}` });
    expect(state.config.cgroups).toMatchObject({ Systemd: true, scope_prefix: "t", name: container.id });
    (await container.call("start")).ok();
    (await container.remove("--force")).ok();
    expect(isLoaded(unit)).toBe(false);
    expect(existsSync(`/sys/fs/cgroup/system.slice/${unit}`)).toBe(false);
  });

  test("in the foreground it is gone with the program", async () => {
    const container = scope((config) => {
      config.linux.namespaces.push({ type: "cgroup" });
      config.process.args = ["cat", "/proc/self/cgroup"];
    });
    const result = (await container.run([], { global })).ok();
    expect(result.stdout).toBe("0::/\n");
    expect(isLoaded(unitOf(container))).toBe(false);
  });

  test("the default name, and nested slices", async () => {
    const plain = scope((config) => {
      config.linux.cgroupsPath = "";
    });
    await start(plain);
    expect(groupOf((await plain.state()).pid)).toBe(`/system.slice/runc-${plain.id}.scope`);
    const nested = scope((config) => {
      config.linux.cgroupsPath = "buncx-buncy.slice:t:nested";
    });
    await start(nested);
    expect(groupOf((await nested.state()).pid)).toBe("/buncx.slice/buncx-buncy.slice/t-nested.scope");
    (await nested.remove("--force")).ok();
    output(["systemctl", "stop", "buncx.slice"]);
  });

  test("limits are the unit's and the cgroup's, also after systemd was reloaded", async () => {
    const container = scope((config) => {
      config.linux.resources = {
        devices: [
          { allow: false, access: "rwm" },
          { allow: true, type: "c", major: 10, minor: 229, access: "rw" },
        ],
        memory: { limit: 64 << 20, reservation: 32 << 20, swap: 96 << 20 },
        cpu: { shares: 512, quota: 12345, period: 50000, cpus: "0", mems: "0" },
        pids: { limit: 20 },
        unified: { "memory.high": String(48 << 20), "memory.oom.group": "1" },
      };
      config.process.args = [
        "sh",
        "-c",
        "while ! test -e /dev/shm/go; do sleep 0.1; done; for d in null full fuse loop; do head -c0 /dev/$d 2>&1 && echo $d; done; echo end",
      ];
      // Where the test writes, too.
      const shm = config.mounts.find(({ destination }) => destination === "/dev/shm")!;
      Object.assign(shm, { type: "bind", options: ["bind"], source: rig.directory() });
      config.linux.devices = [
        { path: "/dev/fuse", type: "c", major: 10, minor: 229 },
        { path: "/dev/loop", type: "c", major: 10, minor: 237 },
      ];
    });
    const started = await start(container);
    const unit = unitOf(container);
    const files = [
      "memory.max",
      "memory.low",
      "memory.high",
      "cpu.weight",
      "cpu.max",
      "cpuset.cpus",
      "pids.max",
      "memory.oom.group",
    ];
    const values = () => files.map((file) => container.cgroupFile("unified", file));
    const expected = ["67108864", "33554432", "50331648", "59", "12500 50000", "0", "20", "1"];
    expect(values()).toEqual(expected);
    expect(
      properties(
        unit,
        "MemoryMax",
        "MemoryLow",
        "MemoryHigh",
        "MemorySwapMax",
        "CPUWeight",
        "TasksMax",
        "AllowedCPUs",
        "CPUQuotaPerSecUSec",
        "DevicePolicy",
        "OOMPolicy",
      ),
    ).toEqual({
      MemoryMax: "67108864",
      MemoryLow: "33554432",
      MemoryHigh: "50331648",
      MemorySwapMax: "33554432",
      CPUWeight: "59",
      TasksMax: "20",
      AllowedCPUs: "0",
      CPUQuotaPerSecUSec: "250ms",
      DevicePolicy: "strict",
      OOMPolicy: "kill",
    });
    output(["systemctl", "daemon-reload"]);
    expect(values()).toEqual(expected);
    const shm = container.config.mounts.find(({ destination }) => destination === "/dev/shm")!;
    await Bun.write(join(shm.source!, "go"), "");
    expect(await started.until("end\n")).toBe(
      "null\nfull\nfuse\nhead: /dev/loop: Operation not permitted\nend\n",
    );
  });

  test("update sets the unit as well", async () => {
    const container = scope((config) => {
      config.linux.resources = { memory: { limit: 64 << 20 }, pids: { limit: 20 } };
    });
    await start(container);
    const flags = [
      "--memory",
      String(48 << 20),
      "--pids-limit",
      "30",
      "--cpu-quota",
      "12345",
      "--cpu-period",
      "50000",
    ];
    (await rig.call(["update", ...flags, container.id])).ok();
    expect(properties(unitOf(container), "MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")).toEqual({
      MemoryMax: String(48 << 20),
      TasksMax: "30",
      CPUQuotaPerSecUSec: "250ms",
    });
    const file = (name: string) => container.cgroupFile("unified", name);
    expect([file("memory.max"), file("pids.max"), file("cpu.max")]).toEqual([
      String(48 << 20),
      "30",
      "12500 50000",
    ]);
    output(["systemctl", "daemon-reload"]);
    expect([file("memory.max"), file("pids.max")]).toEqual([String(48 << 20), "30"]);
  });

  test("a refused update leaves the unit as it was", async () => {
    const container = scope();
    await start(container);
    const names = ["MemoryMax", "MemoryLow", "TasksMax", "CPUQuotaPerSecUSec"];
    const file = (name: string) => container.cgroupFile("unified", name);
    const files = () =>
      ["memory.max", "pids.max", "cpu.max", "cpu.weight", "cpuset.cpus.effective"].map(file);
    const [had, held] = [properties(unitOf(container), ...names), files()];
    const flags = [
      "--memory",
      "64m",
      "--memory-reservation",
      "8m",
      "--pids-limit",
      "9",
      "--cpuset-cpus",
      "0",
    ];
    // Of no interest to systemd, and refused by the kernel.
    const wrong = ["--cpu-share", "300", "--cpu-quota", "30000", "--cpu-burst", "999999999"];
    const result = await rig.call(["update", ...flags, ...wrong, container.id]);
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("burst")]);
    expect(result.stderr).not.toContain("Setting back");
    // systemd is told the number of tasks that it allows by itself, where it was told none.
    expect(properties(unitOf(container), ...names)).toEqual(had);
    output(["systemctl", "daemon-reload"]);
    expect(files()).toEqual(held);
  });

  test("idle or a weight: systemd has one of them", async () => {
    const container = scope();
    await start(container);
    const file = (name: string) => container.cgroupFile("unified", name);
    const both = (await rig.call(["update", "--cpu-share", "200", "--cpu-idle", "1", container.id])).ok();
    expect(both.stderr).toContain(
      "unable to apply both CPUWeight and CpuIdle to systemd, ignoring CPUWeight",
    );
    expect(file("cpu.idle")).toBe("1");
    (await rig.call(["update", "--cpu-share", "2048", container.id])).ok();
    expect([file("cpu.idle"), file("cpu.weight")]).toEqual(["0", "174"]);
    const given = container.path("resources.json");
    const unified = async (values: Record<string, string>) => {
      await Bun.write(given, JSON.stringify({ unified: values }));
      return (await rig.call(["update", "--resources", given, container.id])).ok().stderr;
    };
    expect(await unified({ "cpu.idle": "1", "cpu.weight": "8" })).toContain(
      "unable to apply both cpu.weight and cpu.idle to systemd, ignoring cpu.weight",
    );
    expect(file("cpu.idle")).toBe("1");
    expect(await unified({ "cpu.weight": "8" })).toBe("");
    expect([file("cpu.idle"), file("cpu.weight")]).toEqual(["0", "8"]);
  });

  test("limits hold: memory, and the name can be used again after it failed", async () => {
    for (let round = 0; round < 2; round++) {
      const container = scope((config) => {
        config.linux.cgroupsPath = `:t:${rig.scratch.tag}-oom`;
        config.linux.resources = { memory: { limit: 16 << 20, swap: 16 << 20 } };
        config.process.args = ["tail", "/dev/zero"];
      });
      expect((await container.run([], { global })).code).toBe(137);
    }
    expect(isLoaded(`t-${rig.scratch.tag}-oom.scope`)).toBe(false);
  });

  test("what systemd cannot say about devices holds, too", async () => {
    const container = scope((config) => {
      config.linux.resources = {
        devices: [
          { allow: true, access: "rwm" },
          { allow: false, type: "c", major: 1, minor: 11, access: "rwm" },
        ],
      };
      config.linux.devices = [
        { path: "/dev/kmsg", type: "c", major: 1, minor: 11 },
        { path: "/dev/fuse", type: "c", major: 10, minor: 229 },
      ];
      config.process.args = ["sh", "-c", "for d in kmsg fuse; do head -c0 /dev/$d && echo $d; done; exit 0"];
    });
    expect((await container.run([], { global })).ok().stdout).toBe("fuse\n");
  });

  test("annotations are properties; a wrong one is an error that leaves nothing", async () => {
    const annotated = (annotations: Record<string, string>): Container =>
      scope((config) => {
        config.annotations = annotations;
      });
    const container = annotated({
      "org.systemd.property.TimeoutStopSec": "uint32 7",
      "org.systemd.property.CollectMode": "'inactive-or-failed'",
    });
    await start(container);
    expect(properties(unitOf(container), "TimeoutStopUSec", "CollectMode")).toEqual({
      TimeoutStopUSec: "7s",
      CollectMode: "inactive-or-failed",
    });
    for (const [name, value, words] of [
      ["NoSuchThing", "true", "or unknown property"],
      ["CollectMode", "'never'", "unable to start unit"],
      ["CollectMode", "never", "value parse error"],
    ] as const) {
      const wrong = annotated({ [`org.systemd.property.${name}`]: value });
      const result = await wrong.run([], { global });
      expect([result.code, result.stderr]).toEqual([1, expect.stringContaining(words)]);
      expect(isLoaded(unitOf(wrong))).toBe(false);
    }
  });

  test("a cgroup of its own in the scope's", async () => {
    const container = scope((config) => {
      config.annotations = { "run.oci.systemd.subgroup": "inside" };
      config.linux.resources = { pids: { limit: 30 }, memory: { limit: 32 << 20 } };
    });
    await start(container);
    const { pid } = await container.state();
    const dir = `/system.slice/${unitOf(container)}/inside`;
    expect(groupOf(pid)).toBe(dir);
    expect(readFileSync(`/sys/fs/cgroup${dir}/pids.max`, "utf8")).toBe("30\n");
    (await container.remove("--force")).ok();
    expect(isLoaded(unitOf(container))).toBe(false);
  });

  test("a slice in the place of a scope", async () => {
    const unit = "buncz-one.slice";
    const container = scope((config) => {
      config.linux.cgroupsPath = `buncz.slice:ignored:${unit}`;
    });
    await start(container);
    expect(groupOf((await container.state()).pid)).toBe(`/buncz.slice/${unit}`);
    (await container.remove("--force")).ok();
    expect(existsSync(`/sys/fs/cgroup/buncz.slice/${unit}`)).toBe(false);
    output(["systemctl", "stop", "buncz.slice"]);
  });

  test("a unit of that name that runs is refused and left alone", async () => {
    const first = scope();
    await start(first);
    const second = scope((config) => {
      config.linux.cgroupsPath = first.config.linux.cgroupsPath;
    });
    const result = await second.run([], { global });
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("container's cgroup is not empty");
    expect((await first.state()).status).toBe("running");
  });

  test("a launch that fails late leaves no unit", async () => {
    const container = scope((config) => {
      config.process.args = ["/no/such/program"];
    });
    expect((await container.run([], { global })).code).toBe(1);
    expect(isLoaded(unitOf(container))).toBe(false);
  });

  test("processes that outlive init are ended by delete", async () => {
    const container = scope((config) => {
      config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "pid");
      config.process.args = ["sh", "-c", "trap '' TERM; sleep 61 & sleep 62"];
    });
    await start(container);
    const began = Date.now();
    (await container.remove("--force")).ok();
    // Not systemd's 90 seconds for a SIGTERM.
    expect(Date.now() - began).toBeLessThan(30_000);
    expect(isLoaded(unitOf(container))).toBe(false);
  });

  test("the cgroup belongs to the root of a user namespace", async () => {
    const container = scope((config) => {
      config.linux.namespaces.push({ type: "user" }, { type: "cgroup" });
      config.linux.uidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
      config.linux.gidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
      const mount = config.mounts.find(({ destination }) => destination === "/sys/fs/cgroup")!;
      mount.options = ["nosuid", "noexec", "nodev", "relatime", "rw"];
      config.process.args = ["sh", "-c", "mkdir /sys/fs/cgroup/own && echo made; exec sleep 60"];
    });
    const started = await start(container);
    await started.until("made\n");
    const dir = `/sys/fs/cgroup/system.slice/${unitOf(container)}/own`;
    expect(existsSync(dir)).toBe(true);
    (await container.remove("--force")).ok();
    expect(existsSync(dir)).toBe(false);
  });
});

describe.skipIf(booted)("which library", () => {
  test("libsystemd is not loaded without the flag", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    const trace = join(rig.directory(), "trace");
    const wrap = ["strace", "-f", "-o", trace, "-e", "trace=openat"];
    (await container.run([], { wrap })).ok();
    expect(readFileSync(trace, "utf8")).not.toContain("libsystemd");
  });
});
