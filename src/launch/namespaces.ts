/** Namespaces: which flags init is cloned with, which ones it joins, and those it makes itself. */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import type { LinuxNamespaceType } from "../oci/config.ts";
import { type Context, NAMESPACES, type SentPart, Stage } from "./context.ts";
import type { OpOptions, Slot } from "./program.ts";
import { compileRlimitRoom } from "./rlimits.ts";

/** The sign bit of a slot: set when what it keeps failed. */
const SIGN = -(2 ** 63);

/** The kernel's flag of a namespace type. */
export function cloneFlag(type: LinuxNamespaceType): number {
  switch (type) {
    case "user":
      return abi.CLONE_NEWUSER;
    case "ipc":
      return abi.CLONE_NEWIPC;
    case "uts":
      return abi.CLONE_NEWUTS;
    case "network":
      return abi.CLONE_NEWNET;
    case "pid":
      return abi.CLONE_NEWPID;
    case "mount":
      return abi.CLONE_NEWNS;
    case "cgroup":
      return abi.CLONE_NEWCGROUP;
    case "time":
      return abi.CLONE_NEWTIME;
  }
}

/** How init is born: its clone flags, and the pid namespace that the parent's thread enters for it. */
export interface Birth {
  flags: number;
  /** Name of the inherited descriptor of a pid namespace to be born in. */
  pidns: string | undefined;
}

/** Name of the inherited descriptor of a joined namespace. */
export function joinedFd(type: LinuxNamespaceType): string {
  return `ns:${type}`;
}

/**
 * Decides how init is born and declares the descriptors of joined namespaces. A pid namespace applies to children
 * only, so it is a flag of clone. Beside a user namespace it must belong to that one: then init enters the user
 * namespace first, and goes on in a child (BUNC_OP_FORK). It cannot be born in a user namespace, because an execve
 * there, before ids are mapped, would cost it all rights.
 */
export function planBirth(c: Context): Birth {
  const user = c.namespace("user");
  let flags = 0;
  let pidns: string | undefined;
  for (const type of NAMESPACES) {
    const namespace = c.namespace(type);
    if (!namespace) continue;
    if (namespace.path) {
      c.inherit({
        name: joinedFd(type),
        from: { kind: "namespace", namespace: { type, path: namespace.path }, path: `${namespace.at}.path` },
      });
      if (type === "pid" && !user?.path) pidns = joinedFd(type);
    } else if (type === "pid" && !user) {
      flags |= cloneFlag(type);
    }
  }
  return { flags, pidns };
}

/** Joins the namespace whose descriptor was inherited. */
function join(c: Context, type: LinuxNamespaceType, options: OpOptions = {}): void {
  const fd = c.fd(joinedFd(type));
  if (fd === undefined) return;
  c.part.at("namespaces", `${c.namespace(type)!.at}.path`);
  c.part.op(abi.SYS_setns, [fd, cloneFlag(type)], {
    about: `cannot join the ${type} namespace ${JSON.stringify(c.namespace(type)!.path)}`,
    hint: "the path must be a namespace of this type that you may enter",
    ...options,
  });
}

/** The namespaces that are joined first. */
const EARLY = ["ipc", "uts", "network"] as const;

/**
 * Beside a joined user namespace the others may belong to it or to the host: each is joined with the rights init still
 * has if that is enough, else with those it has in the user namespace.
 */
function joinAroundUser(c: Context): void {
  const tried = new Map<LinuxNamespaceType, Slot>();
  for (const type of EARLY) {
    if (c.fd(joinedFd(type)) === undefined) continue;
    const slot = c.slots.take(`result of joining ${type}`);
    tried.set(type, slot);
    join(c, type, { slot, tolerate: [[abi.EPERM, 0]] });
  }
  join(c, "user");
  for (const [type, slot] of tried) {
    c.part.op(abi.BUNC_OP_EXPECT, [slot, SIGN, 0, abi.EINVAL], { okSkip: 1, tolerate: [[abi.EINVAL, 0]] });
    join(c, type);
    c.slots.give(slot);
  }
}

/** The first parts: everything that needs no answer of the parent, so that init works while TypeScript compiles. */
export function compileNamespaces(c: Context): SentPart[] {
  const sent: SentPart[] = [];
  compileBirth(c);
  compileOomScore(c);
  compileLabelFiles(c);
  const user = c.namespace("user");
  if (user) compileRlimitRoom(c);
  // In another user namespace init has no rights on cgroups any more.
  if (user) c.settings.enterCgroup?.(c.part);
  if (hidesFirst(c)) compileHiding(c);
  if (user?.path) {
    joinAroundUser(c);
  } else {
    // Before a new user namespace is made: these belong to that of the host.
    for (const type of EARLY) join(c, type);
  }
  if (c.isNew("user")) {
    c.part.at("namespaces", user!.at);
    c.part.op(abi.SYS_unshare, [abi.CLONE_NEWUSER], {
      about: "cannot make a user namespace",
      hint: "this host may allow none: see /proc/sys/user/max_user_namespaces",
    });
    sent.push(c.endPart(Stage.user));
  }
  if (user && (c.isNew("pid") || (user.path && c.namespace("pid")))) compileFork(c);
  compileUnshare(c);
  c.settings.netDevices?.compileChecks(c);
  c.part.at("namespaces");
  sent.push(c.endPart(Stage.namespaces));
  return sent;
}

/** What an image of bunc-init begins with, and loses in an execve. */
export function compileBirth(c: Context): void {
  c.part.at("namespaces");
  c.part.op(abi.BUNC_OP_RESET_SIGNALS, [c.settings.waitForStart ? 1 : 0]);
  c.part.op(abi.SYS_prctl, [abi.PR_SET_NAME, "bunc:[init]"]);
}

/** The score is written while /proc is the host's, and init may still write to its own files there. */
export function compileOomScore(c: Context): void {
  const score = c.process.oomScoreAdj;
  if (score === undefined) return;
  const text = new TextEncoder().encode(String(score));
  c.part.at("process", "process.oomScoreAdj");
  c.part.op(
    abi.BUNC_OP_WRITE_AT,
    [abi.AT_FDCWD, "/proc/self/oom_score_adj", abi.O_WRONLY | abi.O_CLOEXEC, text, text.length],
    { about: `cannot set oomScoreAdj to ${score}`, hint: "lowering it needs CAP_SYS_RESOURCE" },
  );
}

/**
 * Nobody in a container may look into init's memory or descriptors, now or at a later exec into it, or reach the host
 * through its /proc/PID/root. For whom it is hidden then, renew.ts says.
 */
export function compileHiding(c: Context): void {
  c.part.at("process").op(abi.SYS_prctl, [abi.PR_SET_DUMPABLE, 0, 0, 0, 0], { about: "cannot hide init" });
  c.part.at("namespaces");
}

/**
 * Whether init hides before it is in any user namespace. Root of one that it joins could look into it from that moment
 * on. So could, where a new one belongs to root of the host, who is that root in another container that sees init's pid:
 * whoever owns a user namespace has every capability in it, even who has none otherwise (user_namespaces(7)). An ordinary
 * user's init hides only when its user namespace has its ids: newuidmap wants to see in /proc whose process it is.
 */
export function hidesFirst(c: Context): boolean {
  return !c.settings.rootless || Boolean(c.namespace("user")?.path);
}

function compileUnshare(c: Context): void {
  let flags = 0;
  const made: string[] = [];
  for (const type of ["mount", "uts", "ipc", "network", "time"] as const) {
    if (!c.isNew(type)) continue;
    flags |= cloneFlag(type);
    made.push(type);
  }
  if (!flags) return;
  c.part.at("namespaces", "linux.namespaces");
  c.part.op(abi.SYS_unshare, [flags], {
    about: `cannot make new namespaces (${made.join(", ")})`,
    hint: "this needs CAP_SYS_ADMIN, and room below the limits in /proc/sys/user",
  });
}

/**
 * A pid namespace beside a user namespace: made or entered with the rights init has there, which takes effect
 * only in a child. The child has the same parent (CLONE_PARENT); the parent learns its pid from the event.
 */
function compileFork(c: Context): void {
  if (c.isNew("pid")) {
    c.part.at("namespaces", c.namespace("pid")!.at);
    c.part.op(abi.BUNC_OP_FORK, [abi.CLONE_NEWPID], { about: "cannot make a pid namespace" });
  } else {
    join(c, "pid");
    c.part.op(abi.BUNC_OP_FORK, [0], { about: "cannot start a process in the joined pid namespace" });
  }
}

/**
 * The clocks of a new time namespace, set before any process is in it; and before init takes another user id or is
 * hidden, since its files in /proc belong to root of the host then, which root of a user namespace may not write to.
 */
export function compileClocks(c: Context): void {
  if (!c.isNew("time")) return;
  const offsets = c.spec.linux?.timeOffsets ?? {};
  for (const clock of Object.keys(offsets)) {
    const { secs = 0, nanosecs = 0 } = offsets[clock]!;
    const line = new TextEncoder().encode(`${clock} ${secs} ${nanosecs}\n`);
    c.part.at("namespaces", `linux.timeOffsets.${clock}`);
    c.part.op(
      abi.BUNC_OP_WRITE_AT,
      [abi.AT_FDCWD, "/proc/self/timens_offsets", abi.O_WRONLY | abi.O_CLOEXEC, line, line.length],
      { about: `cannot set the offset of clock ${clock}` },
    );
  }
}

/** The time namespace that unshare made for children: init enters it itself. */
export function compileTime(c: Context): void {
  const { part } = c;
  if (c.isNew("time")) {
    const time = c.slots.take("time namespace");
    part.at("namespaces", c.namespace("time")!.at);
    part.op(
      abi.SYS_openat,
      [abi.AT_FDCWD, "/proc/self/ns/time_for_children", abi.O_RDONLY | abi.O_CLOEXEC, 0],
      { slot: time },
    );
    part.op(abi.SYS_setns, [time, abi.CLONE_NEWTIME], { about: "cannot enter the new time namespace" });
    part.op(abi.SYS_close, [time]);
    c.slots.give(time);
  } else {
    join(c, "time");
  }
}

/** The mount namespace is joined late: until then the host's /proc is there, and can be trusted. */
export function compileMountNamespaceJoin(c: Context): void {
  join(c, "mount");
}

/** The cgroup namespace's root is where its maker is, so it is made after the parent has placed init. */
export function compileCgroupNamespace(c: Context): void {
  if (c.isNew("cgroup")) {
    c.part.at("namespaces", c.namespace("cgroup")!.at);
    c.part.op(abi.SYS_unshare, [abi.CLONE_NEWCGROUP], { about: "cannot make a cgroup namespace" });
  } else {
    join(c, "cgroup");
  }
}

/** The host's /proc, held for the labels of the coming execve: a container's own may be a fake. */
export function compileLabelFiles(c: Context): void {
  const { apparmorProfile, selinuxLabel } = c.process;
  if (apparmorProfile) {
    if (!c.host.apparmor) {
      throw new BuncError(
        "apparmor profile is specified in config, but AppArmor is not enabled on this host",
        {
          code: "host",
          path: "process.apparmorProfile",
          hint: "leave the profile out, or boot with AppArmor",
        },
      );
    }
  }
  const selinuxPath = selinuxLabel ? "process.selinuxLabel" : "linux.mountLabel";
  if ((selinuxLabel || c.spec.linux?.mountLabel) && !c.host.selinux) {
    throw new BuncError("selinux label is specified in config, but selinux is disabled or not supported", {
      code: "host",
      path: selinuxPath,
      hint: "leave the label out, or boot with SELinux",
    });
  }
  if (!apparmorProfile && !selinuxLabel) return;
  c.procfs = c.slots.take("/proc of the host");
  c.part.at("process", apparmorProfile ? "process.apparmorProfile" : "process.selinuxLabel");
  c.part.op(abi.SYS_openat, [abi.AT_FDCWD, "/proc", abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0], {
    slot: c.procfs,
    about: "cannot open /proc",
  });
}

/**
 * The files that the labels are written to, once init is the process that will execute the program: the kernel refuses
 * a write by any other than who has opened them.
 */
export function compileLabelOpening(c: Context): void {
  const { procfs } = c;
  if (procfs === undefined) return;
  const { apparmorProfile, selinuxLabel } = c.process;
  if (apparmorProfile)
    openLabel(c, procfs, "process.apparmorProfile", "apparmor label", "self/attr/apparmor/exec");
  if (selinuxLabel) openLabel(c, procfs, "process.selinuxLabel", "selinux label", "self/attr/exec");
  c.part.op(abi.SYS_close, [procfs]);
  c.slots.give(procfs);
  c.procfs = undefined;
}

function openLabel(c: Context, procfs: Slot, path: string, name: string, file: string): void {
  const slot = c.slots.take(name);
  c.part.at("process", path);
  c.part.op(abi.SYS_openat, [procfs, file, abi.O_WRONLY | abi.O_CLOEXEC, 0], {
    slot,
    about: `cannot open /proc/${file}`,
  });
  c.labels.set(path, slot);
}
