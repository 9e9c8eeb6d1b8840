/**
 * What of a container's config.json an exec depends on, from its state.json: the bundle may be gone, or have another
 * container's file by now. The reverse of build-config.ts, as far as libcontainer's Config has what the spec has.
 */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import type {
  Integer,
  LinuxCapabilities,
  LinuxIDMapping,
  LinuxMemoryPolicy,
  LinuxNamespace,
  LinuxNamespaceType,
  LinuxSeccomp,
  Process,
  Spec,
} from "../oci/config.ts";
import { NAMESPACE_NAMES } from "./build-config.ts";
import { ACTIONS, GO_NAMES, OPERATORS } from "./build-seccomp.ts";
import type { IdMap, LibcontainerConfig, LibcontainerSeccomp } from "./libcontainer.ts";
import { readLabels } from "./state.ts";
import { readState } from "./store.ts";

/**
 * What state.json holds of a container's config.json; undefined for the first state.json of a launch that was killed
 * before it wrote the whole one: that has no filter, and an exec must not go without.
 */
export function readSpec(root: string, id: string): Spec | undefined {
  const { config } = readState(root, id);
  return config.mounts === null ? undefined : specOfConfig(config);
}

/**
 * The spec of a state.json of bunc or runc. Of `process` it has what a process without it takes from the container; its
 * arguments, environment, directory and user are nowhere.
 * @throws BuncError for a filter of a newer runtime
 */
export function specOfConfig(config: LibcontainerConfig): Spec {
  const { annotations } = readLabels(config.labels);
  const linux: NonNullable<Spec["linux"]> = {
    namespaces: (config.namespaces ?? []).flatMap(namespaceOf),
  };
  if (config.uid_mappings?.length) linux.uidMappings = config.uid_mappings.map(mappingOf);
  if (config.gid_mappings?.length) linux.gidMappings = config.gid_mappings.map(mappingOf);
  if (config.mount_label) linux.mountLabel = config.mount_label;
  if (config.seccomp) linux.seccomp = seccompOf(config.seccomp);
  if (config.personality)
    linux.personality = { domain: config.personality.domain === abi.PER_LINUX32 ? "LINUX32" : "LINUX" };
  const policy = config.memory_policy && policyOf(config.memory_policy);
  if (policy) linux.memoryPolicy = policy;
  const cpus = config.cgroups?.cpuset_cpus;
  if (cpus) linux.resources = { cpu: { cpus } };
  return {
    ociVersion: config.version ?? "",
    root: { path: config.rootfs },
    process: processOf(config),
    linux,
    ...(annotations ? { annotations } : {}),
  };
}

function processOf(config: LibcontainerConfig): Process {
  const process: Process = { cwd: "/", user: { uid: 0, gid: 0 } };
  if (config.umask !== undefined && config.umask !== null) process.user.umask = config.umask;
  if (config.capabilities) {
    const { Bounding, Effective, Inheritable, Permitted, Ambient } = config.capabilities;
    const sets = {
      bounding: Bounding,
      effective: Effective,
      inheritable: Inheritable,
      permitted: Permitted,
      ambient: Ambient,
    };
    const given: LinuxCapabilities = {};
    for (const name of Object.keys(sets) as (keyof typeof sets)[]) {
      const list = sets[name];
      if (list) given[name] = list;
    }
    process.capabilities = given;
  }
  if (config.process_label) process.selinuxLabel = config.process_label;
  if (config.apparmor_profile) process.apparmorProfile = config.apparmor_profile;
  if (config.no_new_privileges) process.noNewPrivileges = true;
  if (typeof config.oom_score_adj === "number") process.oomScoreAdj = config.oom_score_adj;
  if (config.scheduler) process.scheduler = config.scheduler;
  if (config.io_priority) process.ioPriority = config.io_priority;
  const affinity = config.exec_cpu_affinity;
  const initial = numbersOf(affinity?.Initial);
  const final = numbersOf(affinity?.Final);
  if (initial || final)
    process.execCPUAffinity = { ...(initial ? { initial } : {}), ...(final ? { final } : {}) };
  return process;
}

function namespaceOf({ type, path }: { type: string; path?: string }): LinuxNamespace[] {
  for (const name of Object.keys(NAMESPACE_NAMES) as LinuxNamespaceType[]) {
    if (NAMESPACE_NAMES[name] === type) return [path ? { type: name, path } : { type: name }];
  }
  return [];
}

function mappingOf({ container_id, host_id, size }: IdMap): LinuxIDMapping {
  return { containerID: container_id, hostID: host_id, size };
}

/** Go's unix.CPUSetDynamic, words of 64 bits, as a list of numbers; undefined for none. */
function numbersOf(words: readonly Integer[] | null | undefined): string | undefined {
  const numbers: number[] = [];
  (words ?? []).forEach((word, at) => {
    for (let bits = BigInt.asUintN(64, BigInt(word)), n = at * 64; bits > 0n; bits >>= 1n, n++)
      if (bits & 1n) numbers.push(n);
  });
  return numbers.length > 0 ? numbers.join(",") : undefined;
}

function policyOf({
  mode,
  flags = 0,
  nodes,
}: NonNullable<LibcontainerConfig["memory_policy"]>): LinuxMemoryPolicy | undefined {
  const modes: readonly (LinuxMemoryPolicy["mode"] | undefined)[] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
  ];
  const found = modes[mode ?? 0];
  if (!found) return undefined;
  const bits = [
    ["MPOL_F_NUMA_BALANCING", abi.MPOL_F_NUMA_BALANCING],
    ["MPOL_F_RELATIVE_NODES", abi.MPOL_F_RELATIVE_NODES],
    ["MPOL_F_STATIC_NODES", abi.MPOL_F_STATIC_NODES],
  ] as const;
  const set = bits.filter(([, bit]) => flags & bit).map(([name]) => name);
  const list = numbersOf(nodes);
  return { mode: found, ...(set.length ? { flags: set } : {}), ...(list ? { nodes: list } : {}) };
}

/** The profile that buildSeccomp, or runc, has written. */
function seccompOf(kept: LibcontainerSeccomp): LinuxSeccomp {
  const profile: LinuxSeccomp = { defaultAction: known(ACTIONS, kept.default_action, "action") };
  if (typeof kept.default_errno_ret === "number") profile.defaultErrnoRet = kept.default_errno_ret;
  if (kept.architectures?.length) profile.architectures = kept.architectures.map(architecture);
  profile.flags = (kept.flags ?? []) as NonNullable<LinuxSeccomp["flags"]>;
  if (kept.listener_path) profile.listenerPath = kept.listener_path;
  if (kept.listener_metadata) profile.listenerMetadata = kept.listener_metadata;
  profile.syscalls = (kept.syscalls ?? []).map(({ name, action, errnoRet, args }) => ({
    names: [name],
    action: known(ACTIONS, action, "action"),
    ...(typeof errnoRet === "number" ? { errnoRet } : {}),
    ...(args?.length
      ? {
          args: args.map(({ index, value, value_two, op }) => ({
            index,
            value,
            valueTwo: value_two,
            op: known(OPERATORS, op, "operator"),
          })),
        }
      : {}),
  }));
  return profile;
}

type Architecture = NonNullable<LinuxSeccomp["architectures"]>[number];

function architecture(own: string): Architecture {
  for (const [name, go] of GO_NAMES) if (go === own) return name;
  return `SCMP_ARCH_${own.toUpperCase()}` as Architecture;
}

/** What a number of state.json stands for. A filter must not be left out for want of it. */
function known<T>(names: readonly (T | undefined)[], number: number, what: string): T {
  const name = names[number];
  if (name !== undefined) return name;
  throw new BuncError(`the container's state.json has a seccomp ${what} ${number} that is not known`, {
    code: "state",
    hint: "the runtime that made the container is newer than this one",
  });
}
