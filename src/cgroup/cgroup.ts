/**
 * The cgroups of one container behind one interface, whatever the host has: cgroup v1, v2 or both, and whoever makes
 * them. What is done is compiled first (pure, for `explain` and for the launch) and then run in the parent.
 *
 * The order of a launch:
 *   1. create()        before init exists, or on v1 while it makes its namespaces: directories, controllers, cpuset,
 *                      memory limits. Init is cloned into the descriptor it answers with (CLONE_INTO_CGROUP).
 *   2. adopt(pid)      for drivers that need the process (systemd); cgroupfs has nothing to do.
 *   3. compileEnter()  operations for init itself, before it makes its cgroup namespace and runs anything else. An init
 *                      that was cloned into a user namespace needs descriptors for it (taskFiles). What else there is,
 *                      place() in the parent, takes 8 to 20 ms on v1.
 *   4. limit()         when init has mounted everything, before the first hook: cpu, pids, devices and the rest.
 * Whatever fails after create() has been called is followed by undo().
 */
import type { Part, Slots } from "../launch/program.ts";
import type { HostState } from "../linux/run-part.ts";
import type { Spec } from "../oci/config.ts";
import { CgroupfsGroup } from "./cgroupfs.ts";
import type { Layout } from "./layout.ts";
import type { CgroupPaths } from "./names.ts";

/** A container's cgroups. */
export interface Cgroup {
  readonly driver: "cgroupfs" | "systemd";
  readonly layout: Layout;
  /** For state.json. */
  readonly paths: CgroupPaths;
  /** What of the bundle has no effect here, to be logged. */
  readonly warnings: readonly string[];
  /** Whether create() answers with a descriptor for CLONE_INTO_CGROUP (it may still be refused: then -1). */
  readonly bearsInit: boolean;

  /** The operations of create(), as far as they are known beforehand. */
  compileCreate(): Part;
  /**
   * Appends to a program of init the operations by which it enters the cgroups it was not cloned into.
   *
   * @param fds where init has no right to open them, being in a user namespace: its descriptors of taskFiles()
   */
  compileEnter(part: Part, fds?: readonly number[]): void;
  /** Files that are to be opened (O_WRONLY) after create() and inherited by init for compileEnter(part, fds). */
  taskFiles(): string[];
  /** The operations of limit(). */
  compileLimits(): Part;

  /**
   * Makes the cgroups. On failure nothing of them is left.
   *
   * @returns a descriptor of the cgroup2 directory to clone init into, to be closed by the caller; -1 for none.
   * @throws BuncError "container's cgroup is not empty", "container's cgroup unexpectedly frozen", and all others.
   */
  create(state: HostState): number;
  /** The driver's turn when init exists and waits; `pid` in this process's pid namespace. */
  adopt?(state: HostState, pid: number): void;
  /** Enters init from outside: everywhere on v1; `born` says whether it was cloned into cgroup2. Slow on v1. */
  place(state: HostState, pid: number, born: boolean): void;
  /** Sets the rest of the limits. */
  limit(state: HostState): void;
  /** Ends what runs and whatever stands for the cgroup elsewhere (a unit of systemd); the directories are left. */
  stop?(): Promise<void>;
  /** After a failure: kills what is left and removes what create() made. Never throws. */
  undo(): Promise<void>;
}

/** What a plan is made from. */
export interface CgroupRequest {
  spec: Spec;
  id: string;
  layout: Layout;
  /** Slots of the programs that run in the parent. */
  slots: Slots;
  /** bunc itself runs in a user namespace, where nobody can set device rules; they are left out, as in runc. */
  userNamespace?: boolean;
}

/**
 * Decides what the container's cgroups will be, made by bunc itself; systemd's are planned by planSystemd of systemd.ts,
 * which only --systemd-cgroup loads. Touches nothing; at most reads /proc/self/cgroup and
 * cgroup.controllers, when the bundle makes it necessary.
 *
 * @throws BuncError for a bundle that asks for what this host or bunc cannot do, with the path in config.json.
 */
export function planCgroup(request: CgroupRequest): Cgroup {
  return new CgroupfsGroup(request);
}
