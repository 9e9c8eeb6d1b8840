// A config.json as moby (Docker) writes it for `docker run busybox`.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Config, defaultPath, type Place } from "../rig/config.ts";
import { dockerSeccomp } from "../rig/moby-profile.ts";

/** The capabilities of a container that was given no others. */
export const dockerCapabilities = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FSETID",
  "CAP_FOWNER",
  "CAP_MKNOD",
  "CAP_NET_RAW",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETFCAP",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_KILL",
  "CAP_AUDIT_WRITE",
];

/** Turns a rig's config into what moby would have written for `docker run [-d] --memory 256m --pids-limit 100 IMAGE ARGS`. */
export function dockerConfig(config: Config, place: Place, args: string[]): void {
  const caps = [...dockerCapabilities];
  const file = (name: string, text: string): string => {
    writeFileSync(join(place.bundle, name), text);
    return join(place.bundle, name);
  };
  const etc = {
    "resolv.conf": "nameserver 192.0.2.1\n",
    hostname: "0123456789ab\n",
    hosts: "127.0.0.1\tlocalhost\n172.17.0.2\t0123456789ab\n",
  };
  const device = (major: number, minor: number) => ({ allow: true, type: "c", major, minor, access: "rwm" });
  Object.assign(config, {
    ociVersion: "1.2.1",
    process: {
      user: { uid: 0, gid: 0, additionalGids: [0, 10] },
      args,
      env: [defaultPath, "HOSTNAME=0123456789ab"],
      cwd: "/",
      capabilities: { bounding: caps, effective: caps, permitted: caps },
      apparmorProfile: "",
      oomScoreAdj: 0,
    },
    root: { path: place.rootfs },
    hostname: "0123456789ab",
    mounts: [
      { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
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
      { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"] },
      {
        destination: "/sys/fs/cgroup",
        type: "cgroup",
        source: "cgroup",
        options: ["ro", "nosuid", "noexec", "nodev"],
      },
      {
        destination: "/dev/mqueue",
        type: "mqueue",
        source: "mqueue",
        options: ["nosuid", "noexec", "nodev"],
      },
      {
        destination: "/dev/shm",
        type: "tmpfs",
        source: "shm",
        options: ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"],
      },
      ...Object.entries(etc).map(([name, text]) => ({
        destination: `/etc/${name}`,
        type: "bind",
        source: file(name, text),
        options: ["rbind", "rprivate"],
      })),
    ],
    hooks: {
      // Docker's network set-up: a program that is told the pid and answers nothing.
      prestart: [{ path: "/bin/busybox", args: ["sh", "-c", `cat >${join(place.bundle, "prestart.json")}`] }],
    },
  });
  Object.assign(config.linux, {
    sysctl: { "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647" },
    resources: {
      devices: [
        { allow: false, access: "rwm" },
        device(1, 5),
        device(1, 3),
        device(1, 9),
        device(1, 8),
        device(5, 0),
        device(5, 1),
        { allow: false, type: "c", major: 10, minor: 229, access: "rwm" },
      ],
      memory: { limit: 256 << 20, swap: -1 },
      cpu: { shares: 0 },
      pids: { limit: 100 },
      blockIO: { weight: 0 },
    },
    namespaces: ["mount", "network", "uts", "pid", "ipc", "cgroup"].map((type) => ({ type })),
    seccomp: dockerSeccomp(caps),
    maskedPaths: [
      "/proc/asound",
      "/proc/acpi",
      "/proc/interrupts",
      "/proc/kcore",
      "/proc/keys",
      "/proc/latency_stats",
      "/proc/timer_list",
      "/proc/timer_stats",
      "/proc/sched_debug",
      "/proc/scsi",
      "/sys/firmware",
      "/sys/devices/virtual/powercap",
    ],
    readonlyPaths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
  });
}
