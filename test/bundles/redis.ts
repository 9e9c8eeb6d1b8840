// The config.json of containerd's early redis tutorials: OCI 0.4.0, flat capabilities, `platform`, null devices.
import type { Config, Place } from "../rig/config.ts";

/** The config as such tutorials have it; only the port is ours, so that it cannot clash, and the cgroup. */
export function redisConfig(config: Config, place: Place, port: number): void {
  const capabilities: unknown = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
  for (const key of Object.keys(config)) delete config[key];
  Object.assign(config, {
    ociVersion: "0.4.0",
    platform: { os: "linux", arch: "amd64" },
    process: {
      terminal: true,
      user: {},
      args: ["redis-server", "--bind", "0.0.0.0", "--port", String(port)],
      env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
      cwd: "/",
      capabilities,
      rlimits: [{ type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
    },
    root: { path: "rootfs", readonly: true },
    hostname: "shell",
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
      { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev"] },
      {
        destination: "/sys/fs/cgroup",
        type: "cgroup",
        source: "cgroup",
        options: ["nosuid", "noexec", "nodev", "relatime", "ro"],
      },
    ],
    hooks: {},
    linux: {
      devices: null,
      cgroupsPath: `/${place.id}`,
      namespaces: ["pid", "ipc", "uts", "mount"].map((type) => ({ type })),
    },
  });
}
