/**
 * The exec compiler: a process, and the container it is to join, in; a program of setns out. Pure, as compile.ts is, and
 * from the joined namespaces on the same program.
 */
import { abi } from "../linux/abi.gen.ts";
import type { LinuxNamespaceType, Process, Spec } from "../oci/config.ts";
import { Context, type HostFacts, type InheritedFd, type LaunchSettings, Stage } from "./context.ts";
import { PIDFD_FD, programSteps } from "./finish.ts";
import { cloneFlag, compileHiding, compileLabelFiles, compileOomScore } from "./namespaces.ts";
import { Parts } from "./parts.ts";
import type { Slot } from "./program.ts";
import { compileRlimitRoom } from "./rlimits.ts";
import { bitMask } from "./scheduling.ts";
import { planTerminal } from "./terminal.ts";

/** What is known of the container. */
export interface ExecTarget {
  /** Namespaces of its init that are not those of the caller. */
  join: readonly LinuxNamespaceType[];
  /** Numbers of CPUs that the process may use until it is in its cgroups, and from then on (execCPUAffinity). */
  affinity?: { initial?: readonly number[] | undefined; final?: readonly number[] | undefined };
}

/** Name of the inherited pidfd of the container's init. */
export const INIT_FD = "container-init";

/** Compiles one exec. */
export class ExecProgram {
  readonly context: Context;
  readonly fds: readonly InheritedFd[];
  readonly firstFd: number;

  /**
   * @param spec the container's
   * @param process what to execute instead of the container's own
   */
  constructor(
    spec: Spec,
    process: Process,
    readonly target: ExecTarget,
    settings: LaunchSettings,
    host: HostFacts,
  ) {
    // It makes no namespaces, and no hooks run for it.
    const { namespaces: _, ...linux } = spec.linux ?? {};
    const { hooks: __, ...rest } = spec;
    const c = new Context({ ...rest, process, linux }, settings, host);
    this.context = c;
    c.inherit({ name: INIT_FD, from: { kind: "container-init" } });
    if (settings.pidfdSocket) c.inherit({ name: PIDFD_FD, from: { kind: "pidfd-socket" } });
    planTerminal(c);
    this.fds = c.fds;
    this.firstFd = c.firstFd;
  }

  /** The parts, in the order they are sent. */
  parts(): Parts {
    const join = () => {
      this.compileJoin();
      // Init joins and forks while the rest is compiled.
      return this.context.endPart(Stage.none);
    };
    return new Parts([join, ...programSteps(this.context)]);
  }

  private compileJoin(): void {
    const { context: c, target } = this;
    const { part } = c;
    part.at("namespaces");
    part.op(abi.BUNC_OP_RESET_SIGNALS, []);
    part.op(abi.SYS_prctl, [abi.PR_SET_NAME, "bunc:[exec]"]);
    compileAffinity(c, target.affinity?.initial, "initial");
    compileOomScore(c);
    compileLabelFiles(c);
    if (target.join.includes("user")) compileRlimitRoom(c);
    c.settings.enterCgroup?.(part);
    compileAffinity(c, target.affinity?.final, "final");
    // Before anybody in the container can see it, and so that what is inherited stays out of reach.
    compileHiding(c);
    // Init was put into the rootfs by chroot alone, if it has the caller's mounts.
    const rootfs = target.join.includes("mount") ? undefined : openRootfs(c);
    compileSetns(c, target.join);
    part.at("process");
    part.op(abi.SYS_umask, [0]);
    if (!c.settings.noNewKeyring) {
      part.op(abi.SYS_keyctl, [abi.KEYCTL_JOIN_SESSION_KEYRING, `_ses.${c.settings.id}`], {
        tolerate: [[abi.ENOSYS, 0]],
        about: "unable to join session keyring",
      });
    }
    part.at("rootfs");
    part.op(abi.SYS_openat, [abi.AT_FDCWD, "/", abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0], {
      slot: c.root,
      about: "cannot open the root of the container",
    });
    if (rootfs) enterRootfs(c, rootfs);
  }
}

/** The rootfs of a container without a mount namespace, found with the caller's rights. */
function openRootfs(c: Context): Slot {
  const { rootfs } = c.settings;
  const slot = c.slots.take("rootfs");
  c.part.at("rootfs", "root.path");
  c.part.op(abi.SYS_openat, [abi.AT_FDCWD, rootfs, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0], {
    slot,
    about: `cannot open the rootfs ${JSON.stringify(rootfs)}`,
  });
  return slot;
}

/** As init did (rootfs.ts compilePivot). The pty of a terminal is one of the host's, at what was the root until now. */
function enterRootfs(c: Context, rootfs: Slot): void {
  const { part } = c;
  part.at("pivot", "root.path");
  part.op(abi.SYS_fchdir, [rootfs]);
  part.op(abi.SYS_chroot, ["."], { about: "cannot change the root" });
  part.op(abi.SYS_chdir, ["/"]);
  part.op(abi.SYS_close, [rootfs]);
  c.slots.give(rootfs);
}

/**
 * Joins a container's namespaces, all at once, so that the mounts are the container's no later than its processes can
 * see this one. A pid namespace is entered by a child.
 */
export function compileSetns(c: Context, join: readonly LinuxNamespaceType[]): void {
  const { part } = c;
  const init = c.fd(INIT_FD)!;
  let flags = 0;
  for (const type of join) flags |= cloneFlag(type);
  part.at("namespaces", "linux.namespaces");
  if (flags !== 0) {
    part.op(abi.SYS_setns, [init, flags], {
      about: `cannot join the container's namespaces (${join.join(", ")})`,
      hint: "this needs CAP_SYS_ADMIN, or to be the user who made the container",
    });
  }
  part.op(abi.SYS_close, [init]);
  if (join.includes("pid")) {
    part.op(abi.BUNC_OP_FORK, [0], { about: "cannot start a process in the container's pid namespace" });
  }
  if (join.includes("user")) {
    part.op(abi.SYS_setresgid, [0, 0, 0], { tolerate: [[abi.EINVAL, 0]] });
    part.op(abi.SYS_setresuid, [0, 0, 0], { tolerate: [[abi.EINVAL, 0]] });
  }
}

function compileAffinity(c: Context, cpus: readonly number[] | undefined, name: string): void {
  if (!cpus?.length) return;
  const mask = bitMask(cpus);
  c.part.at("process", `process.execCPUAffinity.${name}`);
  c.part.op(abi.SYS_sched_setaffinity, [0, mask.length, mask], { about: "cannot set the CPU affinity" });
}
