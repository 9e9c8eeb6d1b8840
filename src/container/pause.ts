/** `pause` and `resume`: all processes of a container stand still, or go on, by the freezer of its cgroups. */
import * as live from "../cgroup/live.ts";
import type { CgroupPaths } from "../cgroup/names.ts";
import { BuncError } from "../errors.ts";
import type { CgroupOps } from "./cgroups.ts";
import { notRunning } from "./kill.ts";
import { statusOf } from "./status.ts";
import { openStateDir } from "./store.ts";

type Freezer = Pick<CgroupOps, "isFrozen" | "thaw"> & { freeze(paths: CgroupPaths): void | Promise<void> };

/**
 * Freezes a container that is created or running, and waits until it stands still.
 * @throws BuncError "container not running" in any other state; when it cannot be frozen, and then it is as it was
 */
export async function pauseContainer(root: string, id: string, cgroups: Freezer = live): Promise<void> {
  const dir = openStateDir(root, id);
  try {
    await dir.lock();
    const summary = dir.summary();
    const status = statusOf(summary, dir.path, cgroups);
    if (status !== "running" && status !== "created") throw notRunning();
    await cgroups.freeze(summary.cgroupPaths);
  } finally {
    dir.close();
  }
}

/**
 * Lets a paused container go on.
 * @throws BuncError "container not paused" in any other state
 */
export async function resumeContainer(root: string, id: string, cgroups: Freezer = live): Promise<void> {
  const dir = openStateDir(root, id);
  try {
    await dir.lock();
    const summary = dir.summary();
    if (statusOf(summary, dir.path, cgroups) !== "paused") {
      throw new BuncError("container not paused", { code: "state" });
    }
    cgroups.thaw(summary.cgroupPaths);
  } finally {
    dir.close();
  }
}
