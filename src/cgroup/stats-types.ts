/**
 * What the cgroups of a container have counted, with the names of runc's `events --stats` (runc types/events.go). All
 * that could be read is there, zeros too, and what runc does not show besides.
 */
import type { Integer } from "../oci/config.ts";

/** Pressure stall information: averages in percent, the total in microseconds. */
export interface PressureLine {
  avg10: number;
  avg60: number;
  avg300: number;
  total: Integer;
}

export interface Pressure {
  some?: PressureLine;
  full?: PressureLine;
}

/** Times are in nanoseconds. */
export interface CpuStats {
  usage: {
    total?: Integer;
    /** By CPU; v1 alone. */
    percpu?: Integer[];
    percpu_kernel?: Integer[];
    percpu_user?: Integer[];
    kernel?: Integer;
    user?: Integer;
  };
  throttling: { periods?: Integer; throttledPeriods?: Integer; throttledTime?: Integer };
  psi?: Pressure;
}

/** The files of v1's cpuset; numbers of CPUs and memory nodes. */
export type CpusetStats = { cpus?: number[]; mems?: number[] } & {
  [Name in (typeof CPUSET_FILES)[number]]?: Integer;
};

export const CPUSET_FILES = [
  "cpu_exclusive",
  "mem_hardwall",
  "mem_exclusive",
  "memory_migrate",
  "memory_spread_page",
  "memory_spread_slab",
  "memory_pressure",
  "sched_load_balance",
] as const;

/** Bytes, and how often the limit was hit. */
export interface MemoryEntry {
  limit?: Integer;
  usage?: Integer;
  max?: Integer;
  failcnt?: Integer;
}

export interface MemoryStats {
  cache?: Integer;
  usage?: MemoryEntry;
  /** Memory and swap together, on v2 too. */
  swap?: MemoryEntry;
  kernel?: MemoryEntry;
  kernelTCP?: MemoryEntry;
  /** memory.stat as it is. */
  raw: Record<string, Integer>;
  psi?: Pressure;
  /** Swap alone; v2. */
  swapOnly?: MemoryEntry;
  /** memory.events of v2 (low, high, max, oom, oom_kill), memory.oom_control of v1 (under_oom, oom_kill, ...). */
  events?: Record<string, Integer>;
}

export interface BlkioEntry {
  major: Integer;
  minor: Integer;
  /** "Read", "Write", ...; "" where the file tells of none. */
  op: string;
  value: Integer;
}

/** The tables of v1; v2 fills the first two. */
export type BlkioStats = { psi?: Pressure } & { [Name in (typeof BLKIO_TABLES)[number]]?: BlkioEntry[] };

export const BLKIO_TABLES = [
  "ioServiceBytesRecursive",
  "ioServicedRecursive",
  "ioQueueRecursive",
  "ioServiceTimeRecursive",
  "ioWaitTimeRecursive",
  "ioMergedRecursive",
  "ioTimeRecursive",
  "sectorsRecursive",
] as const;

export interface HugetlbStats {
  usage?: Integer;
  /** v1 alone. */
  max?: Integer;
  failcnt?: Integer;
}

/** What a device of RDMA holds, or may: 2^32 - 1 for "max". */
export interface RdmaEntry {
  device: string;
  hcaHandles: number;
  hcaObjects: number;
}

/** A field is absent where the container is in no cgroup of that controller. */
export interface CgroupStats {
  version: 1 | 2;
  cpu?: CpuStats;
  cpuset?: CpusetStats & { sched_relax_domain_level?: number };
  memory?: MemoryStats;
  /** The limit is 0 where there is none. */
  pids?: { current?: Integer; limit?: Integer };
  blkio?: BlkioStats;
  /** By page size: "2MB", "1GB". */
  hugetlb?: Record<string, HugetlbStats>;
  rdma?: { current: RdmaEntry[]; limit: RdmaEntry[] };
}
