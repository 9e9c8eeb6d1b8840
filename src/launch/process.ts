/**
 * The process: identity, limits and rights of the user's program, and its execve. The order is runc's: what needs
 * rights comes first, then they are dropped.
 */

import { abi } from "../linux/abi.gen.ts";
import { keepsGroups } from "./annotations.ts";
import { capMask, capSet, capsetArgs } from "./capabilities.ts";
import type { Context } from "./context.ts";
import { type Slot, Struct } from "./program.ts";

const IOPRIO_CLASS: Readonly<Record<string, number>> = {
  IOPRIO_CLASS_RT: 1,
  IOPRIO_CLASS_BE: 2,
  IOPRIO_CLASS_IDLE: 3,
};
function rlimit(name: string): number {
  switch (name) {
    case "RLIMIT_AS":
      return abi.RLIMIT_AS;
    case "RLIMIT_CORE":
      return abi.RLIMIT_CORE;
    case "RLIMIT_CPU":
      return abi.RLIMIT_CPU;
    case "RLIMIT_DATA":
      return abi.RLIMIT_DATA;
    case "RLIMIT_FSIZE":
      return abi.RLIMIT_FSIZE;
    case "RLIMIT_LOCKS":
      return abi.RLIMIT_LOCKS;
    case "RLIMIT_MEMLOCK":
      return abi.RLIMIT_MEMLOCK;
    case "RLIMIT_MSGQUEUE":
      return abi.RLIMIT_MSGQUEUE;
    case "RLIMIT_NICE":
      return abi.RLIMIT_NICE;
    case "RLIMIT_NOFILE":
      return abi.RLIMIT_NOFILE;
    case "RLIMIT_NPROC":
      return abi.RLIMIT_NPROC;
    case "RLIMIT_RSS":
      return abi.RLIMIT_RSS;
    case "RLIMIT_RTPRIO":
      return abi.RLIMIT_RTPRIO;
    case "RLIMIT_RTTIME":
      return abi.RLIMIT_RTTIME;
    case "RLIMIT_SIGPENDING":
      return abi.RLIMIT_SIGPENDING;
    case "RLIMIT_STACK":
      return abi.RLIMIT_STACK;
    default:
      return 0;
  }
}

function schedValue(name: string): number {
  switch (name) {
    case "SCHED_OTHER":
      return abi.SCHED_OTHER;
    case "SCHED_FIFO":
      return abi.SCHED_FIFO;
    case "SCHED_RR":
      return abi.SCHED_RR;
    case "SCHED_BATCH":
      return abi.SCHED_BATCH;
    // Reserved in <linux/sched.h>, and refused by the kernel.
    case "SCHED_ISO":
      return 4;
    case "SCHED_IDLE":
      return abi.SCHED_IDLE;
    case "SCHED_DEADLINE":
      return abi.SCHED_DEADLINE;
    case "SCHED_FLAG_RESET_ON_FORK":
      return abi.SCHED_FLAG_RESET_ON_FORK;
    case "SCHED_FLAG_RECLAIM":
      return abi.SCHED_FLAG_RECLAIM;
    case "SCHED_FLAG_DL_OVERRUN":
      return abi.SCHED_FLAG_DL_OVERRUN;
    case "SCHED_FLAG_KEEP_POLICY":
      return abi.SCHED_FLAG_KEEP_POLICY;
    case "SCHED_FLAG_KEEP_PARAMS":
      return abi.SCHED_FLAG_KEEP_PARAMS;
    case "SCHED_FLAG_UTIL_CLAMP_MIN":
      return abi.SCHED_FLAG_UTIL_CLAMP_MIN;
    case "SCHED_FLAG_UTIL_CLAMP_MAX":
      return abi.SCHED_FLAG_UTIL_CLAMP_MAX;
    default:
      return 0;
  }
}

function memoryPolicyValue(name: string): number {
  switch (name) {
    case "MPOL_DEFAULT":
      return abi.MPOL_DEFAULT;
    case "MPOL_PREFERRED":
      return abi.MPOL_PREFERRED;
    case "MPOL_BIND":
      return abi.MPOL_BIND;
    case "MPOL_INTERLEAVE":
      return abi.MPOL_INTERLEAVE;
    case "MPOL_LOCAL":
      return abi.MPOL_LOCAL;
    case "MPOL_PREFERRED_MANY":
      return abi.MPOL_PREFERRED_MANY;
    // Linux 6.9; not in the headers of Debian 12.
    case "MPOL_WEIGHTED_INTERLEAVE":
      return 6;
    case "MPOL_F_NUMA_BALANCING":
      return abi.MPOL_F_NUMA_BALANCING;
    case "MPOL_F_RELATIVE_NODES":
      return abi.MPOL_F_RELATIVE_NODES;
    case "MPOL_F_STATIC_NODES":
      return abi.MPOL_F_STATIC_NODES;
    default:
      return 0;
  }
}

/** Session keyring of its own, unless --no-new-keyring. */
export function compileKeyring(c: Context): void {
  if (c.settings.noNewKeyring) return;
  const ring = c.slots.take("session keyring");
  c.part.at("process");
  c.part.op(abi.SYS_keyctl, [abi.KEYCTL_JOIN_SESSION_KEYRING, `_ses.${c.settings.id}`], {
    slot: ring,
    tolerate: [[abi.ENOSYS, 1]],
    about: "unable to join session keyring",
    hint: "--no-new-keyring goes without one",
  });
  // What the kernel gives a session keyring (possessor all; user view, read, link), and searching for the user,
  // or in a user namespace for others, as runc does.
  const permissions = c.namespace("user") ? 0x3f130008 : 0x3f1b0000;
  c.part.op(abi.SYS_keyctl, [abi.KEYCTL_SETPERM, ring, permissions], {
    about: "unable to mod keyring permissions",
    // An older ring of that name may belong to somebody else by now.
    tolerate: [[abi.EACCES, 0]],
  });
  c.slots.give(ring);
}

/** Host and domain name. */
export function compileNames(c: Context): void {
  for (const [path, call, name] of [
    ["hostname", abi.SYS_sethostname, c.spec.hostname],
    ["domainname", abi.SYS_setdomainname, c.spec.domainname],
  ] as const) {
    if (!name) continue;
    const bytes = new TextEncoder().encode(name);
    c.part.at("process", path).op(call, [bytes, bytes.length], { about: `cannot set the ${path}` });
  }
}

/** linux.sysctl, while /proc is still the host's; the values go to the namespaces that init is in. */
export function compileSysctl(c: Context): void {
  const sysctl = c.spec.linux?.sysctl ?? {};
  for (const key of Object.keys(sysctl)) {
    const value = new TextEncoder().encode(sysctl[key]!);
    c.part.at("sysctl", `linux.sysctl.${key}`);
    c.part.op(
      abi.BUNC_OP_WRITE_AT,
      [
        abi.AT_FDCWD,
        `/proc/sys/${sysctlPath(key)}`,
        abi.O_WRONLY | abi.O_NOFOLLOW | abi.O_CLOEXEC,
        value,
        value.length,
      ],
      { about: `cannot set sysctl ${key}` },
    );
  }
}

/** Dots separate, unless the key uses slashes: then dots are part of names (net/ipv4/conf/eth0.1/forwarding). */
function sysctlPath(key: string): string {
  const dot = key.indexOf(".");
  const slash = key.indexOf("/");
  if (slash >= 0 && (dot < 0 || slash < dot)) return key;
  return key.replace(/[./]/g, (mark) => (mark === "." ? "/" : "."));
}

/** Everything about the process that needs no rights later: scheduling, personality, memory policy, limits, umask. */
export function compileAttributes(c: Context): void {
  const { part, process } = c;
  if (process.noNewPrivileges) {
    part.at("process", "process.noNewPrivileges");
    part.op(abi.SYS_prctl, [abi.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]);
  }
  compileScheduler(c);
  const io = process.ioPriority;
  if (io) {
    part.at("process", "process.ioPriority");
    const value = (IOPRIO_CLASS[io.class]! << 13) | (io.priority ?? 0);
    part.op(abi.SYS_ioprio_set, [abi.IOPRIO_WHO_PROCESS, 0, value], {
      about: "cannot set the I/O priority",
      hint: "the realtime class needs CAP_SYS_ADMIN or CAP_SYS_NICE of the host",
    });
  }
  const personality = c.spec.linux?.personality;
  if (personality) {
    part.at("process", "linux.personality");
    part.op(abi.SYS_personality, [personality.domain === "LINUX32" ? abi.PER_LINUX32 : abi.PER_LINUX], {
      about: "cannot set the personality",
    });
  }
  compileMemoryPolicy(c);
  compileRlimits(c);
  part.at("process", "process.user.umask");
  part.op(abi.SYS_umask, [process.user.umask ?? 0o022]);
}

function compileScheduler(c: Context): void {
  const s = c.process.scheduler;
  if (!s) return;
  let flags = 0;
  for (const flag of s.flags ?? []) flags |= schedValue(flag);
  const policy = schedValue(s.policy);
  const attr = new Struct(48, "sched_attr")
    .u32(0, 48)
    .u32(4, policy)
    .u64(8, flags)
    .u32(16, s.nice ?? 0)
    .u32(20, s.priority ?? 0)
    .u64(24, s.runtime ?? 0)
    .u64(32, s.deadline ?? 0)
    .u64(40, s.period ?? 0);
  c.part.at("process", "process.scheduler");
  // sched_setattr(2): a deadline is refused to a process that may not run on every CPU. The words are runc's.
  const pinned = c.spec.linux?.resources?.cpu?.cpus;
  c.part.op(abi.SYS_sched_setattr, [0, attr, 0], {
    about: "cannot set the scheduler",
    ...(pinned
      ? { hint: "process scheduler can't be used together with AllowedCPUs (resources.cpu.cpus)" }
      : {
          hint: "realtime policies and lower nice values need CAP_SYS_NICE of the host, or RLIMIT_RTPRIO and RLIMIT_NICE",
        }),
  });
}

function compileMemoryPolicy(c: Context): void {
  const policy = c.spec.linux?.memoryPolicy;
  if (!policy) return;
  let mode = memoryPolicyValue(policy.mode);
  for (const flag of policy.flags ?? []) mode |= memoryPolicyValue(flag);
  const nodes = parseNumberList(policy.nodes ?? "");
  const last = nodes.length ? nodes[nodes.length - 1]! : -1;
  const mask = new Uint8Array(Math.max(8, ((last >>> 6) + 1) * 8));
  for (const node of nodes) mask[node >>> 3]! |= 1 << (node & 7);
  c.part.at("process", "linux.memoryPolicy");
  c.part.op(abi.SYS_set_mempolicy, nodes.length ? [mode, mask, mask.length * 8 + 1] : [mode, 0, 0], {
    about: "cannot set the memory policy",
  });
}

/** "0-3,7" as sorted numbers. The list was checked with the bundle. */
export function parseNumberList(list: string): number[] {
  const numbers = new Set<number>();
  for (const range of list.split(",")) {
    if (!range.trim()) continue;
    const [from, to] = range.split("-").map(Number);
    for (let n = from!; n <= (to ?? from!) && n < 4096; n++) numbers.add(n);
  }
  return [...numbers].sort((a, b) => a - b);
}

/** A set of numbers as one hexadecimal number, a bit for each. */
export function maskText(numbers: readonly number[]): string {
  let mask = 0n;
  for (const n of numbers) mask |= 1n << BigInt(n);
  return `0x${mask.toString(16)}`;
}

/** Room for what the runtime itself needs, however low the limit of the program is. */
const LEAST_NOFILE = 4096;

/**
 * Before init enters a user namespace, where it could raise no hard limit any more: all that the program's are set from is
 * as high as it can be. Without the right to do so they stay, which only matters if one is to be raised.
 */
export function compileRlimitRoom(c: Context): void {
  const limits = c.process.rlimits ?? [];
  for (let i = 0; i < limits.length; i++) {
    const { type, hard } = limits[i]!;
    const most = type === "RLIMIT_NOFILE" ? Math.max(Number(hard), LEAST_NOFILE) : 0xffffffffffffffffn;
    const value = new Struct(16, "rlimit64").u64(0, most).u64(8, most);
    c.part.at("process", `process.rlimits[${i}]`);
    c.part.op(abi.SYS_prlimit64, [0, rlimit(type), value, 0], { tolerate: [[abi.EPERM, 0]] });
  }
}

function compileRlimits(c: Context): void {
  const limits = c.process.rlimits ?? [];
  const { nofile } = c.settings;
  if (nofile && !limits.some(({ type }) => type === "RLIMIT_NOFILE")) {
    const value = new Struct(16, "rlimit64").u64(0, nofile.soft).u64(8, nofile.hard);
    c.part.at("process", "");
    c.part.op(abi.SYS_prlimit64, [0, abi.RLIMIT_NOFILE, value, 0], {
      about: "cannot lower RLIMIT_NOFILE again",
    });
  }
  for (let i = 0; i < limits.length; i++) {
    const { type, soft, hard } = limits[i]!;
    const value = new Struct(16, "rlimit64").u64(0, soft).u64(8, hard);
    c.part.at("process", `process.rlimits[${i}]`);
    c.part.op(abi.SYS_prlimit64, [0, rlimit(type), value, 0], {
      about: `error setting rlimits for ready process: error setting rlimit type ${type}`,
      hint: "raising a hard limit needs CAP_SYS_RESOURCE",
    });
  }
}

/** Writes the labels that AppArmor and SELinux apply at the next execve. */
export function compileLabels(c: Context): void {
  const { apparmorProfile, selinuxLabel } = c.process;
  writeLabel(
    c,
    "process.apparmorProfile",
    apparmorProfile && `exec ${apparmorProfile}`,
    "unable to apply apparmor profile",
    `the profile ${JSON.stringify(apparmorProfile)} must be loaded on this host`,
  );
  const hint = `the policy of this host must know ${JSON.stringify(selinuxLabel)}`;
  writeLabel(c, "process.selinuxLabel", selinuxLabel, "can't set process label", hint);
}

function writeLabel(c: Context, path: string, label: string | undefined, about: string, hint: string): void {
  const slot = c.labels.get(path);
  if (!slot || !label) return;
  const bytes = new TextEncoder().encode(label);
  c.part.at("process", path);
  c.part.op(abi.BUNC_OP_WRITE, [slot, bytes, bytes.length], {
    about,
    hint,
  });
  c.part.op(abi.SYS_close, [slot]);
}

/** Bounding set, groups, ids, working directory, capabilities: from here on init has only the program's rights. */
export function compileIdentity(c: Context): void {
  const { part, process } = c;
  const { uid, gid, additionalGids } = process.user;
  const caps = process.capabilities ?? {};
  part.at("process", "process.cwd");
  const changed = c.slots.take("chdir");
  const about = `chdir to cwd (${JSON.stringify(process.cwd)}) set in config.json failed`;
  // A directory that only one of the two may enter: bunc before the change of user, the program's user after it.
  part.op(abi.SYS_chdir, [process.cwd], { slot: changed, tolerate: [[abi.EACCES, 0]], about });
  part.at("process", "process.capabilities.bounding");
  part.op(abi.BUNC_OP_DROP_BOUNDING, [capMask(capSet(caps.bounding))], {
    about: "unable to apply bounding set",
  });
  part.at("process", "process.user");
  part.op(abi.SYS_prctl, [abi.PR_SET_KEEPCAPS, 1, 0, 0, 0]);
  part.op(abi.BUNC_OP_OWN_STREAMS, [uid]);
  if (c.settings.setgroups && !keepsGroups(c.spec)) {
    const groups = new Uint32Array(additionalGids ?? []);
    part.at("process", "process.user.additionalGids");
    part.op(abi.SYS_setgroups, [groups.length, new Uint8Array(groups.buffer)], { about: "setgroups" });
  }
  part.at("process", "process.user.gid");
  part.op(abi.SYS_setresgid, [gid, gid, gid], {
    about: `cannot setgid to gid ${gid}`,
    hint: "in a user namespace linux.gidMappings must map it",
  });
  part.at("process", "process.user.uid");
  part.op(abi.SYS_setresuid, [uid, uid, uid], {
    about: `cannot setuid to uid ${uid}`,
    hint: "in a user namespace linux.uidMappings must map it",
  });
  part.at("process", "process.cwd");
  part.op(abi.BUNC_OP_EXPECT, [changed, -1, 0, abi.EACCES], { okSkip: 1, tolerate: [[abi.EACCES, 0]] });
  part.op(abi.SYS_chdir, [process.cwd], { about });
  part.op(abi.BUNC_OP_CHECK_CWD, [], {
    about:
      "current working directory is outside of container mount namespace root -- possible container breakout detected",
  });
  c.slots.give(changed);
  compileCapabilities(c);
}

function compileCapabilities(c: Context): void {
  const { part } = c;
  const caps = c.process.capabilities ?? {};
  const [header, data] = capsetArgs(capSet(caps.effective), capSet(caps.permitted), capSet(caps.inheritable));
  part.at("process", "process.capabilities");
  part.op(abi.SYS_prctl, [abi.PR_SET_KEEPCAPS, 0, 0, 0, 0]);
  part.op(abi.SYS_capset, [header, data], {
    about: "unable to apply caps",
    hint: "bunc itself must have every capability it gives (see CapPrm in /proc/self/status)",
  });
  part.at("process", "process.capabilities.ambient");
  part.op(abi.SYS_prctl, [abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0], {
    tolerate: [[abi.EINVAL, 0]],
  });
  const ambient = capMask(capSet(caps.ambient));
  for (let cap = 0; cap < 53; cap++) {
    if (Math.floor(ambient / 2 ** cap) % 2 === 0) continue;
    part.op(abi.SYS_prctl, [abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_RAISE, cap, 0, 0], {
      // Not possible without the inheritable bit; runc passes over it as well.
      tolerate: [[abi.EPERM, 0]],
    });
  }
}

/** Loads the seccomp filter; gives the slot of its listener, if it has one. */
export function compileSeccomp(c: Context): Slot | undefined {
  const seccomp = c.settings.seccomp;
  if (!seccomp) return undefined;
  const program = new Struct(16, "sock_fprog").pointer(8, seccomp.filter);
  program.view.setUint16(0, seccomp.filter.length / 8, true);
  const listener = c.slots.take("seccomp listener");
  c.part.at("seccomp", "linux.seccomp");
  c.part.op(abi.SYS_seccomp, [abi.SECCOMP_SET_MODE_FILTER, seccomp.flags, program], {
    slot: listener,
    about: "unable to init seccomp",
  });
  if (seccomp.listener) return listener;
  c.slots.give(listener);
  return undefined;
}
