import { describe, expect, test } from "bun:test";
import type { BuncError } from "../errors.ts";
import type { LinuxResources } from "../oci/config.ts";
import { failure as refused } from "../testing.ts";
import { groupOf, type Host, HYBRID, SEPARATE, V2, v1Line, writes } from "./testing.ts";

/** What is written before there is a process, and what before the first hook; devices are tested elsewhere. */
function limits(host: Host, resources: LinuxResources) {
  const group = groupOf(host, { resources });
  const early = writes(group.compileCreate()).filter((text) => !/^cgroup\.|^cpuset\.\w+ < </.test(text));
  const late = writes(group.compileLimits()).filter((text) => !text.startsWith("devices."));
  return { early, late };
}

const failure = (host: Host, resources: LinuxResources): BuncError => refused(() => limits(host, resources));

const BIG = 2n ** 62n;

describe("cgroup v1", () => {
  const v1 = (resources: LinuxResources) => limits(SEPARATE, resources);

  test("nothing", () => {
    expect(v1({})).toEqual({ early: [], late: [] });
    expect(v1({ memory: {}, cpu: {}, pids: {}, hugepageLimits: [], unified: {} })).toEqual({
      early: [],
      late: [],
    });
    expect(v1({ memory: { limit: 0, swap: 0, reservation: 0, disableOOMKiller: false } })).toEqual({
      early: [],
      late: [],
    });
  });

  test("memory: set before anything is charged", () => {
    expect(v1({ memory: { limit: 524288, reservation: 4096, swappiness: 0 } }).early).toEqual([
      "memory.limit_in_bytes < 524288",
      "memory.soft_limit_in_bytes < 4096",
      "memory.swappiness < 0",
    ]);
    expect(v1({ memory: { limit: BIG } }).early).toEqual([`memory.limit_in_bytes < ${BIG}`]);
    expect(v1({ memory: { limit: -1 } }).early).toEqual([
      "memory.memsw.limit_in_bytes < -1 ?ENOENT",
      "memory.limit_in_bytes < -1",
    ]);
    expect(v1({ memory: { swap: 1048576 } }).early).toEqual(["memory.memsw.limit_in_bytes < 1048576"]);
  });

  test("memory and swap: in either order, whichever the old limits allow", () => {
    expect(v1({ memory: { limit: 100, swap: 200 } }).early).toEqual([
      "memory.limit_in_bytes < 100 ?EINVAL ok+2",
      "memory.memsw.limit_in_bytes < 200",
      "memory.limit_in_bytes < 100 ok+1",
      "memory.memsw.limit_in_bytes < 200",
    ]);
  });

  test("swappiness: the range, and Docker's old word for none", () => {
    expect(v1({ memory: { swappiness: 18446744073709551615n } }).early).toEqual([]);
    expect(failure(SEPARATE, { memory: { swappiness: 101 } }).message).toBe(
      "invalid memory swappiness value: 101 (valid range is 0-100)",
    );
  });

  test("the OOM killer is disabled late: while a container is made, one too many page must not hang it", () => {
    expect(v1({ memory: { disableOOMKiller: true } })).toEqual({
      early: [],
      late: ["memory.oom_control < 1"],
    });
  });

  test("realtime: before a process joins, in either order", () => {
    expect(v1({ cpu: { realtimeRuntime: 950000 } }).early).toEqual(["cpu.rt_runtime_us < 950000"]);
    expect(v1({ cpu: { realtimePeriod: 1000000 } }).early).toEqual(["cpu.rt_period_us < 1000000"]);
    expect(v1({ cpu: { realtimeRuntime: 95, realtimePeriod: 100 } }).early).toEqual([
      "cpu.rt_period_us < 100 ?EINVAL ok+2",
      "cpu.rt_runtime_us < 95",
      "cpu.rt_period_us < 100 ok+1",
      "cpu.rt_runtime_us < 95",
    ]);
  });

  test("cpu: late, and again what did not fit the old quota", () => {
    expect(v1({ cpu: { shares: 1024, quota: -1 } }).late).toEqual([
      "cpu.shares < 1024",
      "cpu.cfs_quota_us < -1",
    ]);
    expect(v1({ cpu: { period: 50000 } }).late).toEqual(["cpu.cfs_period_us < 50000"]);
    expect(v1({ cpu: { period: 50000, quota: 20000, burst: 0 } }).late).toEqual([
      "cpu.cfs_period_us < 50000 = result of cpu.cfs_period_us ?EINVAL",
      "cpu.cfs_burst_us < 0 = result of cpu.cfs_burst_us ?ENOENT ?EINVAL",
      "cpu.cfs_quota_us < 20000",
      "cpu.cfs_period_us < 50000",
      "cpu.cfs_burst_us < 0 ?ENOENT",
    ]);
    expect(v1({ cpu: { burst: 5 } }).late).toEqual([
      "cpu.cfs_burst_us < 5 = result of cpu.cfs_burst_us ?ENOENT",
    ]);
  });

  test("cpu.idle: last when it is set, first when it is cleared, as the shares of an idle group are fixed", () => {
    expect(v1({ cpu: { shares: 10, idle: 1 } }).late).toEqual(["cpu.shares < 10", "cpu.idle < 1"]);
    expect(v1({ cpu: { shares: 10, idle: 0 } }).late).toEqual(["cpu.idle < 0", "cpu.shares < 10"]);
  });

  test("blockIO: weights by whichever file the kernel has, throttles per device", () => {
    const host = {
      ...SEPARATE,
      mountinfo: `${SEPARATE.mountinfo}${v1Line(38, "blkio", "blkio")}`,
      self: `7:blkio:/\n${SEPARATE.self}`,
    };
    expect(
      limits(host, {
        blockIO: {
          weight: 333,
          leafWeight: 20,
          weightDevice: [
            { major: 7, minor: 1, weight: 444, leafWeight: 10 },
            { major: 7, minor: 2, leafWeight: 0 },
          ],
          throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1048576 }],
          throttleWriteBpsDevice: [{ major: 8, minor: 0, rate: 2n ** 63n }],
          throttleReadIOPSDevice: [{ major: 8, minor: 0, rate: 0 }],
          throttleWriteIOPSDevice: [
            { major: 8, minor: 0, rate: 3 },
            { major: 8, minor: 16, rate: 4 },
          ],
        },
      }).late,
    ).toEqual([
      "blkio.weight < 333 ?ENOENT ok+1",
      "blkio.bfq.weight < 333",
      "blkio.leaf_weight < 20",
      "blkio.weight_device < 7:1 444 ?ENOENT ok+1",
      "blkio.bfq.weight_device < 7:1 444",
      "blkio.leaf_weight_device < 7:1 10",
      "blkio.throttle.read_bps_device < 8:0 1048576",
      `blkio.throttle.write_bps_device < 8:0 ${2n ** 63n}`,
      "blkio.throttle.read_iops_device < 8:0 0",
      "blkio.throttle.write_iops_device < 8:0 3",
      "blkio.throttle.write_iops_device < 8:16 4",
    ]);
    const place = "linux.resources.blockIO.throttleReadBpsDevice[0]";
    const error = failure(HYBRID, {
      blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1 }] },
    });
    expect([error.fields.path, error.message]).toEqual([
      place,
      "cannot set blkio limit: container could not join or create cgroup",
    ]);
  });

  test("shares that the kernel would cut", () => {
    expect(failure(SEPARATE, { cpu: { shares: 1 } }).message).toBe("the minimum allowed cpu-shares is 2");
    expect(failure(SEPARATE, { cpu: { shares: 262145 } }).message).toBe(
      "the maximum allowed cpu-shares is 262144",
    );
    expect(v1({ cpu: { shares: 0 } }).late).toEqual([]);
  });

  test("pids", () => {
    expect(v1({ pids: { limit: 10 } }).late).toEqual(["pids.max < 10"]);
    expect(v1({ pids: { limit: 0 } }).late).toEqual(["pids.max < 1"]);
    expect(v1({ pids: { limit: -1 } }).late).toEqual(["pids.max < max"]);
    expect(v1({ pids: { limit: BIG } }).late).toEqual([`pids.max < ${BIG}`]);
  });

  test("a controller that is not mounted: its name, the field, what to do", () => {
    const error = failure(HYBRID, { pids: { limit: 10 } });
    expect(error.message).toBe("cannot set pids limit: container could not join or create cgroup");
    expect(error.fields).toMatchObject({ code: "host", path: "linux.resources.pids.limit" });
    expect(error.fields.hint).toContain("the pids controller is not mounted");
    for (const [resources, path] of [
      [{ cpu: { cpus: "0" } }, "linux.resources.cpu.cpus"],
      [{ cpu: { mems: "0" } }, "linux.resources.cpu.mems"],
      [{ hugepageLimits: [{ pageSize: "2MB", limit: 0 }] }, "linux.resources.hugepageLimits[0]"],
    ] as const) {
      expect(failure(HYBRID, resources as LinuxResources).fields.path).toBe(path);
    }
  });

  test("unified is for v2", () => {
    expect(failure(HYBRID, { unified: { "memory.max": "1" } }).message).toBe(
      "invalid configuration: cannot use unified on cgroup v1",
    );
  });
});

describe("cgroup v2", () => {
  const v2 = (resources: LinuxResources) => limits(V2, resources);

  test("memory and cpuset early, the rest late", () => {
    expect(
      v2({
        memory: { limit: 100, swap: 300, reservation: 50 },
        cpu: { cpus: "0-1", mems: "0", shares: 1024, quota: 20000, period: 50000 },
        pids: { limit: 7 },
        hugepageLimits: [{ pageSize: "2MB", limit: 4194304 }],
      }),
    ).toEqual({
      early: [
        "memory.swap.max < 200",
        "memory.max < 100",
        "memory.low < 50",
        "cpuset.cpus < 0-1",
        "cpuset.mems < 0",
      ],
      late: [
        "pids.max < 7",
        "cpu.weight < 100",
        "cpu.max < 20000 50000",
        "hugetlb.2MB.max < 4194304",
        "hugetlb.2MB.rsvd.max < 4194304 ?ENOENT",
      ],
    });
  });

  test("memory without limit; swap where the kernel has none", () => {
    expect(v2({ memory: { limit: -1 } }).early).toEqual([
      "memory.swap.max < max ?ENOENT",
      "memory.max < max",
    ]);
    expect(v2({ memory: { limit: 100, swap: 100 } }).early).toEqual([
      "memory.swap.max < 0 ?ENOENT",
      "memory.max < 100",
    ]);
    expect(v2({ memory: { limit: 100, swap: -1 } }).early).toEqual([
      "memory.swap.max < max ?ENOENT",
      "memory.max < 100",
    ]);
    expect(failure(V2, { memory: { swap: 100 } }).fields.path).toBe("linux.resources.memory.swap");
  });

  test("cpu", () => {
    expect(v2({ cpu: { quota: -1 } }).late).toEqual(["cpu.max < max 100000"]);
    expect(v2({ cpu: { quota: 5000 } }).late).toEqual(["cpu.max < 5000 100000"]);
    expect(v2({ cpu: { period: 5000 } }).late).toEqual(["cpu.max < max 5000"]);
    expect(v2({ cpu: { shares: 2, idle: 1 } }).late).toEqual(["cpu.weight < 1", "cpu.idle < 1"]);
    expect(v2({ cpu: { shares: 2, idle: 0 } }).late).toEqual(["cpu.idle < 0", "cpu.weight < 1"]);
    expect(v2({ cpu: { burst: 10 } }).late).toEqual(["cpu.max.burst < 10"]);
    expect(v2({ cpu: { burst: 10, quota: 20 } }).late).toEqual([
      "cpu.max.burst < 10 = result of cpu.max.burst ?EINVAL",
      "cpu.max < 20 100000",
      "cpu.max.burst < 10",
    ]);
  });

  test("blockIO: bfq takes a weight as it is, io.weight a converted one; a lifted throttle is max", () => {
    expect(
      v2({
        blockIO: {
          weight: 10,
          leafWeight: 20,
          weightDevice: [
            { major: 7, minor: 1, weight: 1000 },
            { major: 7, minor: 2, weight: 0, leafWeight: 10 },
          ],
          throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1 }],
          throttleWriteBpsDevice: [{ major: 8, minor: 0, rate: 2 }],
          throttleReadIOPSDevice: [{ major: 8, minor: 0, rate: 3 }],
          throttleWriteIOPSDevice: [{ major: 8, minor: 0, rate: 0 }],
        },
      }).late,
    ).toEqual([
      "io.bfq.weight < 10 ?ENOENT ok+1",
      "io.weight < 1",
      "io.bfq.weight < 7:1 1000 ?ENOENT ok+1",
      "io.weight < 7:1 10000",
      "io.max < 8:0 rbps=1",
      "io.max < 8:0 wbps=2",
      "io.max < 8:0 riops=3",
      "io.max < 8:0 wiops=max",
    ]);
    const error = failure({ ...V2, controllers: "cpu pids\n" }, { blockIO: { weight: 100 } });
    expect(error.message).toBe("cannot set io limit: container could not join or create cgroup");
    expect(error.fields.path).toBe("linux.resources.blockIO.weight");
  });

  test("unified: each line by itself; memory and cpuset early, and after the other fields", () => {
    expect(
      v2({
        memory: { limit: 100 },
        unified: {
          "memory.max": "50",
          "io.max": "8:0 rbps=1\n8:16 rbps=2",
          "cgroup.freeze": "0",
          "pids.max": "",
        },
      }),
    ).toEqual({
      early: ["memory.max < 100", "memory.max < 50"],
      late: ["io.max < 8:0 rbps=1\n", "io.max < 8:16 rbps=2", "cgroup.freeze < 0", "pids.max < "],
    });
  });

  test("unified: names that are none", () => {
    for (const [name, words] of [
      ["../x.max", "must be a file name (no slashes)"],
      ["memory.a/b", "must be a file name (no slashes)"],
      ["memory", "must be in the form CONTROLLER.PARAMETER"],
      [".max", "must be in the form CONTROLLER.PARAMETER"],
      ["rdma.max", `can't be set: controller "rdma" not available`],
    ] as const) {
      const error = failure(V2, { unified: { [name]: "1" } });
      expect(error.message).toContain(words);
      expect(error.fields.path).toBe(`linux.resources.unified.${name}`);
    }
  });

  test("a controller that the host does not offer", () => {
    const error = failure({ ...V2, controllers: "cpu pids\n" }, { memory: { limit: 1 } });
    expect(error.message).toBe("cannot set memory limit: container could not join or create cgroup");
    expect(error.fields).toMatchObject({ path: "linux.resources.memory.limit" });
    expect(error.fields.hint).toContain("it has: cpu pids");
    expect(failure({ ...V2, controllers: "" }, { pids: { limit: 1 } }).fields.hint).toContain("it has: none");
  });

  test("what v2 cannot do is told, not hidden", () => {
    const group = groupOf(V2, {
      resources: {
        memory: { swappiness: 60, disableOOMKiller: true, kernel: 5, useHierarchy: false },
        cpu: { realtimePeriod: 1, realtimeRuntime: 1 },
        blockIO: { leafWeight: 10 },
      },
    });
    expect(group.warnings.map((text) => text.split(" ")[0])).toEqual([
      "Kernel",
      "linux.resources.memory.useHierarchy:",
      "linux.resources.memory.swappiness",
      "linux.resources.memory.disableOOMKiller",
      "linux.resources.cpu.realtimeRuntime",
      "linux.resources.cpu.realtimePeriod",
      "linux.resources.blockIO.leafWeight",
    ]);
    expect(
      groupOf(SEPARATE, { resources: { memory: { swappiness: 60, useHierarchy: true } } }).warnings,
    ).toEqual([]);
  });
});

describe("both", () => {
  test("blockIO, network and rdma that say nothing write nothing", () => {
    const empty = {
      blockIO: { weight: 0, weightDevice: [] },
      network: { classID: 0, priorities: [] },
      rdma: {},
    };
    expect(limits(V2, empty)).toEqual({ early: [], late: [] });
    expect(limits(SEPARATE, empty)).toEqual({ early: [], late: [] });
  });

  test("a page size is a size and no path", () => {
    for (const pageSize of ["2M", "MB", "../2MB", "2MB/..", "2mb", "", "0x2MB", "-2MB", "1TB"]) {
      for (const host of [SEPARATE, V2]) {
        const error = failure(host, {
          hugepageLimits: [
            { pageSize: "1GB", limit: 0 },
            { pageSize, limit: 0 },
          ].slice(1),
        });
        expect(error.fields.path).toBe("linux.resources.hugepageLimits[0].pageSize");
      }
    }
  });
});
