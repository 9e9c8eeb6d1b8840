/** The config.json that `spec` writes, the same as runc's, and how Go writes it. */
import type { Mount, Spec } from "./config.ts";

/** The version of the runtime-spec this runtime implements. */
export const OCI_VERSION = "1.3.0";

const CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/**
 * The spec that `spec` writes, as runc 1.5.1 does (libcontainer/specconv/example.go).
 * @param cgroup2 whether /sys/fs/cgroup is the unified hierarchy: the container then gets a cgroup namespace too
 */
export function defaultSpec(cgroup2 = false): Spec {
  return {
    ociVersion: OCI_VERSION,
    process: {
      terminal: true,
      user: { uid: 0, gid: 0 },
      args: ["sh"],
      env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
      cwd: "/",
      capabilities: {
        bounding: [...CAPABILITIES],
        effective: [...CAPABILITIES],
        permitted: [...CAPABILITIES],
      },
      rlimits: [{ type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: "rootfs", readonly: true },
    hostname: "runc",
    mounts: defaultMounts(),
    linux: {
      resources: { devices: [{ allow: false, access: "rwm" }] },
      namespaces: [
        { type: "pid" },
        { type: "network" },
        { type: "ipc" },
        { type: "uts" },
        { type: "mount" },
        ...(cgroup2 ? [{ type: "cgroup" as const }] : []),
      ],
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

function defaultMounts(): Mount[] {
  return [
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
  ];
}

/**
 * The spec that `spec --rootless` writes: what a user without privileges may ask for (ToRootless in example.go).
 * @param uid the effective user id of the caller, to be root in the container
 * @param gid the effective group id of the caller
 */
export function rootlessSpec(uid: number, gid: number, cgroup2 = false): Spec {
  const spec = defaultSpec(cgroup2);
  const { namespaces = [], maskedPaths, readonlyPaths } = spec.linux!;
  spec.linux = {
    uidMappings: [{ containerID: 0, hostID: uid, size: 1 }],
    gidMappings: [{ containerID: 0, hostID: gid, size: 1 }],
    namespaces: [...namespaces.filter(({ type }) => type !== "network"), { type: "user" }],
    maskedPaths,
    readonlyPaths,
  };
  spec.mounts = spec.mounts!.map((mount) => {
    if (mount.destination === "/sys") {
      // A new sysfs needs a network namespace of one's own.
      return {
        destination: "/sys",
        type: "none",
        source: "/sys",
        options: ["rbind", "nosuid", "noexec", "nodev", "ro"],
      };
    }
    const options = mount.options?.filter((option) => !/^[ug]id=/.test(option));
    return { ...mount, ...(options ? { options } : {}) };
  });
  return spec;
}

/**
 * A spec as the text of a config.json, as Go's json.MarshalIndent(spec, "", "\t") writes it: indented by tabs, the
 * characters <, >, & and the line separators escaped, bigints as plain integers, no newline at the end. Fields keep
 * the order they have in the object.
 */
export function formatSpec(spec: Spec): string {
  const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
  const exact = (_key: string, value: unknown) =>
    typeof value === "bigint" ? rawJSON(String(value)) : value;
  const text = JSON.stringify(spec, exact, "\t");
  return text.replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
