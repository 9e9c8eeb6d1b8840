/** config.json as libcontainer keeps it in state.json (runc's specconv CreateLibcontainerConfig), without the cgroup. */

import { propagationFlag } from "../launch/mount-options.ts";
import { cleanPath } from "../launch/mount-sources.ts";
import { abi } from "../linux/abi.gen.ts";
import type {
  Hook,
  Hooks,
  LinuxIDMapping,
  LinuxMemoryPolicy,
  LinuxNamespace,
  LinuxNamespaceType,
  Process,
  Spec,
} from "../oci/config.ts";
import { buildCgroup, buildDevices } from "./build-cgroup.ts";
import { buildIdMaps, buildMount } from "./build-mounts.ts";
import { buildSeccomp } from "./build-seccomp.ts";
import type { HookName, LibcontainerConfig, LibcontainerHook, LibcontainerMount } from "./libcontainer.ts";
import { OCI_VERSION } from "./state.ts";

/** What the config depends on besides the bundle. */
export interface ConfigInput {
  id: string;
  /** Absolute path of the bundle. */
  bundle: string;
  /** Absolute path of the rootfs. */
  rootfs: string;
  noPivot: boolean;
  noNewKeyring: boolean;
  systemdCgroup: boolean;
  /** bunc does not run as root (runc's RootlessEUID). */
  rootlessEuid: boolean;
  /** Errors about cgroups are ignored (runc's RootlessCgroups). */
  rootlessCgroups: boolean;
  /** The mappings of a user namespace that is joined by path; those of one that is made are in the bundle. */
  joinedIds?: { uid: readonly LinuxIDMapping[]; gid: readonly LinuxIDMapping[] };
}

/** What libcontainer calls the types of namespaces. */
export const NAMESPACE_NAMES: Readonly<Record<LinuxNamespaceType, string>> = {
  pid: "NEWPID",
  network: "NEWNET",
  mount: "NEWNS",
  user: "NEWUSER",
  ipc: "NEWIPC",
  uts: "NEWUTS",
  cgroup: "NEWCGROUP",
  time: "NEWTIME",
};

/** All that runc needs to operate on the container; pure. */
export function buildConfig(spec: Spec, input: ConfigInput): LibcontainerConfig {
  const linux = spec.linux ?? NOTHING;
  const { process } = spec;
  const namespaces = buildNamespaces(linux.namespaces ?? []);
  const user = find(namespaces, "NEWUSER");
  const uids = user ? (input.joinedIds?.uid ?? linux.uidMappings ?? []) : undefined;
  const gids = user ? (input.joinedIds?.gid ?? linux.gidMappings ?? []) : undefined;
  const mounts: LibcontainerMount[] = [];
  const given = spec.mounts ?? [];
  for (let i = 0; i < given.length; i++) mounts.push(buildMount(given[i]!, input.bundle));
  if (user) fillIdMappings(mounts, user.path, uids ?? [], gids ?? []);
  const cgroup = find(namespaces, "NEWCGROUP");
  const writable = cgroup !== undefined && !cgroup.path && mountsCgroupWritable(mounts);
  const owner = writable ? hostId(process?.user.uid ?? 0, uids) : undefined;
  const config: LibcontainerConfig = {
    rootfs: input.rootfs,
    mounts,
    devices: buildDevices(linux.devices ?? [], uids && hostId(0, uids), gids && hostId(0, gids)),
    namespaces,
    cgroups: buildCgroup(spec, input.id, input.systemdCgroup, input.rootlessCgroups, owner),
    version: OCI_VERSION,
    labels: labels(spec.annotations, input.bundle),
    Hooks: buildHooks(spec.hooks),
  };
  if (input.noPivot) config.no_pivot_root = true;
  if (spec.root?.readonly) config.readonlyfs = true;
  if (spec.hostname) config.hostname = spec.hostname;
  if (spec.domainname) config.domainname = spec.domainname;
  if (input.noNewKeyring) config.no_new_keyring = true;
  if (input.rootlessEuid) config.rootless_euid = true;
  if (input.rootlessCgroups) config.rootless_cgroups = true;
  for (const { type, path } of namespaces)
    if (type === "NEWNET" && !path) config.networks = [{ type: "loopback" }];
  if (uids?.length) config.uid_mappings = buildIdMaps(uids);
  if (gids?.length) config.gid_mappings = buildIdMaps(gids);
  setLinux(config, linux);
  if (process) setProcess(config, process);
  return config;
}

const NOTHING: NonNullable<Spec["linux"]> = {};

interface Namespace {
  type: string;
  path?: string;
}

function buildNamespaces(given: readonly LinuxNamespace[]): Namespace[] {
  const built: Namespace[] = [];
  for (let i = 0; i < given.length; i++) {
    const { type, path } = given[i]!;
    built.push(path ? { type: NAMESPACE_NAMES[type], path } : { type: NAMESPACE_NAMES[type] });
  }
  return built;
}

function find(namespaces: readonly Namespace[], type: string): Namespace | undefined {
  for (let i = 0; i < namespaces.length; i++) if (namespaces[i]!.type === type) return namespaces[i];
  return undefined;
}

function labels(annotations: Record<string, string> | undefined, bundle: string): string[] {
  const list: string[] = [];
  for (const key in annotations) list.push(`${key}=${annotations[key]}`);
  list.push(`bundle=${bundle}`);
  return list;
}

/** Mounts with idmap and no mappings of their own get those of the container's user namespace. */
function fillIdMappings(
  mounts: LibcontainerMount[],
  path: string | undefined,
  uids: readonly LinuxIDMapping[],
  gids: readonly LinuxIDMapping[],
): void {
  for (const { id_mapping: mapping } of mounts) {
    if (!mapping || mapping.uid_mappings || mapping.gid_mappings) continue;
    if (path) mapping.userns_path = path;
    else {
      mapping.uid_mappings = buildIdMaps(uids);
      mapping.gid_mappings = buildIdMaps(gids);
    }
  }
}

/** With a cgroup namespace of its own: then the cgroup belongs to the container's user. */
function mountsCgroupWritable(mounts: readonly LibcontainerMount[]): boolean {
  for (const { source, destination, flags = 0 } of mounts)
    if (source === "cgroup" && cleanPath(destination) === "/sys/fs/cgroup" && !(flags & abi.MS_RDONLY))
      return true;
  return false;
}

/** What an id of the container is on the host; undefined when it is not mapped. */
function hostId(id: number, mappings: readonly LinuxIDMapping[] | undefined): number | undefined {
  if (!mappings) return id;
  for (const { containerID, hostID, size } of mappings) {
    if (id >= containerID && id < containerID + size) return hostID + id - containerID;
  }
  return undefined;
}

function setLinux(config: LibcontainerConfig, linux: NonNullable<Spec["linux"]>): void {
  if (linux.rootfsPropagation) {
    const flags = propagationFlag(linux.rootfsPropagation);
    if (flags) config.rootPropagation = flags;
  }
  if (linux.maskedPaths?.length) config.mask_paths = linux.maskedPaths;
  if (linux.readonlyPaths?.length) config.readonly_paths = linux.readonlyPaths;
  if (linux.mountLabel) config.mount_label = linux.mountLabel;
  if (linux.sysctl && Object.keys(linux.sysctl).length > 0) config.sysctl = linux.sysctl;
  if (linux.timeOffsets && Object.keys(linux.timeOffsets).length > 0) config.time_offsets = linux.timeOffsets;
  if (linux.netDevices && Object.keys(linux.netDevices).length > 0)
    config.netDevices = linux.netDevices as never;
  const seccomp = linux.seccomp && buildSeccomp(linux.seccomp);
  if (seccomp) config.seccomp = seccomp;
  if (linux.personality) {
    config.personality = { domain: linux.personality.domain === "LINUX32" ? abi.PER_LINUX32 : abi.PER_LINUX };
  }
  const rdt = linux.intelRdt;
  if (rdt) {
    config.intel_rdt = {
      ...(rdt.closID ? { closID: rdt.closID } : {}),
      ...(rdt.schemata?.length ? { schemata: rdt.schemata } : {}),
      ...(rdt.l3CacheSchema ? { l3_cache_schema: rdt.l3CacheSchema } : {}),
      ...(rdt.memBwSchema ? { memBwSchema: rdt.memBwSchema } : {}),
      ...(rdt.enableMonitoring ? { enableMonitoring: true } : {}),
    };
  }
  if (linux.memoryPolicy) config.memory_policy = memoryPolicy(linux.memoryPolicy);
}

function memoryPolicy({
  mode,
  flags,
  nodes,
}: LinuxMemoryPolicy): NonNullable<LibcontainerConfig["memory_policy"]> {
  const modes = {
    MPOL_DEFAULT: abi.MPOL_DEFAULT,
    MPOL_PREFERRED: abi.MPOL_PREFERRED,
    MPOL_BIND: abi.MPOL_BIND,
    MPOL_INTERLEAVE: abi.MPOL_INTERLEAVE,
    MPOL_LOCAL: abi.MPOL_LOCAL,
    MPOL_PREFERRED_MANY: abi.MPOL_PREFERRED_MANY,
    // Newer than the headers of Debian 12 (Linux 6.9).
    MPOL_WEIGHTED_INTERLEAVE: 6,
  };
  const bits = {
    MPOL_F_NUMA_BALANCING: abi.MPOL_F_NUMA_BALANCING,
    MPOL_F_RELATIVE_NODES: abi.MPOL_F_RELATIVE_NODES,
    MPOL_F_STATIC_NODES: abi.MPOL_F_STATIC_NODES,
  };
  return {
    mode: modes[mode],
    flags: (flags ?? []).reduce((sum: number, name) => sum | bits[name], 0),
    nodes: cpuSet(nodes ?? "") ?? [],
  };
}

function setProcess(config: LibcontainerConfig, process: Process): void {
  if (process.oomScoreAdj !== undefined) config.oom_score_adj = process.oomScoreAdj;
  if (process.noNewPrivileges) config.no_new_privileges = true;
  if (process.user.umask !== undefined) config.umask = process.user.umask;
  if (process.selinuxLabel) config.process_label = process.selinuxLabel;
  const sets = process.capabilities;
  if (sets) {
    const built: NonNullable<LibcontainerConfig["capabilities"]> = {};
    if (sets.bounding?.length) built.Bounding = sets.bounding;
    if (sets.effective?.length) built.Effective = sets.effective;
    if (sets.inheritable?.length) built.Inheritable = sets.inheritable;
    if (sets.permitted?.length) built.Permitted = sets.permitted;
    if (sets.ambient?.length) built.Ambient = sets.ambient;
    config.capabilities = built;
  }
  if (process.scheduler) config.scheduler = process.scheduler;
  if (process.ioPriority) config.io_priority = process.ioPriority;
  const affinity = process.execCPUAffinity;
  if (affinity) {
    const initial = cpuSet(affinity.initial ?? "");
    const final = cpuSet(affinity.final ?? "");
    if (initial || final) config.exec_cpu_affinity = { Initial: initial ?? null, Final: final ?? null };
  }
}

/** A checked list of numbers ("0-3,7") as Go's unix.CPUSetDynamic: words of 64 bits; undefined for none. */
function cpuSet(list: string): (number | bigint)[] | undefined {
  const words: bigint[] = [];
  for (const entry of list.split(",")) {
    const [first, last = first] = entry.trim().split("-");
    if (!first) continue;
    for (let n = Number(first); n <= Number(last); n++) {
      const word = n >> 6;
      while (words.length <= word) words.push(0n);
      words[word]! |= 1n << BigInt(n & 63);
    }
  }
  if (words.length === 0) return undefined;
  return words.map((word) => (word <= Number.MAX_SAFE_INTEGER ? Number(word) : word));
}

/** All six kinds; null for none, as Go writes them. */
function buildHooks(hooks: Hooks | undefined): Record<HookName, LibcontainerHook[] | null> {
  const built: Record<HookName, LibcontainerHook[] | null> = {
    createContainer: null,
    createRuntime: null,
    poststart: null,
    poststop: null,
    prestart: null,
    startContainer: null,
  };
  if (!hooks) return built;
  for (const name in built) {
    const list = hooks[name as HookName];
    if (list?.length) built[name as HookName] = list.map(buildHook);
  }
  return built;
}

const NANOSECONDS = 1_000_000_000;

function buildHook(hook: Hook): LibcontainerHook {
  return {
    path: hook.path,
    args: hook.args ?? null,
    env: hook.env ?? null,
    dir: "",
    timeout: hook.timeout === undefined ? null : hook.timeout * NANOSECONDS,
  };
}
