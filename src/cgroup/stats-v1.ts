/** The statistics of cgroup v1: a directory for each controller (Documentation/admin-guide/cgroup-v1 of the kernel). */
import type { Integer } from "../oci/config.ts";
import type { CgroupPaths } from "./names.ts";
import { hugePageSizes, readRdma } from "./stats-common.ts";
import {
  deviceNumbers,
  forEachLine,
  parseCount,
  parseList,
  readCount,
  readKeyed,
  readStat,
  times,
} from "./stats-read.ts";
import {
  type BlkioEntry,
  type BlkioStats,
  type CgroupStats,
  CPUSET_FILES,
  type CpuStats,
  type HugetlbStats,
  type MemoryEntry,
  type MemoryStats,
} from "./stats-types.ts";

/** cpuacct.stat counts in USER_HZ, which is 100 on every architecture of Linux that Bun runs on. */
const TICK = 1e9 / 100;

/** Reads what there is. */
export function readV1(paths: CgroupPaths): CgroupStats {
  const stats: CgroupStats = { version: 1 };
  const cpu = readCpu(paths);
  if (cpu) stats.cpu = cpu;
  const cpuset = readCpuset(paths.cpuset);
  if (cpuset) stats.cpuset = cpuset;
  const memory = readMemory(paths.memory);
  if (memory) stats.memory = memory;
  const current = readCount(paths.pids, "pids.current");
  if (current !== undefined) stats.pids = { current, limit: limitOfPids(paths.pids) };
  const blkio = readBlkio(paths.blkio);
  if (blkio) stats.blkio = blkio;
  if (paths.hugetlb !== undefined) stats.hugetlb = readHugetlb(paths.hugetlb);
  const rdma = readRdma(paths.rdma);
  if (rdma) stats.rdma = rdma;
  return stats;
}

/** runc has 0 for no limit. */
function limitOfPids(dir: string | undefined): Integer {
  const limit = readCount(dir, "pids.max");
  return typeof limit === "number" ? limit : 0;
}

function readCpu({ cpu, cpuacct }: CgroupPaths): CpuStats | undefined {
  const throttled = readKeyed(cpu, "cpu.stat");
  const total = readCount(cpuacct, "cpuacct.usage");
  if (throttled === undefined && total === undefined) return undefined;
  const stats: CpuStats = { usage: {}, throttling: {} };
  if (throttled) {
    stats.throttling = {
      periods: throttled.nr_periods ?? 0,
      throttledPeriods: throttled.nr_throttled ?? 0,
      throttledTime: throttled.throttled_time ?? 0,
    };
  }
  if (total === undefined) return stats;
  const ticks = readKeyed(cpuacct, "cpuacct.stat");
  const percpu: Integer[] = [];
  forEachLine(readStat(cpuacct, "cpuacct.usage_percpu") ?? "", (words) => {
    for (const word of words) percpu.push(parseCount(word) ?? 0);
  });
  const kernel: Integer[] = [];
  const user: Integer[] = [];
  forEachLine(readStat(cpuacct, "cpuacct.usage_all") ?? "", ([number, inUser, inKernel]) => {
    // The first line is "cpu user system".
    if (inUser === undefined || inKernel === undefined || parseCount(number!) === undefined) return;
    user.push(parseCount(inUser) ?? 0);
    kernel.push(parseCount(inKernel) ?? 0);
  });
  stats.usage = {
    total,
    percpu,
    percpu_kernel: kernel,
    percpu_user: user,
    kernel: times(ticks?.system, TICK) ?? 0,
    user: times(ticks?.user, TICK) ?? 0,
  };
  return stats;
}

function readCpuset(dir: string | undefined): CgroupStats["cpuset"] {
  // A hierarchy mounted with noprefix has short names.
  let prefix = "cpuset.";
  let cpus = readStat(dir, `${prefix}cpus`);
  if (cpus === undefined) {
    prefix = "";
    cpus = readStat(dir, "cpus");
  }
  if (cpus === undefined) return undefined;
  const stats: NonNullable<CgroupStats["cpuset"]> = {};
  const list = parseList(cpus);
  const mems = parseList(readStat(dir, `${prefix}mems`) ?? "");
  if (list) stats.cpus = list;
  if (mems) stats.mems = mems;
  for (const name of CPUSET_FILES) {
    const value = readCount(dir, prefix + name);
    if (value !== undefined) stats[name] = value;
  }
  // The only one that may be negative: -1 is the system's default.
  const level = Number(readStat(dir, `${prefix}sched_relax_domain_level`));
  if (Number.isSafeInteger(level)) stats.sched_relax_domain_level = level;
  return stats;
}

function readMemory(dir: string | undefined): MemoryStats | undefined {
  const raw = readKeyed(dir, "memory.stat");
  if (raw === undefined) return undefined;
  const stats: MemoryStats = { cache: raw.cache ?? 0, raw };
  for (const [field, name] of [
    ["usage", "memory"],
    ["swap", "memory.memsw"],
    ["kernel", "memory.kmem"],
    ["kernelTCP", "memory.kmem.tcp"],
  ] as const) {
    const entry = readEntry(dir!, name);
    if (entry) stats[field] = entry;
  }
  const events = readKeyed(dir, "memory.oom_control");
  if (events) stats.events = events;
  return stats;
}

/** Not every kernel counts swap, nor has all files for kernel memory. */
function readEntry(dir: string, name: string): MemoryEntry | undefined {
  const usage = readCount(dir, `${name}.usage_in_bytes`);
  if (usage === undefined) return undefined;
  return {
    limit: readCount(dir, `${name}.limit_in_bytes`) ?? 0,
    usage,
    max: readCount(dir, `${name}.max_usage_in_bytes`) ?? 0,
    failcnt: readCount(dir, `${name}.failcnt`) ?? 0,
  };
}

/** Which files there are depends on the I/O scheduler and the kernel; the first that tells of anything counts, as in runc. */
const BLKIO_FILES = ["blkio.bfq.", "blkio.", "blkio.throttle."];

const BLKIO_NAMES = [
  ["ioServiceBytesRecursive", "io_service_bytes_recursive"],
  ["ioServicedRecursive", "io_serviced_recursive"],
  ["ioQueueRecursive", "io_queued_recursive"],
  ["ioServiceTimeRecursive", "io_service_time_recursive"],
  ["ioWaitTimeRecursive", "io_wait_time_recursive"],
  ["ioMergedRecursive", "io_merged_recursive"],
  ["ioTimeRecursive", "time_recursive"],
  ["sectorsRecursive", "sectors_recursive"],
] as const;

function readBlkio(dir: string | undefined): BlkioStats | undefined {
  let there = false;
  for (const prefix of BLKIO_FILES) {
    const stats: BlkioStats = {};
    let found = false;
    for (const [field, name] of BLKIO_NAMES) {
      const lines = readStat(dir, prefix + name);
      if (lines === undefined) continue;
      there = true;
      const table = blkioTable(lines);
      stats[field] = table;
      found ||= table.length > 0;
    }
    if (found) return stats;
  }
  // Kernels before 4.17 do not sum up for the cgroups below.
  const bytes = readStat(dir, "blkio.throttle.io_service_bytes");
  const operations = readStat(dir, "blkio.throttle.io_serviced");
  if (bytes === undefined && operations === undefined) return there ? {} : undefined;
  return {
    ioServiceBytesRecursive: blkioTable(bytes ?? ""),
    ioServicedRecursive: blkioTable(operations ?? ""),
  };
}

/** Lines "8:0 Read 1282048" or "8:0 6792"; the line "Total" for all devices is left out, as in runc. */
function blkioTable(lines: string): BlkioEntry[] {
  const table: BlkioEntry[] = [];
  forEachLine(lines, (words) => {
    const [device, second, third] = words;
    const numbers = deviceNumbers(device!);
    const value = parseCount(third ?? second ?? "");
    if (numbers === undefined || value === undefined) return;
    table.push({ ...numbers, op: third === undefined ? "" : second!, value });
  });
  return table;
}

function readHugetlb(dir: string): Record<string, HugetlbStats> {
  const stats: Record<string, HugetlbStats> = {};
  for (const size of hugePageSizes()) {
    // Reserved pages count as used, where the kernel (5.7) knows.
    for (const name of [`hugetlb.${size}.rsvd`, `hugetlb.${size}`]) {
      const usage = readCount(dir, `${name}.usage_in_bytes`);
      if (usage === undefined) continue;
      const max = readCount(dir, `${name}.max_usage_in_bytes`) ?? 0;
      stats[size] = { usage, max, failcnt: readCount(dir, `${name}.failcnt`) ?? 0 };
      break;
    }
  }
  return stats;
}
