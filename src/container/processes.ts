/** The processes of a container, as `ps` shows them. */
import * as live from "../cgroup/live.ts";
import { NO_CGROUP } from "../cgroup/write.ts";
import { BuncError } from "../errors.ts";
import type { CgroupOps } from "./cgroups.ts";
import { readSummary } from "./store.ts";

/**
 * Pids of all processes in a container's cgroups, in this process's pid namespace, ascending; none when it has stopped.
 * Some may have ended meanwhile, unless the container is paused.
 * @throws BuncError "container does not exist", or when it has no cgroup (rootless, without delegation)
 */
export function containerProcesses(
  root: string,
  id: string,
  cgroups: Pick<CgroupOps, "processes"> = live,
): number[] {
  const summary = readSummary(root, id);
  // Not (yet) a container: what is in its cgroups may be anybody's.
  if (summary.pid <= 0) return [];
  if (Object.keys(summary.cgroupPaths).length === 0) {
    throw new BuncError("unable to get all container pids: the container has no cgroup", {
      code: "host",
      phase: "cgroup",
      hint: NO_CGROUP,
    });
  }
  return cgroups.processes(summary.cgroupPaths).sort((a, b) => a - b);
}
