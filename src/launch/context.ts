/**
 * What the launch compiler works from: the validated bundle, the options of the command, facts about the host, and
 * the descriptors init will find open. All of it is plain data, so that compiling stays a pure function.
 */

import type { Layout } from "../cgroup/layout.ts";
import { abi } from "../linux/abi.gen.ts";
import type { LinuxNamespace, LinuxNamespaceType, Process, Spec } from "../oci/config.ts";
import type { HookFile } from "./annotations.ts";
import type { NetDeviceProgram } from "./net-devices.ts";
import { Part, type Slot, Slots } from "./program.ts";

/** What the compiler must know about this host; gathered by the launcher, made up by tests and `explain`. */
export interface HostFacts {
  apparmor: boolean;
  selinux: boolean;
  /** Mount points of the host's proc and sysfs, for --no-pivot only. */
  fullProcMounts: readonly string[];
  /** How cgroups are mounted, undefined when they are not. */
  cgroup: Layout | undefined;
}

/** The options of create and run that the program depends on. */
export interface LaunchSettings {
  id: string;
  /** Absolute path of the bundle. */
  bundle: string;
  /** Absolute path of the rootfs. */
  rootfs: string;
  /** The same without symbolic links, where that matters: with linux.rootfsPropagation. */
  rootfsPlace?: string | undefined;
  noPivot: boolean;
  noNewKeyring: boolean;
  /** Descriptors 3 .. 3 + preserve - 1 stay open in the container. */
  preserve: number;
  /** Init waits for `start` at the exec fifo (create), or goes straight on (run). */
  waitForStart: boolean;
  /** Absolute path of the state directory, with waitForStart. */
  stateDir?: string;
  /** A socket that takes a pidfd of init is passed (--pidfd-socket). */
  pidfdSocket: boolean;
  /** The compiled seccomp filter, when the bundle has a profile. */
  seccomp?: { filter: Uint8Array; flags: number; listener: boolean } | undefined;
  /** Supplementary groups may be set: not in the user namespace of an ordinary user (user_namespaces(7)). */
  setgroups: boolean;
  /** Appends the operations by which init enters its cgroups, when it does so itself. */
  enterCgroup: ((part: Part) => void) | undefined;
  /** The container's cgroups by controller, where linux.cgroupsPath does not tell them (systemd, or no right to make any). */
  cgroupPaths?: Readonly<Record<string, string>>;
  /** The caller's RLIMIT_NOFILE, where it is not what this process has: Bun raises the soft limit of its own. */
  nofile?: { soft: bigint; hard: bigint } | undefined;
  /** The parent is an ordinary user: it cannot open mounts for init. */
  rootless?: boolean;
  /** Network devices that the parent moves into the container. */
  netDevices?: NetDeviceProgram | undefined;
  /** Pid of init in the container's pid namespace: 1 in a new one. */
  innerPid: number;
  /** The environment of hooks that name none of their own. */
  hookEnv: readonly string[];
  /** The files that take what the hooks write. */
  hookFiles?: readonly HookFile[];
}

/** A descriptor of the parent that init inherits. */
export interface InheritedFd {
  name: string;
  /** How the parent gets it. */
  from:
    | { kind: "sync" }
    | { kind: "container-init" }
    | { kind: "state-dir" }
    | { kind: "console-socket" }
    | { kind: "pidfd-socket" }
    | { kind: "hook-file"; file: HookFile }
    | { kind: "namespace"; namespace: LinuxNamespace; path: string }
    | { kind: "tree"; source: string; recursive: boolean; mount: number };
}

/** Stages at which init waits for its parent; the number travels in an event. */
export const Stage = {
  none: 0,
  namespaces: 1,
  mounted: 2,
  listener: 3,
  ready: 4,
  created: 5,
  user: 6,
  /** Of a detached mount, the event's value: the parent maps its ids, which only it may. */
  mapping: 7,
  last: -1,
} as const;

/** A part, and the stage that init reaches at its end. */
export interface SentPart {
  part: Part;
  stage: number;
  /** Stage.mapping: which mount of config.json. */
  mount?: number;
}

/** Namespace types in the order in which they are joined, the user namespace first as it grants the rest. */
export const NAMESPACES: readonly LinuxNamespaceType[] = [
  "user",
  "ipc",
  "uts",
  "network",
  "pid",
  "mount",
  "cgroup",
  "time",
];

/** The compiler's state. */
export class Context {
  readonly process: Process;
  readonly slots = new Slots();
  readonly fds: InheritedFd[] = [{ name: "sync", from: { kind: "sync" } }];
  /** First number of the inherited descriptors, that of the sync socket. */
  readonly firstFd: number;
  part = new Part();
  /** Descriptors of the label files in /proc/self/attr, by the field of config.json. */
  readonly labels = new Map<string, Slot>();
  /** The host's /proc, while the files of the labels are still to be opened. */
  procfs: Slot | undefined;
  /** Its own /proc/self/fd, where the descriptor for the state directory is that of the fifo itself (renew.ts). */
  ownFds: Slot | undefined;
  /** The pty's master, when it is one of the host's. */
  hostMaster: Slot | undefined;
  /** The root of the container's mount tree, once it is made. */
  readonly root: Slot;

  constructor(
    readonly spec: Spec,
    readonly settings: LaunchSettings,
    readonly host: HostFacts,
  ) {
    if (!spec.process) throw new Error("a launch needs process");
    this.process = spec.process;
    this.firstFd = 3 + settings.preserve;
    this.root = this.slots.take("root");
  }

  /** Declares an inherited descriptor; gives its number in init. */
  inherit(fd: InheritedFd): number {
    return this.firstFd + this.fds.push(fd) - 1;
  }

  /** Number of a declared descriptor, or undefined. */
  fd(name: string): number | undefined {
    for (let i = 0; i < this.fds.length; i++) if (this.fds[i]!.name === name) return this.firstFd + i;
    return undefined;
  }

  /** The namespace of this type that the bundle asks for, with its place in the list. */
  namespace(type: LinuxNamespaceType): { path: string | undefined; at: string } | undefined {
    const list = this.spec.linux?.namespaces;
    if (!list) return undefined;
    for (let i = 0; i < list.length; i++) {
      if (list[i]!.type === type) return { path: list[i]!.path || undefined, at: `linux.namespaces[${i}]` };
    }
    return undefined;
  }

  /** A namespace of this type is made for the container. */
  isNew(type: LinuxNamespaceType): boolean {
    const namespace = this.namespace(type);
    return namespace !== undefined && namespace.path === undefined;
  }

  /**
   * Ends the current part: init reads the next one then. With a stage it first tells the parent, which does its share
   * of the work before it sends more; with 0 the end only lets init work while the rest is still compiled.
   */
  endPart(stage: number, value: number | Slot = 0): SentPart {
    const { part } = this;
    part.op(abi.BUNC_OP_PART, [stage, value]);
    return this.take(stage);
  }

  /** The last part, which ends in execve. */
  lastPart(): SentPart {
    return this.take(Stage.last);
  }

  private take(stage: number): SentPart {
    const { part } = this;
    this.part = new Part();
    this.part.at(part.phase, part.path);
    return { part, stage };
  }
}
