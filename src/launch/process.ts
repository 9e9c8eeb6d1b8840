/** The process: identity, limits and rights of the user's program. The order is runc's: what needs rights comes first, then they are dropped. */

import { abi } from "../linux/abi.gen.ts";
import { keepsGroups } from "./annotations.ts";
import { capMask, capSet, capsetArgs } from "./capabilities.ts";
import type { Context } from "./context.ts";
import { type Slot, Struct } from "./program.ts";
import { compileRlimits } from "./rlimits.ts";
import { compileMemoryPolicy, compileScheduling } from "./scheduling.ts";

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
  compileScheduling(c);
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
  let ambient = capMask(capSet(caps.ambient));
  for (let cap = 0; cap < 53; cap++) {
    const raised = ambient % 2 === 1;
    ambient = (ambient - (raised ? 1 : 0)) / 2;
    if (!raised) continue;
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
