/** linux.resources and linux.devices as libcontainer keeps them (runc's specconv CreateCgroupConfig, createDevices). */
import { cpuWeight } from "../cgroup/convert.ts";
import { cleanGroupPath } from "../cgroup/names.ts";
import type {
  LinuxDevice,
  LinuxDeviceCgroup,
  LinuxResources,
  LinuxThrottleDevice,
  Spec,
} from "../oci/config.ts";
import type { DeviceRule, LibcontainerCgroup, LibcontainerDevice } from "./libcontainer.ts";

const ALL = -1;
const CHAR = 99;
const BLOCK = 98;
const ALL_ACCESS = 0o666;
const MODE_BITS = 0o7777;

/** What every container may use beyond its own rules, in specconv's order. */
const RULES: readonly DeviceRule[] = [
  { type: CHAR, major: ALL, minor: ALL, permissions: "m", allow: true },
  { type: BLOCK, major: ALL, minor: ALL, permissions: "m", allow: true },
  { type: CHAR, major: 1, minor: 3, permissions: "rwm", allow: true },
  { type: CHAR, major: 1, minor: 8, permissions: "rwm", allow: true },
  { type: CHAR, major: 1, minor: 7, permissions: "rwm", allow: true },
  { type: CHAR, major: 5, minor: 0, permissions: "rwm", allow: true },
  { type: CHAR, major: 1, minor: 5, permissions: "rwm", allow: true },
  { type: CHAR, major: 1, minor: 9, permissions: "rwm", allow: true },
  { type: CHAR, major: 136, minor: ALL, permissions: "rwm", allow: true },
  { type: CHAR, major: 5, minor: 2, permissions: "rwm", allow: true },
  { type: CHAR, major: 10, minor: 200, permissions: "rwm", allow: true },
];

/** The nodes that every container has, with the places of their rules in RULES. */
const NODES: readonly (readonly [path: string, rule: number])[] = [
  ["/dev/null", 2],
  ["/dev/random", 3],
  ["/dev/full", 4],
  ["/dev/tty", 5],
  ["/dev/zero", 6],
  ["/dev/urandom", 7],
];

function describes(devices: readonly LinuxDevice[], path: string): boolean {
  for (let i = 0; i < devices.length; i++) if (devices[i]!.path === path) return true;
  return false;
}

/** The rules without those of devices that the bundle describes itself. */
function rules(devices: readonly LinuxDevice[]): readonly DeviceRule[] {
  if (devices.length === 0) return RULES;
  const replaced = NODES.filter((node) => describes(devices, node[0])).map((node) => node[1]);
  return RULES.filter((_, i) => !replaced.includes(i));
}

/**
 * The device nodes of the container.
 * @param uid host id of the container's root, which owns them in a user namespace; undefined without one
 */
export function buildDevices(
  devices: readonly LinuxDevice[],
  uid: number | undefined,
  gid: number | undefined,
): LibcontainerDevice[] {
  const built: LibcontainerDevice[] = [];
  for (let i = 0; i < NODES.length; i++) {
    const path = NODES[i]![0];
    if (describes(devices, path)) continue;
    const { major, minor } = RULES[NODES[i]![1]]!;
    built.push({ type: CHAR, major, minor, permissions: "rwm", allow: true, path, file_mode: ALL_ACCESS });
  }
  for (const device of devices) {
    built.push({
      type: (device.type === "u" ? "c" : device.type).charCodeAt(0),
      major: device.major ?? 0,
      minor: device.minor ?? 0,
      permissions: "",
      allow: false,
      path: device.path,
      file_mode: device.fileMode === undefined ? ALL_ACCESS : device.fileMode & MODE_BITS,
      ...(device.uid ? { uid: device.uid } : {}),
      ...(device.gid ? { gid: device.gid } : {}),
    });
  }
  if (uid !== undefined) for (const device of built) device.uid = uid;
  if (gid !== undefined) for (const device of built) device.gid = gid;
  return built;
}

/**
 * The cgroup: where it is and what it limits.
 * @param id names the cgroup where the bundle does not
 */
export function buildCgroup(
  spec: Spec,
  id: string,
  systemd: boolean,
  rootless: boolean,
  ownerUid: number | undefined,
): LibcontainerCgroup {
  const path = spec.linux?.cgroupsPath ?? "";
  const cgroup: LibcontainerCgroup = { devices: [] };
  if (systemd) {
    const parts = path ? path.split(":") : [];
    if (parts[0]) cgroup.parent = parts[0];
    cgroup.scope_prefix = parts[1] ?? "runc";
    cgroup.name = parts[2] ?? id;
  } else if (path) {
    cgroup.path = cleanGroupPath(path);
  } else {
    cgroup.name = id;
  }
  const resources = spec.linux?.resources;
  if (resources) {
    if (resources.devices) {
      cgroup.devices = [];
      for (const rule of resources.devices) cgroup.devices.push(buildRule(rule));
    }
    setLimits(cgroup, resources);
    setDeviceLimits(cgroup, resources);
  }
  cgroup.devices = cgroup.devices.concat(rules(spec.linux?.devices ?? []));
  if (systemd) cgroup.Systemd = true;
  if (rootless) cgroup.Rootless = true;
  if (ownerUid !== undefined) cgroup.owner_uid = ownerUid;
  return cgroup;
}

function buildRule(rule: LinuxDeviceCgroup): DeviceRule {
  return {
    type: (rule.type || "a").charCodeAt(0),
    major: rule.major ?? ALL,
    minor: rule.minor ?? ALL,
    permissions: rule.access ?? "",
    allow: rule.allow,
  };
}

/** Sets a field unless the value is absent or zero, as Go's omitempty leaves it out. */
function set<K extends keyof LibcontainerCgroup>(
  cgroup: LibcontainerCgroup,
  key: K,
  value: LibcontainerCgroup[K] | undefined,
): void {
  if (value) cgroup[key] = value;
}

function setLimits(cgroup: LibcontainerCgroup, { memory, cpu, pids }: LinuxResources): void {
  if (memory) {
    set(cgroup, "memory", memory.limit);
    set(cgroup, "memory_reservation", memory.reservation);
    set(cgroup, "memory_swap", memory.swap);
    // A pointer in Go: 0 is a value.
    if (memory.swappiness !== undefined) cgroup.memory_swappiness = memory.swappiness;
    set(cgroup, "oom_kill_disable", memory.disableOOMKiller);
    set(cgroup, "memory_check_before_update", memory.checkBeforeUpdate);
  }
  if (cpu) {
    set(cgroup, "cpu_shares", cpu.shares);
    if (cpu.shares) cgroup.cpu_weight = cpuWeight(cpu.shares);
    set(cgroup, "cpu_quota", cpu.quota);
    if (cpu.burst !== undefined) cgroup.cpu_burst = cpu.burst;
    set(cgroup, "cpu_period", cpu.period);
    set(cgroup, "cpu_rt_quota", cpu.realtimeRuntime);
    set(cgroup, "cpu_rt_period", cpu.realtimePeriod);
    set(cgroup, "cpuset_cpus", cpu.cpus);
    set(cgroup, "cpuset_mems", cpu.mems);
    if (cpu.idle !== undefined) cgroup.cpu_idle = cpu.idle;
  }
  if (pids?.limit !== undefined) cgroup.pids_limit = pids.limit;
}

function setDeviceLimits(cgroup: LibcontainerCgroup, resources: LinuxResources): void {
  const { blockIO, hugepageLimits, network, rdma, unified } = resources;
  if (blockIO) {
    set(cgroup, "blkio_weight", blockIO.weight);
    set(cgroup, "blkio_leaf_weight", blockIO.leafWeight);
    if (blockIO.weightDevice?.length) {
      cgroup.blkio_weight_device = blockIO.weightDevice.map(({ major, minor, weight, leafWeight }) => ({
        major,
        minor,
        weight: weight ?? 0,
        leafWeight: leafWeight ?? 0,
      }));
    }
    set(cgroup, "blkio_throttle_read_bps_device", throttles(blockIO.throttleReadBpsDevice));
    set(cgroup, "blkio_throttle_write_bps_device", throttles(blockIO.throttleWriteBpsDevice));
    set(cgroup, "blkio_throttle_read_iops_device", throttles(blockIO.throttleReadIOPSDevice));
    set(cgroup, "blkio_throttle_write_iops_device", throttles(blockIO.throttleWriteIOPSDevice));
  }
  if (hugepageLimits?.length) {
    cgroup.hugetlb_limit = hugepageLimits.map(({ pageSize, limit }) => ({ page_size: pageSize, limit }));
  }
  if (network) {
    set(cgroup, "net_cls_classid_u", network.classID);
    if (network.priorities?.length) {
      cgroup.net_prio_ifpriomap = network.priorities.map(({ name, priority }) => ({
        interface: name,
        priority,
      }));
    }
  }
  if (rdma && Object.keys(rdma).length > 0) {
    cgroup.rdma = Object.fromEntries(
      Object.entries(rdma).map(([device, { hcaHandles, hcaObjects }]) => [
        device,
        {
          ...(hcaHandles === undefined ? {} : { hca_handles: hcaHandles }),
          ...(hcaObjects === undefined ? {} : { hca_objects: hcaObjects }),
        },
      ]),
    );
  }
  if (unified && Object.keys(unified).length > 0) cgroup.unified = unified;
}

function throttles(devices: readonly LinuxThrottleDevice[] | undefined) {
  return devices?.length ? devices.map(({ major, minor, rate }) => ({ major, minor, rate })) : undefined;
}
