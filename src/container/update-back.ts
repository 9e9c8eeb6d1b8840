/**
 * What to go back to when an update is refused half-way: for what was to change, the values that the cgroup files had before.
 * The state does not tell them: limits that were never set, or that a former update left to the kernel alone, are not in it.
 */
import type { CgroupPaths } from "../cgroup/names.ts";
import { isUnset } from "../cgroup/write.ts";
import { readText } from "../linux/file.ts";
import type { LinuxBlockIO, LinuxResources, LinuxThrottleDevice } from "../oci/config.ts";

/** Reads a file by its path: text, or -errno. */
type Read = (path: string) => string | number;

/** What v1 shows for no limit on memory lies just below 2^63. */
const NO_LIMIT = 2n ** 62n;
const THROTTLES = [
  "throttleReadBpsDevice",
  "throttleWriteBpsDevice",
  "throttleReadIOPSDevice",
  "throttleWriteIOPSDevice",
] as const;

/**
 * The resources that undo an update.
 *
 * @param old what the state says
 * @param tried what is about to be written
 * @param paths cgroup_paths of the state; the files there are read
 */
export function resourcesBefore(
  old: LinuxResources,
  tried: LinuxResources,
  paths: CgroupPaths,
  read: Read = readText,
): LinuxResources {
  const { checkBeforeUpdate: _, ...memory } = old.memory ?? {};
  const before: LinuxResources = {
    ...old,
    memory,
    cpu: { ...old.cpu },
    pids: { ...old.pids },
    blockIO: throttlesBefore(old.blockIO, tried.blockIO),
    unified: { ...old.unified },
  };
  const files = new Files(read);
  const dir = paths[""];
  if (paths.devices === undefined && dir !== undefined) readV2(before, tried, dir, files);
  else readV1(before, tried, paths, files);
  return before;
}

class Files {
  constructor(private readonly read: Read) {}

  /** undefined for a file that is not there, or of a controller that is not. */
  text(path: string): string | undefined {
    const value = this.read(path);
    return typeof value === "string" ? value.trim() : undefined;
  }

  number(path: string): number | bigint | undefined {
    const value = this.text(path);
    if (value === "max") return -1;
    if (value === undefined || !/^-?\d{1,19}$/.test(value)) return undefined;
    const exact = BigInt(value);
    return exact > NO_LIMIT ? -1 : Number(exact);
  }
}

/** A throttle of a device that had none is lifted by the rate 0. */
function throttlesBefore(old: LinuxBlockIO = {}, tried: LinuxBlockIO = {}): LinuxBlockIO {
  const before = { ...old };
  for (const field of THROTTLES) {
    const had = old[field] ?? [];
    const same = (a: LinuxThrottleDevice, b: LinuxThrottleDevice) =>
      a.major === b.major && a.minor === b.minor;
    const added = (tried[field] ?? []).filter((device) => !had.some((other) => same(device, other)));
    if (added.length > 0) before[field] = [...had, ...added.map((device) => ({ ...device, rate: 0 }))];
  }
  return before;
}

/** By the names of the files, but for cpu.max and what is written in an order with it. */
function readV2(before: LinuxResources, tried: LinuxResources, dir: string, files: Files): void {
  const { memory = {}, cpu = {}, pids, blockIO, unified = {} } = tried;
  const names = new Set(Object.keys(unified));
  if (!isUnset(memory.limit) || !isUnset(memory.swap)) names.add("memory.max").add("memory.swap.max");
  if (!isUnset(memory.reservation)) names.add("memory.low");
  if (!isUnset(cpu.shares)) names.add("cpu.weight");
  if (!isUnset(cpu.quota) || !isUnset(cpu.period)) names.add("cpu.max");
  if (cpu.burst !== undefined) names.add("cpu.max.burst");
  if (cpu.idle !== undefined) names.add("cpu.idle").add("cpu.weight");
  if (cpu.cpus) names.add("cpuset.cpus");
  if (cpu.mems) names.add("cpuset.mems");
  if (pids?.limit !== undefined) names.add("pids.max");
  if (!isUnset(blockIO?.weight)) names.add("io.bfq.weight").add("io.weight");
  const idle = files.number(`${dir}/cpu.idle`);
  const target = before.cpu!;
  for (const name of names) {
    const value = name.includes("/") || name.startsWith("cgroup.") ? undefined : files.text(`${dir}/${name}`);
    if (value === undefined) continue;
    if (name === "cpu.idle") target.idle = idle;
    else if (name === "cpu.max.burst") target.burst = files.number(`${dir}/${name}`);
    else if (name === "cpu.max") {
      const [quota, period] = value.split(" ");
      target.quota = quota === "max" ? -1 : Number(quota);
      target.period = Number(period);
    } else if (name.startsWith("cpuset.") && value === "") {
      // No list is what the cgroup above has, but with processes in it a cgroup must have one.
      before.unified![name] = files.text(`${dir.slice(0, dir.lastIndexOf("/"))}/${name}.effective`) || "0";
    } else if (name !== "cpu.weight" || idle !== 1) before.unified![name] = value;
  }
  if (names.has("memory.max")) before.memory = { ...before.memory, limit: undefined, swap: undefined };
  if (names.has("memory.low")) before.memory = { ...before.memory, reservation: undefined };
  if (names.has("cpu.weight")) target.shares = undefined;
  if (names.has("cpuset.cpus")) target.cpus = undefined;
  if (names.has("cpuset.mems")) target.mems = undefined;
  if (names.has("pids.max")) before.pids = {};
  if (names.has("io.weight")) before.blockIO = { ...before.blockIO, weight: undefined };
}

function readV1(before: LinuxResources, tried: LinuxResources, paths: CgroupPaths, files: Files): void {
  const { memory = {}, cpu = {}, pids, blockIO } = tried;
  const number = (controller: string, name: string) =>
    paths[controller] === undefined ? undefined : files.number(`${paths[controller]}/${controller}.${name}`);
  if (!isUnset(memory.limit) || !isUnset(memory.swap)) {
    const swap = number("memory", "memsw.limit_in_bytes");
    before.memory = { ...before.memory, limit: number("memory", "limit_in_bytes"), swap };
  }
  if (!isUnset(memory.reservation)) {
    before.memory = { ...before.memory, reservation: number("memory", "soft_limit_in_bytes") };
  }
  const target = before.cpu!;
  if (!isUnset(cpu.shares) || cpu.idle !== undefined) target.shares = number("cpu", "shares");
  if (!isUnset(cpu.quota) || !isUnset(cpu.period) || cpu.burst !== undefined) {
    target.quota = number("cpu", "cfs_quota_us");
    target.period = number("cpu", "cfs_period_us");
    target.burst = number("cpu", "cfs_burst_us");
  }
  target.idle = cpu.idle === undefined ? target.idle : number("cpu", "idle");
  // The shares of an idle group are the kernel's.
  if (target.idle === 1) target.shares = undefined;
  if (!isUnset(cpu.realtimePeriod)) target.realtimePeriod = number("cpu", "rt_period_us");
  if (!isUnset(cpu.realtimeRuntime)) target.realtimeRuntime = number("cpu", "rt_runtime_us");
  const set = paths.cpuset;
  const list = (name: string) =>
    set === undefined ? undefined : files.text(`${set}/cpuset.${name}`) || files.text(`${set}/${name}`);
  if (cpu.cpus) target.cpus = list("cpus");
  if (cpu.mems) target.mems = list("mems");
  if (pids?.limit !== undefined) before.pids = { limit: number("pids", "max") };
  if (!isUnset(blockIO?.weight)) {
    const weight = number("blkio", "weight") ?? number("blkio", "bfq.weight");
    before.blockIO = { ...before.blockIO, weight: weight === undefined ? undefined : Number(weight) };
  }
  // Of cgroup v2 alone.
  before.unified = undefined;
}
