/** The processes of a container, as `ps` shows them. */
import * as live from "../cgroup/live.ts";
import type { CgroupOps } from "./cgroups.ts";
import { readSummary } from "./store.ts";

/**
 * Pids of all processes in a container's cgroups, in this process's pid namespace, ascending; none when it has stopped.
 * Some may have ended meanwhile, unless the container is paused.
 * @throws BuncError "container does not exist"
 */
export function containerProcesses(
  root: string,
  id: string,
  cgroups: Pick<CgroupOps, "processes"> = live,
): number[] {
  const summary = readSummary(root, id);
  // Not (yet) a container: what is in its cgroups may be anybody's.
  if (summary.pid <= 0) return [];
  return cgroups.processes(summary.cgroupPaths).sort((a, b) => a - b);
}
