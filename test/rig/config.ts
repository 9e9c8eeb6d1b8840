// config.json as the tests write it: the default spec, and the types a test needs to change it with a checked edit.
// Deliberately not the product's own schemas: a test must be able to write what those refuse.

/** Any JSON value; `bigint` is written as an integer of full precision. */
export type Json = null | boolean | number | bigint | string | Json[] | { [key: string]: Json | undefined };

export interface Mount {
  destination: string;
  type?: string;
  source?: string;
  options?: string[];
  uidMappings?: IdMapping[];
  gidMappings?: IdMapping[];
}

export interface IdMapping {
  containerID: number;
  hostID: number;
  size: number;
}

export interface Hook {
  path: string;
  args?: string[];
  env?: string[];
  timeout?: number;
}

export const hookKinds = [
  "prestart",
  "createRuntime",
  "createContainer",
  "startContainer",
  "poststart",
  "poststop",
] as const;
export type HookKind = (typeof hookKinds)[number];

export type CapabilitySets = Partial<
  Record<"bounding" | "effective" | "inheritable" | "permitted" | "ambient", string[]>
>;

export interface Process {
  terminal?: boolean;
  consoleSize?: { height: number; width: number };
  user: { uid: number; gid: number; umask?: number; additionalGids?: number[] };
  args: string[];
  env: string[];
  cwd: string;
  capabilities?: CapabilitySets;
  rlimits?: { type: string; hard: number | bigint; soft: number | bigint }[];
  noNewPrivileges?: boolean;
  oomScoreAdj?: number;
  [other: string]: unknown;
}

export interface Linux {
  cgroupsPath: string;
  namespaces: { type: string; path?: string }[];
  uidMappings?: IdMapping[];
  gidMappings?: IdMapping[];
  devices?: unknown[];
  maskedPaths?: string[];
  readonlyPaths?: string[];
  resources?: {
    devices?: unknown[];
    memory?: unknown;
    cpu?: unknown;
    pids?: unknown;
    [other: string]: unknown;
  };
  seccomp?: unknown;
  sysctl?: Record<string, string>;
  rootfsPropagation?: string;
  [other: string]: unknown;
}

export interface Config {
  ociVersion: string;
  process: Process;
  root: { path: string; readonly?: boolean };
  hostname?: string;
  mounts: Mount[];
  hooks?: Partial<Record<HookKind, Hook[]>>;
  linux: Linux;
  annotations?: Record<string, string>;
  [other: string]: unknown;
}

/** Where a bundle lies on disk. */
export interface Place {
  /** The container's id. */
  id: string;
  /** Absolute path of the bundle directory. */
  bundle: string;
  /** Absolute path of the root filesystem. */
  rootfs: string;
}

/** What `PATH` is in the default spec. */
export const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The spec of `runc spec` without a terminal, in the given cgroup; a fresh object at each call. */
export function defaultConfig(cgroupsPath: string): Config {
  const capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
  return {
    ociVersion: "1.0.2",
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args: ["sh"],
      env: [defaultPath, "TERM=xterm"],
      cwd: "/",
      capabilities: {
        bounding: [...capabilities],
        effective: [...capabilities],
        permitted: [...capabilities],
      },
      rlimits: [{ type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: "rootfs", readonly: true },
    hostname: "bunc-test",
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      {
        destination: "/dev",
        type: "tmpfs",
        source: "tmpfs",
        options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
      },
      {
        destination: "/dev/pts",
        type: "devpts",
        source: "devpts",
        options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
      },
      {
        destination: "/dev/shm",
        type: "tmpfs",
        source: "shm",
        options: ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
      },
      {
        destination: "/dev/mqueue",
        type: "mqueue",
        source: "mqueue",
        options: ["nosuid", "noexec", "nodev"],
      },
      { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"] },
      {
        destination: "/sys/fs/cgroup",
        type: "cgroup",
        source: "cgroup",
        options: ["nosuid", "noexec", "nodev", "relatime", "ro"],
      },
    ],
    linux: {
      cgroupsPath,
      resources: { devices: [{ allow: false, access: "rwm" }] },
      namespaces: ["pid", "network", "ipc", "uts", "mount"].map((type) => ({ type })),
      maskedPaths: [
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/sys/firmware",
        "/proc/scsi",
      ],
      readonlyPaths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
  };
}

/** Every capability of <linux/capability.h>, by number. */
export const capabilityNames =
  "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    .split(" ")
    .map((name) => `CAP_${name}`);

/** Bounding, effective and permitted sets that hold the given capabilities. */
export function capabilitySets(...names: string[]): CapabilitySets {
  return { bounding: names, effective: names, permitted: names };
}

/** The names in a hexadecimal mask of /proc/PID/status, in order of their numbers. */
export function capabilitiesIn(mask: string): string[] {
  const bits = BigInt(`0x${mask}`);
  return capabilityNames.filter((_, number) => ((bits >> BigInt(number)) & 1n) === 1n);
}

/** JSON text of a config: like JSON.stringify, but integers of any size (bigint) stay exact. */
export function configText(config: unknown): string {
  const marked = JSON.stringify(
    config,
    (_, value) => (typeof value === "bigint" ? `\u0001${value}\u0001` : value),
    1,
  );
  return `${marked.replace(/"\\u0001(-?\d+)\\u0001"/g, "$1")}\n`;
}
