/** What the commands ask of the cgroups of a container: an interface, so that tests can do without any. */

import type { CgroupPaths } from "../cgroup/names.ts";

/** All take the directories of a container's cgroups by controller, as a state has them ("" is the unified one). */
export interface CgroupOps {
  isFrozen(paths: CgroupPaths): boolean;
  thaw(paths: CgroupPaths): void;
  /** SIGKILL to all processes, those in child cgroups too; false where there is no cgroup or no right to. */
  killAll(paths: CgroupPaths): boolean | Promise<boolean>;
  /** Pids of all processes, those in child cgroups too. */
  processes(paths: CgroupPaths): number[];
  /** Kills what is left, and removes the cgroups and their child cgroups; throws BuncError when one stays. */
  destroy(paths: CgroupPaths): void | Promise<void>;
}
