// Cgroups: the path that is asked for, every hierarchy, the limits for memory, cpu and pids, and what they do.
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { useRig } from "../rig/rig.ts";
import { buncTest, cgroupPaths, host, isBunc } from "../rig/runtime.ts";

const rig = useRig();
const v1 = host.cgroupV1;

describe("cgroupsPath", () => {
  test("absolute: the process is there in every hierarchy, already when it is created", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sh", "-c", "sleep 60 & exec sleep 60"];
    });
    await container.create();
    const { pid } = await container.state();
    const its = cgroupPaths(readFileSync(`/proc/${pid}/cgroup`, "utf8"));
    for (const name of host.cgroups.keys()) {
      expect([name, its.get(name)]).toEqual([name, `/${container.id}`]);
      expect(container.cgroupFile(name, "cgroup.procs")).toBe(String(pid));
    }
    (await container.call("start")).ok();
    for (let i = 0; i < 100 && container.cgroupFile("pids", "cgroup.procs").split("\n").length < 2; i++)
      await Bun.sleep(10);
    for (const name of host.cgroups.keys())
      expect(container.cgroupFile(name, "cgroup.procs").split("\n").length).toBe(2);
  });

  test("nested: the parents are made, and they stay while others are in them", async () => {
    const [first, second] = [rig.container(), rig.container()];
    const parent = `/${first.id}-parent`;
    for (const [i, container] of [first, second].entries()) {
      container.config.linux.cgroupsPath = `${parent}/a/child${i}`;
      container.config.process.args = ["sleep", "60"];
      await container.detach();
    }
    (await first.remove("--force")).ok();
    expect(first.cgroupDirectories()).toEqual([]);
    expect(second.cgroupDirectories().length).toBeGreaterThan(0);
    expect((await second.state()).status).toBe("running");
    (await second.remove("--force")).ok();
    for (const mount of host.cgroups.values()) {
      expect(existsSync(join(mount, parent, "a", "child1"))).toBe(false);
      for (const dir of [join(mount, parent, "a"), join(mount, parent)]) if (existsSync(dir)) rmdirSync(dir);
    }
  });

  test("with .. does not lead out of the hierarchy; // is /", async () => {
    const container = rig.container();
    const [id, mounts] = [container.id, [...host.cgroups.values()]];
    rig.defer(() => {
      for (const dir of mounts.map((mount) => join(mount, id))) if (existsSync(dir)) rmdirSync(dir);
    });
    container.config.process.args = ["cat", "/proc/self/cgroup"];
    for (const path of [`/${id}//y/`, `/../../${id}//x/../y`]) {
      container.config.linux.cgroupsPath = path;
      const result = await container.run();
      if (isBunc && path.includes("..")) {
        expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("linux.cgroupsPath")]);
        continue;
      }
      const paths = [...cgroupPaths(result.ok().stdout).values()];
      expect(paths).toEqual(mounts.map(() => `/${id}/y`));
    }
  });

  test("relative: below the caller's own cgroup", async () => {
    const container = rig.container();
    // The caller is put into a cgroup of the rig's first, so that nothing appears in anybody else's.
    const own = `${container.id}-caller`;
    for (const mount of host.cgroups.values()) {
      mkdirSync(join(mount, own));
      rig.defer(() => rmdirSync(join(mount, own)));
    }
    const cpuset = host.cgroups.get("cpuset");
    if (v1 && cpuset !== undefined) {
      for (const file of ["cpuset.cpus", "cpuset.mems"]) {
        await Bun.write(join(cpuset, own, file), readFileSync(join(cpuset, file), "utf8"));
      }
    }
    const enter = [...host.cgroups.values()]
      .map((mount) => `echo $$ >${join(mount, own)}/cgroup.procs`)
      .join(";");
    container.config.linux.cgroupsPath = `${container.id}-relative`;
    container.config.process.args = ["cat", "/proc/self/cgroup"];
    const result = await container.run([], { wrap: ["sh", "-c", `${enter}; exec "$@"`, "sh"] });
    const paths = cgroupPaths(result.ok().stdout);
    expect([...paths.keys()].sort()).toEqual([...host.cgroups.keys()].sort());
    for (const [name, path] of paths) {
      expect(path).toEndWith(`/${container.id}-relative`);
      // In cgroup2 it is put beside the caller's: one that has processes cannot give controllers to its children.
      expect([name, dirname(path)]).toEqual([name, name === "unified" ? "/" : `/${own}`]);
    }
  });

  test("of a cgroup that was made before is used, and its limits stay unless the config has others", async () => {
    const container = rig.container((config) => {
      config.linux.resources!.pids = { limit: 20 };
    });
    const memory = v1 ? ["memory", "memory.limit_in_bytes"] : ["unified", "memory.max"];
    mkdirSync(container.cgroup(memory[0]!)!);
    await Bun.write(join(container.cgroup(memory[0]!)!, memory[1]!), String(64 << 20));
    container.config.process.args = ["sleep", "60"];
    await container.detach();
    expect(container.cgroupFile(memory[0]!, memory[1]!)).toBe(String(64 << 20));
    expect(container.cgroupFile(v1 ? "pids" : "unified", "pids.max")).toBe("20");
    (await container.remove("--force")).ok();
    expect(container.cgroupDirectories()).toEqual([]);
  });
});

describe.skipIf(!v1)("limits in cgroup v1", () => {
  test("are written", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
      Object.assign(config.linux.resources!, {
        memory: { limit: 100 << 20, reservation: 50 << 20, swappiness: 10 },
        cpu: { shares: 512, quota: 50000, period: 100000, cpus: "0", mems: "0" },
        pids: { limit: 33 },
      });
    });
    await container.create();
    const values = {
      "memory/memory.limit_in_bytes": String(100 << 20),
      "memory/memory.soft_limit_in_bytes": String(50 << 20),
      "memory/memory.swappiness": "10",
      "cpu/cpu.shares": "512",
      "cpu/cpu.cfs_quota_us": "50000",
      "cpu/cpu.cfs_period_us": "100000",
      "cpuset/cpuset.cpus": "0",
      "cpuset/cpuset.mems": "0",
      "pids/pids.max": "33",
    };
    for (const [path, value] of Object.entries(values)) {
      const [controller, file] = path.split("/");
      expect([path, container.cgroupFile(controller!, file!)]).toEqual([path, value]);
    }
    const { pid } = await container.state();
    expect(readFileSync(`/proc/${pid}/status`, "utf8")).toContain("Cpus_allowed_list:\t0\n");
  });

  test("-1 is unlimited; absent and null change nothing", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
      Object.assign(config.linux.resources!, {
        memory: { limit: -1, swap: null },
        cpu: { quota: -1, shares: null },
        pids: { limit: -1 },
        blockIO: null,
        hugepageLimits: null,
      });
    });
    await container.create();
    expect(BigInt(container.cgroupFile("memory", "memory.limit_in_bytes"))).toBeGreaterThan(1n << 60n);
    expect(container.cgroupFile("cpu", "cpu.cfs_quota_us")).toBe("-1");
    expect(container.cgroupFile("cpu", "cpu.shares")).toBe("1024");
    expect(container.cgroupFile("pids", "pids.max")).toBe("max");
  });

  test("parents without cpus and memory nodes get them from above", async () => {
    const root = host.cgroups.get("cpuset")!;
    const top = `bunc-unset-${process.pid}`;
    mkdirSync(join(root, top, "middle"), { recursive: true });
    try {
      const container = rig.container((config) => {
        config.linux.cgroupsPath = `/${top}/middle/inner`;
        config.process.args = ["true"];
      });
      (await container.run()).ok();
      for (const file of ["cpuset.cpus", "cpuset.mems"]) {
        expect(readFileSync(join(root, top, "middle", file), "utf8")).toBe(
          readFileSync(join(root, file), "utf8"),
        );
      }
    } finally {
      for (const mount of host.cgroups.values()) {
        for (const dir of [join(mount, top, "middle"), join(mount, top)]) if (existsSync(dir)) rmdirSync(dir);
      }
    }
  });

  test("a new cpuset has its parent's cpus and memory nodes", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    await container.create();
    const root = host.cgroups.get("cpuset")!;
    for (const file of ["cpuset.cpus", "cpuset.mems"]) {
      expect(container.cgroupFile("cpuset", file)).toBe(readFileSync(join(root, file), "utf8").trim());
    }
  });
});

describe("limits that work", () => {
  test("pids: the shell cannot fork beyond them", async () => {
    const container = rig.container((config) => {
      config.linux.resources!.pids = { limit: 4 };
      config.process.args = ["sh", "-c", "for i in 1 2 3 4 5 6; do sleep 1 & done 2>&1; wait"];
    });
    const result = await container.run();
    expect(result.stdout + result.stderr).toMatch(/can't fork|Resource temporarily unavailable/);
  });

  test("memory: what asks for more is killed, and run returns 137", async () => {
    const container = rig.container((config) => {
      config.linux.resources!.memory = { limit: 32 << 20, swap: 32 << 20 };
      config.process.args = ["test-helper", "eat", String(16 << 20)];
    });
    const enough = await container.run();
    // Without swap accounting in the kernel runc refuses the swap limit.
    if (enough.code !== 0 && /memsw|swap/.test(enough.stderr))
      container.config.linux.resources!.memory = { limit: 32 << 20 };
    expect((await container.run()).ok().stdout).toBe("ate\n");
    container.config.process.args = ["test-helper", "eat", String(256 << 20)];
    const result = await container.run();
    expect([result.code, result.stdout]).toEqual([137, ""]);
  });

  buncTest("a container starts under a memory limit of 512 kB", async () => {
    const container = rig.container((config) => {
      config.linux.resources!.memory = { limit: 512 << 10 };
      config.process.args = ["test-helper", "sys", "getpid"];
    });
    expect((await container.run()).ok().stdout).toContain('"result":1');
  });
});

describe("errors", () => {
  test("a limit the kernel refuses, and a controller that is not there, are named; nothing is left", async () => {
    const cases: [resources: Record<string, unknown>, words: RegExp][] = [
      [{ cpu: { cpus: "4000-4001" } }, /cpuset\.cpus/],
      [{ cpu: { shares: 2, quota: 5, period: 100 } }, /cpu\.(cfs_(quota|period)_us|max)/],
    ];
    for (const [resources, words] of cases) {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        Object.assign(config.linux.resources!, resources);
      });
      const result = await container.run();
      expect([resources, result.code, result.stderr]).toEqual([resources, 1, expect.stringMatching(words)]);
      if (isBunc) expect(result.stderr).toContain("linux.resources.cpu");
      expect(container.cgroupDirectories()).toEqual([]);
      expect(rig.states()).toEqual([]);
    }
  });

  test("a frozen cgroup is refused", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    const [controller, file, frozen] = v1
      ? ["freezer", "freezer.state", "FROZEN"]
      : ["unified", "cgroup.freeze", "1"];
    mkdirSync(container.cgroup(controller!)!);
    await Bun.write(join(container.cgroup(controller!)!, file!), frozen!);
    const result = await container.run([], { timeout: 10 });
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/frozen/);
    for (const dir of container.cgroupDirectories()) rmdirSync(dir);
  });
});

describe("block devices", () => {
  const dir = host.cgroups.get(v1 ? "blkio" : "unified");
  const disk = existsSync("/sys/block/vda/dev")
    ? readFileSync("/sys/block/vda/dev", "utf8").trim()
    : undefined;

  test.skipIf(!v1 || dir === undefined || disk === undefined)(
    "throttles are set",
    async () => {
      const [major, minor] = disk!.split(":").map(Number) as [number, number];
      const container = rig.container((config) => {
        const device = { major, minor };
        config.linux.resources = {
          ...config.linux.resources,

          blockIO: {
            weight: 0,
            throttleReadBpsDevice: [{ ...device, rate: 1 << 20 }],
            throttleWriteBpsDevice: [{ ...device, rate: 2 << 20 }],
            throttleReadIOPSDevice: [{ ...device, rate: 1000 }],
            throttleWriteIOPSDevice: [{ ...device, rate: 2000 }],
          },
        };
        config.process.args = ["sleep", "60"];
      });
      await container.detach();
      const limit = (name: string) => container.cgroupFile("blkio", `blkio.throttle.${name}_device`);
      expect(["read_bps", "write_bps", "read_iops", "write_iops"].map(limit)).toEqual([
        `${disk} ${1 << 20}`,
        `${disk} ${2 << 20}`,
        `${disk} 1000`,
        `${disk} 2000`,
      ]);
    },
    20_000,
  );

  test.skipIf(!v1 || dir === undefined)("one that does not exist is named", async () => {
    const container = rig.container((config) => {
      const throttleReadBpsDevice = [{ major: 4000, minor: 1, rate: 1024 }];
      config.linux.resources = { ...config.linux.resources, blockIO: { throttleReadBpsDevice } };
    });
    const result = await container.run();
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("linux.resources.blockIO.throttleReadBpsDevice[0]");
    expect(container.cgroupDirectories()).toEqual([]);
  });
});
