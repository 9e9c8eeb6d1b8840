/** What `doctor` finds out about a host before it judges: plain values, so that tests can make up hosts. */

/** How something that was tried ended: "ok", or the errno's name. */
export type Outcome = string;

/** The result of a program that was asked. */
export interface ProgramFacts {
  path: string;
  /** Its exit status, or the signal that ended it, or "timeout". */
  status: number | string;
  /** What it printed, both streams, one line. */
  output: string;
}

/** newuidmap or newgidmap, and what /etc/subuid or /etc/subgid gives the caller. */
export interface IdHelperFacts {
  program: string;
  /** Its place, undefined when it is not in $PATH. */
  path?: string;
  /** Set-uid root, or with the file capability it needs. */
  privileged: boolean;
  /** It lies on a mount with nosuid. */
  nosuid: boolean;
  /** The caller's ranges in /etc/subuid or /etc/subgid. */
  ranges: { first: number; count: number }[];
}

/** The caller: who asks, and with which rights. */
export interface CallerFacts {
  uid: number;
  /** "" where /etc/passwd has no name for it. */
  name: string;
  /** Capabilities it has, and those that programs it executes could get. */
  effective: string[];
  bounding: string[];
  noNewPrivs: boolean;
  /** 2 when a seccomp filter is on it. */
  seccomp: number;
  /** It is in a user namespace other than the initial one. */
  userNamespace: boolean;
}

/** One hierarchy of cgroups, and whether the caller may make cgroups where it is. */
export interface HierarchyFacts {
  controllers: string[];
  mountPoint: string;
  /** The caller's own cgroup, as a directory. */
  own: string;
  /** Making a directory there, or for v2 beside it, would be allowed. */
  writable: Outcome;
}

export interface CgroupFacts {
  mode: "v1" | "hybrid" | "v2" | "none";
  v1: HierarchyFacts[];
  /** Its controllers are those of the whole host. */
  v2?: HierarchyFacts & {
    /** Those that reach the caller's own cgroup. */
    delegated: string[];
    /** cgroup.procs and cgroup.subtree_control of the cgroup above may be written, too. */
    procs: Outcome;
  };
  /** Accounting of swap, where it can be seen. */
  swap?: boolean;
  /** Loading a device filter (bpf(2)); undefined when there is no v2. */
  deviceFilter?: Outcome;
}

export interface UserNamespaceFacts {
  /** clone3 with CLONE_NEWUSER by the caller. */
  create: Outcome;
  /** Making a mount namespace in it: what AppArmor's restriction denies. */
  use: Outcome;
  /** The same two for an ordinary user, tried by root as nobody. */
  others?: { create: Outcome; use: Outcome };
  /** By name; null for one that this kernel does not have. */
  sysctls: Record<string, number | null>;
}

export interface SystemdFacts {
  running: boolean;
  /** Its version, when the bus answered. */
  version?: string;
  /** Why the caller's manager (the system's for root) cannot be used. */
  error?: string;
  hint?: string;
}

export interface Facts {
  caller: CallerFacts;
  kernel: { release: string; machine: string; version: number };
  /** System calls by name. */
  calls: Record<string, Outcome>;
  /** clone3 of an executable memfd: everything starts with it. */
  start: Outcome;
  /** Namespaces by the names of config.json, as the caller would make them. */
  namespaces: Record<string, Outcome>;
  /** vm.memfd_noexec and other limits on namespaces: names of /proc/sys with their numbers, null for none. */
  sysctls: Record<string, number | null>;
  userNamespaces: UserNamespaceFacts;
  idHelpers: { uid: IdHelperFacts; gid: IdHelperFacts };
  /** Mapping all of the caller's ranges with the two helpers; undefined when there is nothing to map. */
  idMapping?: string;
  /** File systems mounted in new namespaces: by root as it is, by others in a user namespace. */
  mounts: Record<string, Outcome>;
  /** File systems the kernel knows, or could load a module for. */
  filesystems: string[];
  /** Mounts with mapped ids: by the type of the file system. Empty when the caller cannot make any. */
  idmapped: Record<string, Outcome>;
  cgroup: CgroupFacts;
  seccomp: { actions: Record<string, boolean>; flags: Record<string, boolean> };
  lsm: {
    apparmor: boolean;
    /** undefined: SELinux is not there. */
    selinux?: "enforcing" | "permissive";
    /** The caller's label, of whichever module. */
    label: string;
  };
  criu?: { version: ProgramFacts; check: ProgramFacts };
  systemd: SystemdFacts;
  /** Soft and hard limits by name; -1 for none. */
  limits: Record<string, { soft: number; hard: number }>;
  proc: { mounted: boolean; hidepid: string; subset: string };
  /** The directory of container state (--root), or the nearest directory above it that is there. */
  root: { path: string; nearest: string; writable: Outcome };
  /** The file system of the current directory, where bundles are likely to be. */
  here: { path: string; options: string[] };
  rdt: { cpu: boolean; mounted: boolean };
  /** Programs that commands call. */
  ps: boolean;
}

/** One line of the report. */
export interface Finding {
  topic: string;
  status: "ok" | "warning" | "missing";
  /** Without it no container of this caller starts. */
  essential: boolean;
  /** What is there or not, and what depends on it. */
  detail: string;
  /** What to do, when something is to be done. */
  fix?: string;
}
