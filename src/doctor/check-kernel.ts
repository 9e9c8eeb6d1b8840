/** The kernel, the caller's rights, namespaces and mounts. */
import { capabilityNames } from "../launch/capabilities.ts";
import type { Facts, Finding, Outcome } from "./facts.ts";
import { fatal, isRoot, isRootless, LOOSEN, missing, ok, refusal, setSysctl, warning } from "./finding.ts";

/** Calls that can be done without, and what for. */
const OPTIONAL: Readonly<Record<string, string>> = {
  mount_setattr: "mounts with mapped ids and with recursive options (rro, rnosuid)",
  pidfd_getfd: "a seccomp listener (SCMP_ACT_NOTIFY)",
};

/** Calls that answer EPERM to everyone without CAP_SYS_ADMIN, whatever their arguments: the mounts below try them. */
const MOUNT_CALLS = ["fsopen", "fsmount", "move_mount", "open_tree", "mount_setattr", "fsconfig"];

export function checkKernel(facts: Facts): Finding[] {
  const { release, machine, version } = facts.kernel;
  const name = `Linux ${release} on ${machine}`;
  const found: Finding[] = [];
  if (version >= 5010) found.push(ok("kernel", name));
  else found.push(fatal("kernel", `${name} is older than 5.10`, "boot Linux 5.10 or newer"));
  const there: string[] = [];
  const may = facts.caller.effective.includes("CAP_SYS_ADMIN");
  for (const call in facts.calls) {
    const end = facts.calls[call];
    if (end === "ok" || (end === "EPERM" && !may && MOUNT_CALLS.includes(call))) {
      there.push(call);
      continue;
    }
    const why = end === "ENOSYS" ? "this kernel does not have it, or a filter hides it" : refusal(facts);
    const fix = end === "ENOSYS" && facts.caller.seccomp !== 2 ? "boot a newer kernel" : LOOSEN;
    const use = OPTIONAL[call];
    if (use) found.push(missing(`system call ${call}`, `${why}: no ${use}`, fix));
    else found.push(fatal(`system call ${call}`, why, fix));
  }
  if (there.length) found.push(ok("system calls", there.join(" ")));
  if (facts.start !== "ok") found.push(startFailure(facts));
  return found;
}

function startFailure(facts: Facts): Finding {
  const topic = "starting bunc-init";
  if (facts.start === "EACCES" && (facts.sysctls["vm.memfd_noexec"] ?? 0) > 1) {
    return fatal(
      topic,
      "executable memfds are forbidden (vm.memfd_noexec=2)",
      setSysctl("vm.memfd_noexec", 1),
    );
  }
  return fatal(topic, `clone3 or execveat of a memfd: ${facts.start}`, LOOSEN);
}

/** What runc's default config.json gives to a container. */
const USUAL = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

export function checkCaller(facts: Facts): Finding[] {
  const { caller } = facts;
  const who = `${caller.name || "a user without a name"} (uid ${caller.uid})`;
  const where = caller.userNamespace ? ", in a user namespace" : "";
  if (isRootless(facts)) {
    if (caller.uid === 0) {
      return [
        warning(
          "caller",
          `${who}${where} without CAP_SYS_ADMIN: containers need a user namespace of their own`,
          LOOSEN,
        ),
      ];
    }
    return [ok("caller", `${who}${where}: containers are rootless`)];
  }
  const lost = capabilityNames().filter((name) => !caller.bounding.includes(name));
  const detail = `${who}${where}, with ${caller.effective.length} capabilities`;
  if (lost.length === 0 || caller.bounding.length === 0) return [ok("caller", detail)];
  const usual = USUAL.filter((name) => lost.includes(name));
  // A kernel that is older than a capability does not have it in the set either.
  const old = lost.filter((name) => !["CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"].includes(name));
  if (old.length === 0) return [ok("caller", detail)];
  return [
    warning(
      "caller",
      `${detail}; containers cannot have ${old.join(" ")}${usual.length ? ", which the default config.json asks for" : ""}`,
      LOOSEN,
    ),
  ];
}

/** Options of the kernel's configuration, by the names of config.json. */
const CONFIG: Readonly<Record<string, string>> = {
  mount: "CONFIG_NAMESPACES",
  pid: "CONFIG_PID_NS",
  network: "CONFIG_NET_NS",
  ipc: "CONFIG_IPC_NS",
  uts: "CONFIG_UTS_NS",
  cgroup: "CONFIG_CGROUPS",
  time: "CONFIG_TIME_NS",
};

export function checkNamespaces(facts: Facts): Finding[] {
  const topic = "namespaces";
  const ends = Object.entries(facts.namespaces);
  const there = ends.filter(([, end]) => end === "ok").map(([kind]) => kind);
  const found: Finding[] = [];
  // Without a user namespace there is none at all: that is said there.
  if (there.length === 0 && isRootless(facts) && facts.userNamespaces.create !== "ok") return found;
  if (there.length) found.push(ok(topic, there.join(" ")));
  for (const [kind, end] of ends) {
    if (end === "ok") continue;
    const what = `no ${kind} namespace: ${end}`;
    const fix = namespaceFix(kind, end, facts);
    found.push(kind === "mount" ? fatal(topic, what, fix) : missing(topic, what, fix));
  }
  return found;
}

function namespaceFix(kind: string, end: Outcome, facts: Facts): string {
  if (end === "ENOSPC") {
    const short = kind === "mount" ? "mnt" : kind === "network" ? "net" : kind;
    return setSysctl(`user.max_${short}_namespaces`, 15000);
  }
  if (end === "EINVAL") return `a kernel with ${CONFIG[kind]}=y, or leave it out of linux.namespaces`;
  return facts.caller.userNamespace || facts.caller.seccomp === 2
    ? LOOSEN
    : "see the line about user namespaces";
}

/** File systems without which hardly a config.json works. */
const NEEDED = ["tmpfs", "proc"];

export function checkMounts(facts: Facts): Finding[] {
  const found: Finding[] = [];
  const topic = "mounts";
  const ends = Object.entries(facts.mounts).filter(([type]) => type !== "overlay" && type !== "mknod");
  const there = ends.filter(([, end]) => end === "ok").map(([type]) => type);
  if (there.length) found.push(ok(topic, `${there.join(" ")} can be mounted`));
  for (const [type, end] of ends) if (end !== "ok") found.push(refusedMount(facts, type, end));
  found.push(...checkOverlay(facts));
  if (facts.mounts.mknod !== undefined && isRoot(facts) && facts.mounts.mknod !== "ok") {
    found.push(
      warning("device nodes", `mknod: ${facts.mounts.mknod}; devices of the host are bound instead`, LOOSEN),
    );
  }
  found.push(...checkIdmapped(facts));
  return found;
}

function refusedMount(facts: Facts, type: string, end: Outcome): Finding {
  const topic = "mounts";
  if (end === "ENODEV") {
    const config = type === "mqueue" ? "CONFIG_POSIX_MQUEUE" : type === "cgroup2" ? "CONFIG_CGROUPS" : "it";
    return missing(topic, `this kernel has no ${type}`, `a kernel with ${config}, or leave the mount out`);
  }
  if (end === "EPERM" && (type === "proc" || type === "sysfs") && !isRoot(facts)) {
    const detail = `${type} cannot be mounted in a user namespace: the ${type} of this process is partly covered or read-only`;
    const fix = `uncover it (docker run --security-opt systempaths=unconfined), or bind the host's: {"type": "bind", "source": "/${type === "proc" ? "proc" : "sys"}", "options": ["rbind"]}`;
    return warning(topic, detail, fix);
  }
  if (NEEDED.includes(type)) return fatal(topic, `${type} cannot be mounted: ${end}`, LOOSEN);
  return warning(
    topic,
    `${type} cannot be mounted: ${end}`,
    "leave the mount out of config.json, or bind the host's",
  );
}

function checkOverlay(facts: Facts): Finding[] {
  const topic = "overlayfs";
  const fuse = "install fuse-overlayfs, or boot Linux 5.11 or newer";
  if (!facts.filesystems.includes("overlay")) {
    return [
      missing(
        topic,
        "this kernel has none: image stores have to copy layers",
        "a kernel with CONFIG_OVERLAY_FS",
      ),
    ];
  }
  const end = facts.mounts.overlay;
  if (end === undefined) return [];
  if (end === "ok")
    return [ok(topic, isRoot(facts) ? "can be mounted" : "can be mounted in a user namespace")];
  if (end === "ENODEV") return [missing(topic, "its module cannot be loaded", "as root: modprobe overlay")];
  return [
    warning(
      topic,
      `cannot be mounted: ${end}`,
      isRoot(facts) ? "as root: modprobe overlay; see dmesg" : fuse,
    ),
  ];
}

function checkIdmapped(facts: Facts): Finding[] {
  const topic = "mounts with mapped ids";
  if (isRootless(facts)) {
    return facts.calls.mount_setattr === "ENOSYS" ? [] : [ok(topic, "for root only (mounts[].uidMappings)")];
  }
  const ends = Object.entries(facts.idmapped);
  const good = ends.filter(([, end]) => end === "ok").map(([type]) => type);
  const bad = ends.filter(([, end]) => end !== "ok").map(([type, end]) => `${type} (${end})`);
  const found: Finding[] = [];
  if (good.length) found.push(ok(topic, `on ${good.join(" ")}`));
  if (bad.length) {
    found.push(
      warning(
        topic,
        `not on ${bad.join(", ")}`,
        "sources on ext4, xfs or btrfs (Linux 5.12, 5.15) or tmpfs (6.3), or files that belong to the mapped ids",
      ),
    );
  }
  return found;
}
