/** Statistics of a container as containerd passes them on: io.containerd.cgroups.v1 or v2 Metrics. */

import type { CgroupPaths } from "../../cgroup/names.ts";
import { readStats } from "../../cgroup/stats.ts";
import type { BlkioEntry, CgroupStats, MemoryEntry, Pressure } from "../../cgroup/stats-types.ts";
import { readText } from "../../linux/file.ts";
import type { Integer } from "../../oci/config.ts";
import { encode } from "../proto/codec.ts";
import * as v1 from "../proto/metrics-v1.gen.ts";
import * as v2 from "../proto/metrics-v2.gen.ts";
import type { Any } from "../proto/task.gen.ts";

/** The greatest double below 2^64: 64-bit fields are written from doubles, and no limit is 2^64 - 1. */
const MAX = 2 ** 64 - 2048;

/** @returns Stats' answer for the cgroups of a container, read now */
export function metricsOf(paths: CgroupPaths): Any {
  const stats = readStats(paths);
  const blockDevices = names();
  if (stats.version === 1) {
    return {
      type_url: "io.containerd.cgroups.v1.Metrics",
      value: encode(v1.writeMetrics, metricsV1(stats, blockDevices)),
    };
  }
  return { type_url: "io.containerd.cgroups.v2.Metrics", value: encode(v2.writeMetrics, metricsV2(stats)) };
}

/** A count as a field has it; one that is not known is 0. */
function count(value: Integer | undefined): number {
  const number = Number(value ?? 0);
  return number > MAX ? MAX : number;
}

/** Those values of memory.stat that a message has, under its names. */
function keyed(raw: Readonly<Record<string, Integer>>, rename: Readonly<Record<string, string>>) {
  const fields: Record<string, number> = {};
  for (const name in raw) fields[rename[name] ?? name] = count(raw[name]);
  return fields;
}

/** The kernel's names of v1 that differ from containerd's. */
const RENAMED: Readonly<Record<string, string>> = {
  pgpgin: "pg_pg_in",
  pgpgout: "pg_pg_out",
  pgfault: "pg_fault",
  pgmajfault: "pg_maj_fault",
  total_pgpgin: "total_pg_pg_in",
  total_pgpgout: "total_pg_pg_out",
  total_pgfault: "total_pg_fault",
  total_pgmajfault: "total_pg_maj_fault",
  hierarchical_memsw_limit: "hierarchical_swap_limit",
};

/** Pure: `device` gives the name of a block device. */
export function metricsV1(stats: CgroupStats, devices: ReadonlyMap<string, string>): Partial<v1.Metrics> {
  const { cpu, memory, pids, blkio, hugetlb, rdma } = stats;
  const metrics: Partial<v1.Metrics> = {
    hugetlb: Object.entries(hugetlb ?? {}).map(([pagesize, { usage, max, failcnt }]) => ({
      usage: count(usage),
      max: count(max),
      failcnt: count(failcnt),
      pagesize,
    })),
  };
  if (pids) metrics.pids = { current: count(pids.current), limit: count(pids.limit) };
  if (cpu) {
    const { usage, throttling } = cpu;
    metrics.cpu = {
      usage: {
        total: count(usage.total),
        kernel: count(usage.kernel),
        user: count(usage.user),
        per_cpu: (usage.percpu ?? []).map(count),
      },
      throttling: {
        periods: count(throttling.periods),
        throttled_periods: count(throttling.throttledPeriods),
        throttled_time: count(throttling.throttledTime),
      },
    };
  }
  if (memory) {
    metrics.memory = {
      ...(keyed(memory.raw, RENAMED) as unknown as v1.MemoryStat),
      usage: entry(memory.usage),
      swap: entry(memory.swap),
      kernel: entry(memory.kernel),
      kernel_tcp: entry(memory.kernelTCP),
    };
    const { events } = memory;
    if (events) {
      metrics.memory_oom_control = {
        oom_kill_disable: count(events.oom_kill_disable),
        under_oom: count(events.under_oom),
        oom_kill: count(events.oom_kill),
      };
    }
  }
  if (blkio) {
    const table = (entries: BlkioEntry[] | undefined) =>
      (entries ?? []).map(({ major, minor, op, value }) => ({
        op,
        device: devices.get(`${major}:${minor}`) ?? "",
        major: count(major),
        minor: count(minor),
        value: count(value),
      }));
    metrics.blkio = {
      io_service_bytes_recursive: table(blkio.ioServiceBytesRecursive),
      io_serviced_recursive: table(blkio.ioServicedRecursive),
      io_queued_recursive: table(blkio.ioQueueRecursive),
      io_service_time_recursive: table(blkio.ioServiceTimeRecursive),
      io_wait_time_recursive: table(blkio.ioWaitTimeRecursive),
      io_merged_recursive: table(blkio.ioMergedRecursive),
      io_time_recursive: table(blkio.ioTimeRecursive),
      sectors_recursive: table(blkio.sectorsRecursive),
    };
  }
  if (rdma) metrics.rdma = rdmaOf(rdma);
  return metrics;
}

function entry(memory: MemoryEntry | undefined): v1.MemoryEntry | undefined {
  if (!memory) return undefined;
  const { limit, usage, max, failcnt } = memory;
  return { limit: count(limit), usage: count(usage), max: count(max), failcnt: count(failcnt) };
}

function rdmaOf({ current, limit }: NonNullable<CgroupStats["rdma"]>): v1.RdmaStat {
  const entries = (list: typeof current) =>
    list.map(({ device, hcaHandles, hcaObjects }) => ({
      device,
      hca_handles: hcaHandles,
      hca_objects: hcaObjects,
    }));
  return { current: entries(current), limit: entries(limit) };
}

/** Microseconds of nanoseconds. */
function micro(value: Integer | undefined): number {
  return Math.floor(count(value) / 1000);
}

/** Pure. */
export function metricsV2(stats: CgroupStats): Partial<v2.Metrics> {
  const { cpu, memory, pids, blkio, hugetlb, rdma } = stats;
  const metrics: Partial<v2.Metrics> = {
    hugetlb: Object.entries(hugetlb ?? {}).map(([pagesize, { usage, max, failcnt }]) => ({
      current: count(usage),
      max: count(max),
      pagesize,
      failcnt: count(failcnt),
    })),
  };
  if (pids) metrics.pids = { current: count(pids.current), limit: count(pids.limit) };
  if (cpu) {
    const { usage, throttling, psi } = cpu;
    metrics.cpu = {
      usage_usec: micro(usage.total),
      user_usec: micro(usage.user),
      system_usec: micro(usage.kernel),
      nr_periods: count(throttling.periods),
      nr_throttled: count(throttling.throttledPeriods),
      throttled_usec: micro(throttling.throttledTime),
      psi: pressure(psi),
    };
  }
  if (memory) {
    const { raw, usage, swapOnly, events, psi } = memory;
    metrics.memory = {
      ...(keyed(raw, {}) as unknown as v2.MemoryStat),
      slab: count(raw.slab_reclaimable) + count(raw.slab_unreclaimable),
      usage: count(usage?.usage),
      usage_limit: count(usage?.limit),
      max_usage: count(usage?.max),
      swap_usage: count(swapOnly?.usage),
      swap_limit: count(swapOnly?.limit),
      swap_max_usage: count(swapOnly?.max),
      psi: pressure(psi),
    };
    if (events) metrics.memory_events = keyed(events, {}) as unknown as v2.MemoryEvents;
  }
  if (blkio) metrics.io = { usage: ioEntries(blkio), psi: pressure(blkio.psi) };
  if (rdma) metrics.rdma = rdmaOf(rdma);
  return metrics;
}

function pressure(psi: Pressure | undefined): v2.PSIStats | undefined {
  if (!psi) return undefined;
  const line = (from: Pressure["some"]) => from && { ...from, total: count(from.total) };
  return { some: line(psi.some), full: line(psi.full) };
}

/** One line for each device again. */
function ioEntries(blkio: NonNullable<CgroupStats["blkio"]>): v2.IOEntry[] {
  const byDevice = new Map<string, v2.IOEntry>();
  const add = (entries: BlkioEntry[] | undefined, read: "rbytes" | "rios", write: "wbytes" | "wios") => {
    for (const { major, minor, op, value } of entries ?? []) {
      const key = `${major}:${minor}`;
      const device = byDevice.get(key) ?? {
        major: count(major),
        minor: count(minor),
        rbytes: 0,
        wbytes: 0,
        rios: 0,
        wios: 0,
      };
      byDevice.set(key, device);
      device[op === "Read" ? read : write] = count(value);
    }
  };
  add(blkio.ioServiceBytesRecursive, "rbytes", "wbytes");
  add(blkio.ioServicedRecursive, "rios", "wios");
  return [...byDevice.values()];
}

/** Names of block devices by number, as /proc/diskstats has them. */
function names(): Map<string, string> {
  const found = new Map<string, string>();
  const text = readText("/proc/diskstats");
  if (typeof text !== "string") return found;
  for (const line of text.split("\n")) {
    const [major, minor, name] = line.trim().split(/\s+/);
    if (name) found.set(`${major}:${minor}`, `/dev/${name}`);
  }
  return found;
}
