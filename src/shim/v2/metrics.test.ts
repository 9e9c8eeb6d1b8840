// From the statistics of cgroups to containerd's messages, in the units and names of each version.
import { describe, expect, test } from "bun:test";
import type { CgroupStats } from "../../cgroup/stats-types.ts";
import { decode, encode } from "../proto/codec.ts";
import { readMetrics, writeMetrics } from "../proto/metrics-v1.gen.ts";
import { metricsV1, metricsV2 } from "./metrics.ts";

const NO_LIMIT = 2n ** 64n - 1n;

describe("v1", () => {
  const stats: CgroupStats = {
    version: 1,
    cpu: {
      usage: { total: 7_000_000_001, kernel: 2, user: 5, percpu: [3, 4] },
      throttling: { periods: 1, throttledPeriods: 2, throttledTime: 3 },
    },
    memory: {
      raw: {
        cache: 4096,
        pgfault: 9,
        total_inactive_file: 8192,
        hierarchical_memory_limit: 9223372036854771712n,
        odd: 1,
      },
      usage: { limit: NO_LIMIT, usage: 12288, max: 16384, failcnt: 1 },
      events: { oom_kill_disable: 0, under_oom: 1, oom_kill: 2 },
    },
    pids: { current: 3, limit: 0 },
    blkio: { ioServiceBytesRecursive: [{ major: 8, minor: 1, op: "Read", value: 512 }] },
    hugetlb: { "2MB": { usage: 1, max: 2, failcnt: 3 } },
  };
  test("has every field under its name", () => {
    const metrics = decode(
      readMetrics,
      encode(writeMetrics, metricsV1(stats, new Map([["8:1", "/dev/sda1"]]))),
    );
    expect(metrics.cpu).toEqual({
      usage: { total: 7_000_000_001, kernel: 2, user: 5, per_cpu: [3, 4] },
      throttling: { periods: 1, throttled_periods: 2, throttled_time: 3 },
    });
    expect(metrics.memory).toMatchObject({ cache: 4096, pg_fault: 9, total_inactive_file: 8192 });
    expect(metrics.memory!.usage).toEqual({ limit: 2 ** 64 - 2048, usage: 12288, max: 16384, failcnt: 1 });
    expect(metrics.memory_oom_control).toEqual({ oom_kill_disable: 0, under_oom: 1, oom_kill: 2 });
    expect(metrics.pids).toEqual({ current: 3, limit: 0 });
    expect(metrics.blkio!.io_service_bytes_recursive).toEqual([
      { op: "Read", device: "/dev/sda1", major: 8, minor: 1, value: 512 },
    ]);
    expect(metrics.hugetlb).toEqual([{ usage: 1, max: 2, failcnt: 3, pagesize: "2MB" }]);
  });
  test("of a container without cgroups is empty", () => {
    expect(encode(writeMetrics, metricsV1({ version: 1 }, new Map()))).toHaveLength(0);
  });
});

describe("v2", () => {
  test("is in microseconds, one entry for each device, swap apart from memory", () => {
    const metrics = metricsV2({
      version: 2,
      cpu: {
        usage: { total: 5_000_999, kernel: 1000, user: 2000 },
        throttling: {},
        psi: { some: { avg10: 1.5, avg60: 0, avg300: 0, total: 7 } },
      },
      memory: {
        raw: { anon: 1, slab_reclaimable: 2, slab_unreclaimable: 3, pgfault: 4 },
        usage: { usage: 10, limit: NO_LIMIT, max: 12 },
        swap: { usage: 99 },
        swapOnly: { usage: 5, limit: 6, max: 7 },
        events: { oom: 1, oom_kill: 2 },
      },
      blkio: {
        ioServiceBytesRecursive: [
          { major: 8, minor: 0, op: "Read", value: 1 },
          { major: 8, minor: 0, op: "Write", value: 2 },
          { major: 9, minor: 0, op: "Write", value: 3 },
        ],
        ioServicedRecursive: [{ major: 8, minor: 0, op: "Read", value: 4 }],
      },
    });
    expect(metrics.cpu).toMatchObject({ usage_usec: 5000, system_usec: 1, user_usec: 2 });
    expect(metrics.cpu!.psi!.some).toEqual({ avg10: 1.5, avg60: 0, avg300: 0, total: 7 });
    expect(metrics.memory).toMatchObject({
      anon: 1,
      slab: 5,
      pgfault: 4,
      usage: 10,
      usage_limit: 2 ** 64 - 2048,
      max_usage: 12,
      swap_usage: 5,
      swap_limit: 6,
      swap_max_usage: 7,
    });
    expect(metrics.memory_events).toMatchObject({ oom: 1, oom_kill: 2 });
    expect(metrics.io!.usage).toEqual([
      { major: 8, minor: 0, rbytes: 1, wbytes: 2, rios: 4, wios: 0 },
      { major: 9, minor: 0, rbytes: 0, wbytes: 3, rios: 0, wios: 0 },
    ]);
  });
});
