/**
 * What a container's cgroups have counted, v1 or v2, as one object, and as the JSON of runc's `events`.
 */
import type { Integer } from "../oci/config.ts";
import { type CgroupPaths, isV1 } from "./names.ts";
import {
  BLKIO_TABLES,
  type CgroupStats,
  CPUSET_FILES,
  type MemoryEntry,
  type Pressure,
} from "./stats-types.ts";
import { readV1 } from "./stats-v1.ts";
import { readV2 } from "./stats-v2.ts";

/** Reads all there is. Files that are absent, unreadable or malformed are left out. */
export function readStats(paths: CgroupPaths): CgroupStats {
  return isV1(paths) ? readV1(paths) : readV2(paths[""]);
}

/** What runc shows under "data": without zeros, where Go leaves them out, and maps in the order of their keys. */
export function eventData(stats: CgroupStats): object {
  const { cpu, cpuset, memory, pids, blkio, hugetlb } = stats;
  const tables: Record<string, unknown> = {};
  for (const name of BLKIO_TABLES) {
    const table = blkio?.[name];
    if (table?.length) tables[name] = table.map((entry) => pick(entry, "major minor op value") ?? {});
  }
  const pages: Record<string, unknown> = {};
  for (const size of Object.keys(hugetlb ?? {}).sort())
    pages[size] = pick(hugetlb![size]!, "usage max failcnt!");
  const entry = (of: MemoryEntry | undefined) =>
    isZero(of) ? undefined : pick(of!, "limit! usage max failcnt!");
  return {
    cpu: {
      usage: isZero(cpu?.usage)
        ? undefined
        : pick(cpu!.usage, "total percpu percpu_kernel percpu_user kernel! user!"),
      throttling: cpu && pick(cpu.throttling, "periods throttledPeriods throttledTime"),
      psi: pressure(cpu?.psi),
    },
    cpuset: pick(
      cpuset ?? {},
      `cpus ${CPUSET_FILES[0]}! mems ${CPUSET_FILES.slice(1).join("! ")}! sched_relax_domain_level!`,
    ),
    memory: {
      cache: memory && Number(memory.cache) ? memory.cache : undefined,
      usage: entry(memory?.usage),
      swap: entry(memory?.swap),
      kernel: entry(memory?.kernel),
      kernelTCP: entry(memory?.kernelTCP),
      raw: memory && sorted(memory.raw),
      psi: pressure(memory?.psi),
    },
    pids: pick(pids ?? {}, "current limit") ?? {},
    blkio: { ...tables, psi: pressure(blkio?.psi) },
    hugetlb: pages,
    // Known to runc by what a configuration of its own may have, and no runtime-spec can say.
    intel_rdt: {},
    network_interfaces: null,
  };
}

/** Go's omitempty: the named fields that say something, and 0 for those with "!" that do not; undefined for nothing. */
function pick(source: object, names: string): object | undefined {
  const picked: Record<string, unknown> = {};
  let found = false;
  for (const name of names.split(" ")) {
    const always = name.endsWith("!");
    const key = always ? name.slice(0, -1) : name;
    const value = (source as Record<string, unknown>)[key];
    if (!always && isZero(value)) continue;
    picked[key] = value ?? 0;
    found = true;
  }
  return found ? picked : undefined;
}

/** Whether there is nothing but zeros in a value. */
function isZero(value: unknown): boolean {
  if (typeof value === "bigint") return false;
  if (Array.isArray(value)) return value.length === 0;
  if (typeof value !== "object" || value === null) return !value;
  for (const key in value) if (!isZero((value as Record<string, unknown>)[key])) return false;
  return true;
}

function sorted(raw: Record<string, Integer>): Record<string, Integer> | undefined {
  const keys = Object.keys(raw).sort();
  if (keys.length === 0) return undefined;
  const result: Record<string, Integer> = {};
  for (const key of keys) result[key] = raw[key]!;
  return result;
}

/** runc leaves out a line that is all zeros. */
function pressure(of: Pressure | undefined): Pressure | undefined {
  if (of === undefined) return undefined;
  return {
    ...(isZero(of.some) ? {} : { some: of.some }),
    ...(isZero(of.full) ? {} : { full: of.full }),
  };
}

/** JSON of statistics, with integers of 64 bits as they are. */
export function statsJson(value: unknown): string {
  const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
  return JSON.stringify(value, (_, part) => (typeof part === "bigint" ? rawJSON(String(part)) : part));
}
