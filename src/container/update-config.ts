/**
 * What `update` makes of a container's cgroup configuration (libcontainer's, in state.json), as runc's update.go merges
 * it, and that configuration as linux.resources. Pure.
 */
import { cpuWeight } from "../cgroup/convert.ts";
import type { LinuxResources, LinuxThrottleDevice, LinuxWeightDevice } from "../oci/config.ts";
import type { LibcontainerCgroup } from "./libcontainer.ts";

type Throttles = LibcontainerCgroup["blkio_throttle_read_bps_device"];

/** Sets a key, or takes it out for what Go's omitempty leaves out. */
function put<K extends keyof LibcontainerCgroup>(
  cgroup: LibcontainerCgroup,
  key: K,
  value: LibcontainerCgroup[K] | undefined,
): void {
  if (!value) delete cgroup[key];
  else cgroup[key] = value;
}

/** The same for what is a pointer in Go, where 0 is a value. */
function replace<K extends keyof LibcontainerCgroup>(
  cgroup: LibcontainerCgroup,
  key: K,
  value: LibcontainerCgroup[K] | undefined,
): void {
  if (value === undefined) delete cgroup[key];
  else cgroup[key] = value;
}

/**
 * The configuration after an update. What the update does not name stays, but for pids, cpuset, burst, idle and unified:
 * as in runc those are only kept in the kernel, and not written again by a later update.
 */
export function mergeResources(old: LibcontainerCgroup, update: LinuxResources): LibcontainerCgroup {
  const cgroup = { ...old };
  const { memory = {}, cpu = {}, pids, blockIO, unified } = update;
  // No memory limit lifts that on memory and swap, too.
  const swap = memory.swap === undefined && Number(memory.limit) === -1 ? 0 : memory.swap;
  if (memory.limit !== undefined) put(cgroup, "memory", memory.limit);
  if (memory.reservation !== undefined) put(cgroup, "memory_reservation", memory.reservation);
  if (swap !== undefined) put(cgroup, "memory_swap", swap);
  if (memory.checkBeforeUpdate !== undefined)
    put(cgroup, "memory_check_before_update", memory.checkBeforeUpdate);
  // The shares of an idle group cannot be set, so they are forgotten with it.
  const shares = cpu.shares === undefined && cpu.idle !== undefined ? 0 : cpu.shares;
  if (shares !== undefined) {
    put(cgroup, "cpu_shares", shares);
    put(cgroup, "cpu_weight", cpuWeight(shares));
  }
  const period = Number(cpu.period ?? 0);
  const quota = Number(cpu.quota ?? 0);
  // Of the two, one that is not named stays; neither is named when there is nothing to change, and forgotten then.
  if (period !== 0 || quota === 0) put(cgroup, "cpu_period", cpu.period);
  if (quota !== 0 || period === 0) put(cgroup, "cpu_quota", cpu.quota);
  replace(cgroup, "cpu_burst", cpu.burst);
  replace(cgroup, "cpu_idle", cpu.idle);
  if (cpu.realtimePeriod !== undefined) put(cgroup, "cpu_rt_period", cpu.realtimePeriod);
  if (cpu.realtimeRuntime !== undefined) put(cgroup, "cpu_rt_quota", cpu.realtimeRuntime);
  put(cgroup, "cpuset_cpus", cpu.cpus);
  put(cgroup, "cpuset_mems", cpu.mems);
  replace(cgroup, "pids_limit", pids?.limit);
  replace(cgroup, "unified", unified);
  if (blockIO) {
    if (blockIO.weight !== undefined) put(cgroup, "blkio_weight", blockIO.weight);
    if (blockIO.leafWeight !== undefined) put(cgroup, "blkio_leaf_weight", blockIO.leafWeight);
    if (blockIO.weightDevice?.length) {
      cgroup.blkio_weight_device = mergeWeights(cgroup.blkio_weight_device ?? [], blockIO.weightDevice);
    }
    const merged = (before: Throttles, devices: readonly LinuxThrottleDevice[] = []) =>
      devices.length > 0 ? mergeThrottles(before ?? [], devices) : before;
    replace(
      cgroup,
      "blkio_throttle_read_bps_device",
      merged(cgroup.blkio_throttle_read_bps_device, blockIO.throttleReadBpsDevice),
    );
    replace(
      cgroup,
      "blkio_throttle_write_bps_device",
      merged(cgroup.blkio_throttle_write_bps_device, blockIO.throttleWriteBpsDevice),
    );
    replace(
      cgroup,
      "blkio_throttle_read_iops_device",
      merged(cgroup.blkio_throttle_read_iops_device, blockIO.throttleReadIOPSDevice),
    );
    replace(
      cgroup,
      "blkio_throttle_write_iops_device",
      merged(cgroup.blkio_throttle_write_iops_device, blockIO.throttleWriteIOPSDevice),
    );
  }
  return cgroup;
}

/** Of two entries for one device the last counts, so that is the one to change. */
function lastOf<T extends { major: number | bigint; minor: number | bigint }>(
  list: readonly T[],
  { major, minor }: { major: number | bigint; minor: number | bigint },
): number {
  return list.findLastIndex((item) => item.major === major && item.minor === minor);
}

function mergeWeights(
  before: NonNullable<LibcontainerCgroup["blkio_weight_device"]>,
  devices: readonly LinuxWeightDevice[],
) {
  const list = [...before];
  for (const { major, minor, weight, leafWeight } of devices) {
    const at = lastOf(list, { major, minor });
    const old = at < 0 ? { weight: 0, leafWeight: 0 } : list[at]!;
    const item = {
      major,
      minor,
      weight: weight ?? old.weight,
      leafWeight: leafWeight ?? old.leafWeight,
    };
    if (at < 0) list.push(item);
    else list[at] = item;
  }
  return list;
}

function mergeThrottles(before: NonNullable<Throttles>, devices: readonly LinuxThrottleDevice[]) {
  const list = [...before];
  for (const { major, minor, rate } of devices) {
    const at = lastOf(list, { major, minor });
    if (at < 0) list.push({ major, minor, rate });
    else list[at] = { major, minor, rate };
  }
  return list;
}

/** A configuration as linux.resources, without devices. What runc 1.1 writes as null is absent. */
export function resourcesOf(cgroup: LibcontainerCgroup): LinuxResources {
  const or = <T>(value: T | null | undefined): T | undefined => value ?? undefined;
  const resources: LinuxResources = {
    memory: {
      limit: or(cgroup.memory),
      reservation: or(cgroup.memory_reservation),
      swap: or(cgroup.memory_swap),
      swappiness: or(cgroup.memory_swappiness),
      disableOOMKiller: or(cgroup.oom_kill_disable),
      checkBeforeUpdate: or(cgroup.memory_check_before_update),
    },
    cpu: {
      shares: or(cgroup.cpu_shares),
      quota: or(cgroup.cpu_quota),
      burst: or(cgroup.cpu_burst),
      period: or(cgroup.cpu_period),
      realtimeRuntime: or(cgroup.cpu_rt_quota),
      realtimePeriod: or(cgroup.cpu_rt_period),
      cpus: or(cgroup.cpuset_cpus),
      mems: or(cgroup.cpuset_mems),
      idle: or(cgroup.cpu_idle),
    },
    pids: { limit: or(cgroup.pids_limit) },
    blockIO: {
      weight: or(cgroup.blkio_weight),
      leafWeight: or(cgroup.blkio_leaf_weight),
      weightDevice: or(cgroup.blkio_weight_device),
      throttleReadBpsDevice: or(cgroup.blkio_throttle_read_bps_device),
      throttleWriteBpsDevice: or(cgroup.blkio_throttle_write_bps_device),
      throttleReadIOPSDevice: or(cgroup.blkio_throttle_read_iops_device),
      throttleWriteIOPSDevice: or(cgroup.blkio_throttle_write_iops_device),
    },
    hugepageLimits: cgroup.hugetlb_limit?.map(({ page_size, limit }) => ({ pageSize: page_size, limit })),
    network: {
      classID: or(cgroup.net_cls_classid_u),
      priorities: cgroup.net_prio_ifpriomap?.map((item) => ({
        name: item.interface,
        priority: item.priority,
      })),
    },
    unified: or(cgroup.unified),
  };
  if (cgroup.rdma) {
    resources.rdma = {};
    for (const [device, limits] of Object.entries(cgroup.rdma)) {
      resources.rdma[device] = { hcaHandles: or(limits.hca_handles), hcaObjects: or(limits.hca_objects) };
    }
  }
  return resources;
}
