/** Cgroups: layout, controllers, delegation; and systemd. */
import type { CgroupFacts, Facts, Finding } from "./facts.ts";
import { isRootless, missing, ok, warning } from "./finding.ts";

/** Controllers that limits of config.json need, in both versions of cgroups. */
const USED = ["cpu", "cpuset", "memory", "pids"] as const;

const LAYOUTS = {
  v1: "cgroup v1",
  hybrid: "cgroup v1, with cgroup2 beside it (hybrid)",
  v2: "cgroup v2",
  none: "none is mounted",
} as const;

/** What a controller is for, and what makes it appear. */
const ABOUT: Readonly<Record<string, [lost: string, fix: string]>> = {
  cpu: ["no limits of CPU time", "a kernel with CONFIG_CGROUP_SCHED=y"],
  cpuset: ["no choice of CPUs", "add cgroup_enable=cpuset to the kernel's command line and reboot"],
  memory: ["no limits of memory", "add cgroup_enable=memory to the kernel's command line and reboot"],
  pids: ["no limits of processes", "a kernel with CONFIG_CGROUP_PIDS=y"],
  io: ["no limits of block I/O", "a kernel with CONFIG_BLK_CGROUP=y"],
  blkio: ["no limits of block I/O", "a kernel with CONFIG_BLK_CGROUP=y"],
  devices: ["containers can use every device node they can make", "a kernel with CONFIG_CGROUP_DEVICE=y"],
  freezer: ["containers cannot be paused", "a kernel with CONFIG_CGROUP_FREEZER=y"],
};

export function checkCgroups(facts: Facts): Finding[] {
  const { cgroup } = facts;
  if (cgroup.mode === "none") {
    return [
      missing(
        "cgroups",
        `${LAYOUTS.none}: containers run without limits`,
        "as root: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
      ),
    ];
  }
  return [
    ok("cgroups", LAYOUTS[cgroup.mode]),
    ...checkControllers(cgroup),
    ...checkDelegation(facts),
    ...checkDevices(facts),
    ...checkSwap(facts),
  ];
}

function present(cgroup: CgroupFacts): string[] {
  const v1 = cgroup.v1.flatMap(({ controllers }) => controllers.filter((name) => !name.startsWith("name=")));
  return cgroup.mode === "v2" ? (cgroup.v2?.controllers ?? []) : [...v1, ...(cgroup.v2?.controllers ?? [])];
}

function checkControllers(cgroup: CgroupFacts): Finding[] {
  const topic = "cgroup controllers";
  const there = present(cgroup);
  const wanted = cgroup.mode === "v2" ? [...USED, "io"] : [...USED, "blkio", "devices", "freezer"];
  const found = there.length ? [ok(topic, there.join(" "))] : [];
  for (const name of wanted) {
    if (there.includes(name)) continue;
    const [lost, fix] = ABOUT[name]!;
    found.push(missing(topic, `no ${name}: ${lost}`, fix));
  }
  return found;
}

function checkDelegation(facts: Facts): Finding[] {
  const { cgroup, caller } = facts;
  const topic = "cgroup delegation";
  if (cgroup.mode === "v2") return checkV2(facts);
  const closed = cgroup.v1.filter(({ writable }) => writable !== "ok");
  if (closed.length === 0) return [ok(topic, "the caller may make cgroups in all hierarchies")];
  if (isRootless(facts) && caller.uid !== 0) {
    return [
      missing(
        topic,
        "cgroup v1 is not delegated to ordinary users: containers run without limits",
        "boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1 on the kernel's command line)",
      ),
    ];
  }
  const names = closed.map(({ mountPoint, writable }) => `${mountPoint} (${writable})`).join(", ");
  const readOnly = closed.every(({ writable }) => writable === "EROFS");
  return [
    missing(
      topic,
      `no cgroups can be made in ${names}`,
      readOnly ? `mount -o remount,rw ${closed[0]!.mountPoint}` : "run as root of the host",
    ),
  ];
}

/** For a service of the caller's own systemd, whose cgroups are the caller's. */
const SCOPE = "systemd-run --user --scope -p Delegate=yes bunc ..., or bunc --systemd-cgroup ...";

function checkV2({ cgroup, caller, systemd }: Facts): Finding[] {
  const topic = "cgroup delegation";
  const v2 = cgroup.v2!;
  if (v2.writable === "EROFS") {
    return [
      missing(
        topic,
        `${v2.mountPoint} is read-only: containers run without limits`,
        `mount -o remount,rw ${v2.mountPoint}`,
      ),
    ];
  }
  if (v2.writable !== "ok" || v2.procs !== "ok") {
    const detail = `${v2.own} is not the caller's: containers run without limits`;
    const fix =
      caller.uid === 0
        ? "run as root of the host"
        : systemd.running
          ? SCOPE
          : `as root: chown -R ${caller.uid} a cgroup, and start bunc in it`;
    return [missing(topic, detail, fix)];
  }
  const found = [ok(topic, `the caller may make cgroups beside ${v2.own}`)];
  const lost = [...USED, "io"].filter(
    (name) => v2.controllers.includes(name) && !v2.delegated.includes(name),
  );
  if (lost.length) {
    found.push(
      missing(
        topic,
        `the controllers ${lost.join(" ")} are not passed on to the caller: no limits of them`,
        caller.uid === 0
          ? `echo '${lost.map((name) => `+${name}`).join(" ")}' > cgroup.subtree_control in every cgroup above`
          : DELEGATE,
      ),
    );
  }
  return found;
}

const DELEGATE =
  "as root: mkdir -p /etc/systemd/system/user@.service.d && " +
  "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' > /etc/systemd/system/user@.service.d/delegate.conf && " +
  "systemctl daemon-reload; then log in again";

function checkDevices({ cgroup, caller, start }: Facts): Finding[] {
  const topic = "device rules";
  const end = cgroup.deviceFilter;
  if (cgroup.mode !== "v2" || end === undefined || start !== "ok") return [];
  if (caller.uid !== 0 || caller.userNamespace) {
    return [ok(topic, "left out in rootless containers, which can make no device nodes")];
  }
  if (end === "ok") return [ok(topic, "the kernel takes device filters (eBPF)")];
  return [
    missing(
      topic,
      `bpf(2) refuses device filters: ${end}`,
      end === "EPERM"
        ? "give bunc CAP_BPF or CAP_SYS_ADMIN on the host"
        : "a kernel with CONFIG_CGROUP_BPF=y",
    ),
  ];
}

function checkSwap({ cgroup }: Facts): Finding[] {
  if (cgroup.swap !== false) return [];
  return [
    warning(
      "limits of swap",
      "the kernel does not account swap: linux.resources.memory.swap is refused or ignored",
      "add swapaccount=1 to the kernel's command line and reboot, or a kernel with CONFIG_SWAP=y",
    ),
  ];
}

export function checkSystemd({ systemd, caller }: Facts): Finding[] {
  const topic = "systemd";
  if (!systemd.running) {
    return [
      missing(
        topic,
        "not running: no --systemd-cgroup",
        "use bunc's own cgroups (containerd: SystemdCgroup = false; podman: --cgroup-manager cgroupfs)",
      ),
    ];
  }
  const manager = caller.uid === 0 && !caller.userNamespace ? "the system's manager" : "the user's manager";
  if (systemd.version !== undefined) return [ok(topic, `${systemd.version}, ${manager} answers`)];
  return [missing(topic, `${manager} cannot be used: ${systemd.error}`, systemd.hint)];
}
