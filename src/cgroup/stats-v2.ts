/** The statistics of cgroup2 (Documentation/admin-guide/cgroup-v2 of the kernel), under v1's names. */
import type { Integer } from "../oci/config.ts";
import { hugePageSizes, readRdma } from "./stats-common.ts";
import {
  deviceNumbers,
  forEachLine,
  parseCount,
  plus,
  readCount,
  readKeyed,
  readStat,
  times,
  unlimited,
} from "./stats-read.ts";
import type {
  BlkioStats,
  CgroupStats,
  CpuStats,
  HugetlbStats,
  MemoryEntry,
  MemoryStats,
  Pressure,
  PressureLine,
} from "./stats-types.ts";
import { pidsBelow } from "./tree.ts";

/** Reads what there is. */
export function readV2(dir: string | undefined): CgroupStats {
  const stats: CgroupStats = { version: 2 };
  if (dir === undefined) return stats;
  const cpu = readCpu(dir);
  if (cpu) stats.cpu = cpu;
  const memory = readMemory(dir);
  if (memory) stats.memory = memory;
  const pids = readPids(dir);
  if (pids) stats.pids = pids;
  const blkio = readIo(dir);
  if (blkio) stats.blkio = blkio;
  const hugetlb = readHugetlb(dir);
  if (hugetlb) stats.hugetlb = hugetlb;
  const rdma = readRdma(dir);
  if (rdma) stats.rdma = rdma;
  return stats;
}

/** Microseconds become nanoseconds. cpu.stat is there even without the controller. */
function readCpu(dir: string): CpuStats | undefined {
  const values = readKeyed(dir, "cpu.stat");
  if (values === undefined) return undefined;
  const psi = readPressure(dir, "cpu.pressure");
  return {
    usage: {
      total: times(values.usage_usec, 1000) ?? 0,
      kernel: times(values.system_usec, 1000) ?? 0,
      user: times(values.user_usec, 1000) ?? 0,
    },
    throttling: {
      periods: values.nr_periods ?? 0,
      throttledPeriods: values.nr_throttled ?? 0,
      throttledTime: times(values.throttled_usec, 1000) ?? 0,
    },
    ...(psi ? { psi } : {}),
  };
}

function readMemory(dir: string): MemoryStats | undefined {
  const raw = readKeyed(dir, "memory.stat");
  const psi = readPressure(dir, "memory.pressure");
  if (raw === undefined) return psi && { raw: {}, psi };
  const stats: MemoryStats = { cache: raw.file ?? 0, raw, ...(psi ? { psi } : {}) };
  const usage = readEntry(dir, "memory");
  if (usage) {
    const swapOnly = readEntry(dir, "memory.swap");
    stats.usage = usage;
    if (swapOnly) stats.swapOnly = swapOnly;
    stats.swap = together(usage, swapOnly);
  }
  const events = readKeyed(dir, "memory.events");
  if (events) stats.events = events;
  return stats;
}

function readEntry(dir: string, name: string): Required<MemoryEntry> | undefined {
  const usage = readCount(dir, `${name}.current`);
  if (usage === undefined) return undefined;
  return {
    limit: readCount(dir, `${name}.max`) ?? 0,
    usage,
    // Since Linux 5.19, for swap 6.5.
    max: readCount(dir, `${name}.peak`) ?? 0,
    failcnt: 0,
  };
}

/** Memory and swap, as v1 counts it. Nobody knows the most that both have been. */
function together(memory: Required<MemoryEntry>, swap: Required<MemoryEntry> | undefined): MemoryEntry {
  const none = unlimited();
  const limits: Integer[] = [memory.limit, swap?.limit ?? 0];
  return {
    limit: limits.includes(none) ? none : plus(limits[0]!, limits[1]!),
    usage: plus(memory.usage, swap?.usage ?? 0),
    max: 0,
    failcnt: 0,
  };
}

function readPids(dir: string): CgroupStats["pids"] {
  const current = readCount(dir, "pids.current");
  if (current === undefined) {
    // Without the controller the processes are counted.
    const pids = pidsBelow(dir);
    return typeof pids === "number" ? undefined : { current: pids.length, limit: 0 };
  }
  const limit = readCount(dir, "pids.max");
  // runc has 0 for no limit.
  return { current, limit: typeof limit === "number" ? limit : 0 };
}

/** Lines "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6". */
function readIo(dir: string): BlkioStats | undefined {
  const lines = readStat(dir, "io.stat");
  const psi = readPressure(dir, "io.pressure");
  if (lines === undefined) return psi && { psi };
  const bytes: NonNullable<BlkioStats["ioServicedRecursive"]> = [];
  const operations: typeof bytes = [];
  forEachLine(lines, ([device, ...items]) => {
    const numbers = deviceNumbers(device!);
    if (numbers === undefined) return;
    for (const item of items) {
      const equals = item.indexOf("=");
      const value = parseCount(item.slice(equals + 1));
      if (value === undefined) continue;
      const name = item.slice(0, Math.max(equals, 0));
      if (name === "rbytes") bytes.push({ ...numbers, op: "Read", value });
      else if (name === "wbytes") bytes.push({ ...numbers, op: "Write", value });
      else if (name === "rios") operations.push({ ...numbers, op: "Read", value });
      else if (name === "wios") operations.push({ ...numbers, op: "Write", value });
    }
  });
  return {
    ioServiceBytesRecursive: bytes,
    ioServicedRecursive: operations,
    ...(psi ? { psi } : {}),
  };
}

function readHugetlb(dir: string): Record<string, HugetlbStats> | undefined {
  const stats: Record<string, HugetlbStats> = {};
  let found = false;
  for (const size of hugePageSizes()) {
    const name = `hugetlb.${size}`;
    // Reserved pages count as used.
    const usage = readCount(dir, `${name}.rsvd.current`) ?? readCount(dir, `${name}.current`);
    if (usage === undefined) continue;
    stats[size] = { usage, failcnt: readKeyed(dir, `${name}.events`)?.max ?? 0 };
    found = true;
  }
  return found ? stats : undefined;
}

/** Lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"; none where the kernel does not count (ENOENT, EOPNOTSUPP). */
function readPressure(dir: string, file: string): Pressure | undefined {
  const lines = readStat(dir, file);
  if (lines === undefined) return undefined;
  const pressure: Pressure = {};
  forEachLine(lines, ([kind, ...items]) => {
    if (kind !== "some" && kind !== "full") return;
    const line: PressureLine = { avg10: 0, avg60: 0, avg300: 0, total: 0 };
    for (const item of items) {
      const equals = item.indexOf("=");
      const name = item.slice(0, Math.max(equals, 0));
      const word = item.slice(equals + 1);
      if (name === "total") line.total = parseCount(word) ?? 0;
      else if (name === "avg10" || name === "avg60" || name === "avg300") {
        const value = Number(word);
        if (value >= 0 && value <= 100) line[name] = value;
      }
    }
    pressure[kind] = line;
  });
  return pressure;
}
