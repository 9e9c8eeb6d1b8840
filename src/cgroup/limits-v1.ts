/** linux.resources in cgroup v1: which files are set, in an order that the kernel's own checks between them allow. */
import type { Part, Slots } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import type { LinuxCPU, LinuxHugepageLimit, LinuxMemory, LinuxResources } from "../oci/config.ts";
import { blockIoV1 } from "./limits-blkio.ts";
import type { CgroupPaths } from "./names.ts";
import { checkPageSize, hasExtras, pidsMax, swappinessOf } from "./resources.ts";
import { configError, isUnset, NO_CGROUP, noController, writeValue } from "./write.ts";

const CPU = "linux.resources.cpu";
const MEMORY = "linux.resources.memory";
/** The sign bit of a slot: set when what it keeps failed. */
const SIGN = -(2 ** 63);

/** The directory of a controller. */
function dirOf(paths: CgroupPaths, controller: string, path: string): string {
  const dir = paths[controller];
  if (dir !== undefined) return dir;
  throw noController(
    controller,
    path,
    Object.keys(paths).length === 0
      ? NO_CGROUP
      : `the ${controller} controller is not mounted on this host (cgroup v1): mount it, or take the limit out`,
  );
}

/**
 * What is set before the container has any process: the memory limits, so that whatever is done for it is limited
 * (tmpcopyup of a hostile image too), and the realtime budget, without which a realtime process may not join.
 */
export function earlyLimitsV1(part: Part, resources: LinuxResources, paths: CgroupPaths): void {
  if (resources.memory) setMemory(part, resources, resources.memory, paths);
  if (resources.cpu) setRealtime(part, resources.cpu, paths);
  if (resources.cpu?.cpus) dirOf(paths, "cpuset", `${CPU}.cpus`);
  if (resources.cpu?.mems) dirOf(paths, "cpuset", `${CPU}.mems`);
}

/**
 * What is set when the container is made and before anything of the bundle's runs in it: what would only slow down or
 * hinder making it.
 */
export function lateLimitsV1(part: Part, slots: Slots, resources: LinuxResources, paths: CgroupPaths): void {
  if (resources.unified && Object.keys(resources.unified).length > 0) {
    throw configError(
      "invalid configuration: cannot use unified on cgroup v1",
      "linux.resources.unified",
      "this host has its controllers in cgroup v1; use the other fields of linux.resources",
    );
  }
  if (resources.cpu) setCpu(part, slots, resources.cpu, paths);
  const limit = resources.pids?.limit;
  if (limit !== undefined) {
    part.at("cgroup", "linux.resources.pids.limit");
    writeValue(part, `${dirOf(paths, "pids", part.path)}/pids.max`, pidsMax(limit));
  }
  if (resources.blockIO) blockIoV1(part, resources.blockIO, (path) => dirOf(paths, "blkio", path));
  if (resources.hugepageLimits) setHugepages(part, resources.hugepageLimits, paths);
  if (hasExtras(resources)) {
    const { netLimitsV1 }: typeof import("./limits-net.ts") = require("./limits-net.ts");
    netLimitsV1(part, resources, (controller, name, path) => `${dirOf(paths, controller, path)}/${name}`);
  }
  if (resources.memory?.disableOOMKiller) {
    part.at("cgroup", `${MEMORY}.disableOOMKiller`);
    writeValue(part, `${dirOf(paths, "memory", part.path)}/memory.oom_control`, "1");
  }
}

function setMemory(part: Part, resources: LinuxResources, memory: LinuxMemory, paths: CgroupPaths): void {
  const { limit, swap, reservation } = memory;
  const file = (path: string, name: string) => `${dirOf(paths, "memory", path)}/memory.${name}`;
  const swapHint = "the kernel must account for swap: boot with swapaccount=1, or take the swap limit out";
  const writeLimit = (options: object) => {
    part.at("cgroup", `${MEMORY}.limit`);
    writeValue(part, file(part.path, "limit_in_bytes"), String(limit), {
      hint: "a limit below what the cgroup uses already cannot be set",
      ...options,
    });
  };
  const writeSwap = (value: string, options: object = {}) => {
    part.at("cgroup", `${MEMORY}.swap`);
    writeValue(part, file(part.path, "memsw.limit_in_bytes"), value, { hint: swapHint, ...options });
  };
  if (!isUnset(limit) && !isUnset(swap)) {
    // memsw must never be below the limit: lowering both starts with the limit, raising both with memsw (abi.EINVAL).
    writeLimit({ okSkip: 2, tolerate: [[abi.EINVAL, 0]] });
    writeSwap(String(swap));
    writeLimit({ okSkip: 1 });
    writeSwap(String(swap));
  } else if (!isUnset(limit)) {
    // No limit on memory lifts the one on memory and swap, if the kernel has it.
    if (Number(limit) === -1) writeSwap("-1", { tolerate: [[abi.ENOENT, 0]] });
    writeLimit({});
  } else if (!isUnset(swap)) {
    writeSwap(String(swap));
  }
  if (!isUnset(reservation)) {
    part.at("cgroup", `${MEMORY}.reservation`);
    writeValue(part, file(part.path, "soft_limit_in_bytes"), String(reservation));
  }
  const swappiness = swappinessOf(resources);
  if (swappiness !== undefined) {
    part.at("cgroup", `${MEMORY}.swappiness`);
    writeValue(part, file(part.path, "swappiness"), String(swappiness));
  }
}

function setRealtime(part: Part, cpu: LinuxCPU, paths: CgroupPaths): void {
  const { realtimePeriod: period, realtimeRuntime: runtime } = cpu;
  const hint = "realtime limits need a kernel with CONFIG_RT_GROUP_SCHED and a budget in the cgroup above";
  const write = (field: string, name: string, value: number | bigint, options: object = {}) => {
    part.at("cgroup", `${CPU}.${field}`);
    writeValue(part, `${dirOf(paths, "cpu", part.path)}/cpu.${name}`, String(value), { hint, ...options });
  };
  const both = !isUnset(period) && !isUnset(runtime);
  // The kernel checks each against the other: when the period does not fit the old runtime, that comes first.
  if (!isUnset(period)) {
    write("realtimePeriod", "rt_period_us", period, both ? { okSkip: 2, tolerate: [[abi.EINVAL, 0]] } : {});
  }
  if (both) {
    write("realtimeRuntime", "rt_runtime_us", runtime);
    write("realtimePeriod", "rt_period_us", period, { okSkip: 1 });
  }
  if (!isUnset(runtime)) write("realtimeRuntime", "rt_runtime_us", runtime);
}

function setCpu(part: Part, slots: Slots, cpu: LinuxCPU, paths: CgroupPaths): void {
  const write = (field: string, name: string, value: number | bigint, options: object = {}) => {
    part.at("cgroup", `${CPU}.${field}`);
    writeValue(part, `${dirOf(paths, "cpu", part.path)}/cpu.${name}`, String(value), options);
  };
  const { shares, period, burst, quota, idle } = cpu;
  // The shares of an idle group cannot be changed, so it stops being one first and becomes one last.
  if (idle !== undefined && Number(idle) !== 1) write("idle", "idle", idle);
  if (!isUnset(shares)) {
    // The kernel would take the nearest value it allows.
    if (shares > 262144) throw configError("the maximum allowed cpu-shares is 262144", `${CPU}.shares`);
    if (shares < 2) throw configError("the minimum allowed cpu-shares is 2", `${CPU}.shares`);
    write("shares", "shares", shares);
  }
  // The kernel checks period, burst and quota against each other: what does not fit the old quota is tried again.
  const retried = !isUnset(quota);
  const periodDone = slots.take("result of cpu.cfs_period_us");
  const burstDone = slots.take("result of cpu.cfs_burst_us");
  if (!isUnset(period)) {
    write(
      "period",
      "cfs_period_us",
      period,
      retried ? { slot: periodDone, tolerate: [[abi.EINVAL, 0]] } : {},
    );
  }
  if (burst !== undefined) {
    // A kernel before 5.14 has no burst; runc goes on without.
    const tolerate = retried
      ? [
          [abi.ENOENT, 0],
          [abi.EINVAL, 0],
        ]
      : [[abi.ENOENT, 0]];
    write("burst", "cfs_burst_us", burst, { slot: burstDone, tolerate });
  }
  if (!isUnset(quota)) {
    write("quota", "cfs_quota_us", quota);
    if (!isUnset(period)) {
      part.op(abi.BUNC_OP_EXPECT, [periodDone, SIGN, 0, abi.EINVAL], {
        okSkip: 1,
        tolerate: [[abi.EINVAL, 0]],
      });
      write("period", "cfs_period_us", period);
    }
    if (burst !== undefined) {
      part.op(abi.BUNC_OP_EXPECT, [burstDone, SIGN, 0, abi.EINVAL], {
        okSkip: 1,
        tolerate: [[abi.EINVAL, 0]],
      });
      write("burst", "cfs_burst_us", burst, { tolerate: [[abi.ENOENT, 0]] });
    }
  }
  slots.give(periodDone, burstDone);
  if (idle !== undefined && Number(idle) === 1) write("idle", "idle", idle);
}

function setHugepages(part: Part, limits: readonly LinuxHugepageLimit[], paths: CgroupPaths): void {
  for (let i = 0; i < limits.length; i++) {
    const { pageSize, limit } = limits[i]!;
    const path = `linux.resources.hugepageLimits[${i}]`;
    checkPageSize(pageSize, `${path}.pageSize`);
    part.at("cgroup", path);
    const file = `${dirOf(paths, "hugetlb", path)}/hugetlb.${pageSize}`;
    const hint = `this kernel must have huge pages of ${pageSize} (/sys/kernel/mm/hugepages)`;
    writeValue(part, `${file}.limit_in_bytes`, String(limit), { hint });
    // Limits on reservations came with Linux 5.7.
    writeValue(part, `${file}.rsvd.limit_in_bytes`, String(limit), { tolerate: [[abi.ENOENT, 0]] });
  }
}
