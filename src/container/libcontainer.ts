/**
 * libcontainer's Config as its JSON (libcontainer/configs, cgroups/config_linux.go of runc 1.5): the shape of `config`
 * in state.json. Types only. All fields that Go marks omitempty are optional; runc 1.1 writes them as null or zero.
 */
import type { Integer, LinuxIOPriority, LinuxTimeOffset, Scheduler } from "../oci/config.ts";

export interface LibcontainerHook {
  path: string;
  /** null: only the path. */
  args: string[] | null;
  /** null: the environment of whoever runs the hook. */
  env: string[] | null;
  dir: string;
  /** Nanoseconds. */
  timeout: number | null;
}

export type HookName =
  | "prestart"
  | "createRuntime"
  | "createContainer"
  | "startContainer"
  | "poststart"
  | "poststop";

export interface IdMap {
  container_id: number;
  host_id: number;
  size: number;
}

export interface LibcontainerMount {
  source: string;
  destination: string;
  device: string;
  /** MS_*. */
  flags?: number;
  cleared_flags?: number;
  propagation_flags?: number[];
  data?: string;
  rec_attr?: { Attr_set: number; Attr_clr: number; Propagation: number; Userns_fd: number };
  /** 1: tmpcopyup. */
  extensions?: number;
  id_mapping?: { recursive?: boolean; userns_path?: string; uid_mappings?: IdMap[]; gid_mappings?: IdMap[] };
}

export interface DeviceRule {
  /** Code of the letter: "a", "b", "c" or "p". */
  type: number;
  /** -1: all. */
  major: Integer;
  minor: Integer;
  permissions: string;
  allow: boolean;
}

export interface LibcontainerDevice extends DeviceRule {
  path: string;
  file_mode: number;
  uid?: number;
  gid?: number;
}

export interface BlockDevice {
  major: Integer;
  minor: Integer;
}

export interface LibcontainerCgroup {
  name?: string;
  parent?: string;
  path?: string;
  scope_prefix?: string;
  /** Always written: runc 1.1 crashes on a cgroup without any resource. */
  devices: DeviceRule[];
  memory?: Integer;
  memory_reservation?: Integer;
  memory_swap?: Integer;
  cpu_shares?: Integer;
  cpu_quota?: Integer;
  cpu_burst?: Integer;
  cpu_period?: Integer;
  cpu_rt_quota?: Integer;
  cpu_rt_period?: Integer;
  cpuset_cpus?: string;
  cpuset_mems?: string;
  cpu_idle?: Integer;
  pids_limit?: Integer;
  blkio_weight?: number;
  blkio_leaf_weight?: number;
  blkio_weight_device?: (BlockDevice & { weight: number; leafWeight: number })[];
  blkio_throttle_read_bps_device?: (BlockDevice & { rate: Integer })[];
  blkio_throttle_write_bps_device?: (BlockDevice & { rate: Integer })[];
  blkio_throttle_read_iops_device?: (BlockDevice & { rate: Integer })[];
  blkio_throttle_write_iops_device?: (BlockDevice & { rate: Integer })[];
  hugetlb_limit?: { page_size: string; limit: Integer }[];
  oom_kill_disable?: boolean;
  memory_swappiness?: Integer;
  net_prio_ifpriomap?: { interface: string; priority: number }[];
  net_cls_classid_u?: number;
  rdma?: Record<string, { hca_handles?: number; hca_objects?: number }>;
  cpu_weight?: number;
  unified?: Record<string, string>;
  memory_check_before_update?: boolean;
  Systemd?: boolean;
  Rootless?: boolean;
  /** Host uid that owns the cgroup. */
  owner_uid?: number;
}

export interface LibcontainerSeccomp {
  default_action: number;
  architectures: string[] | null;
  flags: string[] | null;
  syscalls: {
    name: string;
    action: number;
    errnoRet: number | null;
    args: { index: number; value: Integer; value_two: Integer; op: number }[];
  }[];
  default_errno_ret: number | null;
  listener_path?: string;
  listener_metadata?: string;
}

export interface LibcontainerConfig {
  no_pivot_root?: boolean;
  rootfs: string;
  umask?: number;
  readonlyfs?: boolean;
  /** MS_*. */
  rootPropagation?: number;
  mounts: LibcontainerMount[] | null;
  devices: LibcontainerDevice[] | null;
  netDevices?: Record<string, { name?: string }>;
  mount_label?: string;
  hostname?: string;
  domainname?: string;
  namespaces: { type: string; path?: string }[] | null;
  capabilities?: Partial<
    Record<"Bounding" | "Effective" | "Inheritable" | "Permitted" | "Ambient", string[] | null>
  >;
  networks?: { type: string }[] | null;
  cgroups: LibcontainerCgroup;
  apparmor_profile?: string;
  process_label?: string;
  oom_score_adj?: number;
  uid_mappings?: IdMap[] | null;
  gid_mappings?: IdMap[] | null;
  mask_paths?: string[] | null;
  readonly_paths?: string[] | null;
  sysctl?: Record<string, string> | null;
  seccomp?: LibcontainerSeccomp | null;
  no_new_privileges?: boolean;
  Hooks?: Partial<Record<HookName, LibcontainerHook[] | null>> | null;
  /** Of the runtime-spec that the runtime implements. */
  version: string;
  /** Annotations as "key=value", and at the end "bundle=<path>". */
  labels: string[] | null;
  no_new_keyring?: boolean;
  intel_rdt?: {
    closID?: string;
    schemata?: string[];
    l3_cache_schema?: string;
    memBwSchema?: string;
    enableMonitoring?: boolean;
  } | null;
  memory_policy?: { mode?: number; flags?: number; nodes?: Integer[] };
  rootless_euid?: boolean;
  rootless_cgroups?: boolean;
  time_offsets?: Record<string, LinuxTimeOffset>;
  scheduler?: Scheduler;
  personality?: { domain: number };
  io_priority?: LinuxIOPriority;
  exec_cpu_affinity?: { Initial: Integer[] | null; Final: Integer[] | null };
}
