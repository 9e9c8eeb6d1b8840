/** `events`: what a container uses, again and again, and that its memory ran out. */
import * as live from "../cgroup/live.ts";
import type { CgroupPaths } from "../cgroup/names.ts";
import { type OomWatch, watchOom } from "../cgroup/oom.ts";
import { readStats } from "../cgroup/stats.ts";
import type { CgroupStats } from "../cgroup/stats-types.ts";
import { BuncError } from "../errors.ts";
import { closeFd } from "../linux/process.ts";
import { waitReady } from "../linux/wait.ts";
import type { Summary } from "./state.ts";
import { openProcess, statusOf } from "./status.ts";
import { readSummary, statePath } from "./store.ts";

/** What is wanted of watchContainer(). What the functions throw ends it. */
export interface WatchOptions {
  /** Between two statistics; the first come after as long. */
  milliseconds: number;
  stats(stats: CgroupStats): void | Promise<void>;
  /** The memory of the container has run out, at least once since the last call. */
  oom(): void | Promise<void>;
}

/**
 * What a container that is not stopped uses now.
 * @throws BuncError "container does not exist", "container with id X is not running"
 */
export function containerStats(root: string, id: string): CgroupStats {
  const summary = readSummary(root, id);
  refuseStopped(summary, root);
  return readStats(summary.cgroupPaths);
}

function refuseStopped(summary: Summary, root: string): void {
  if (statusOf(summary, statePath(root, summary.id), live) === "stopped") throw stopped(summary.id);
}

function stopped(id: string): BuncError {
  return new BuncError(`container with id ${id} is not running`, { code: "state" });
}

/**
 * Tells what a container uses and when its memory ran out, until it has ended: all its processes have, or it was
 * deleted.
 * @throws BuncError as containerStats(); when the interval is not positive; where OOM cannot be watched
 */
export async function watchContainer(root: string, id: string, options: WatchOptions): Promise<void> {
  const summary = readSummary(root, id);
  if (!(options.milliseconds > 0)) {
    throw new BuncError("duration interval must be greater than 0", { code: "usage" });
  }
  refuseStopped(summary, root);
  const watch = watchOom(summary.cgroupPaths);
  const init = openProcess(summary);
  try {
    await follow(watch, init, summary.cgroupPaths, options);
  } finally {
    watch.close();
    closeFd(init);
  }
}

async function follow(
  watch: OomWatch,
  init: number,
  paths: CgroupPaths,
  { milliseconds, stats, oom }: WatchOptions,
): Promise<void> {
  let next = performance.now() + milliseconds;
  // When init has ended, others of a pid namespace that is not the container's own may go on.
  let initRuns = init >= 0;
  for (;;) {
    const ready = await waitReady(
      initRuns ? [watch.fd, init] : [watch.fd],
      Math.max(next - performance.now(), 0),
    );
    if (ready[1]) initRuns = false;
    // Init may end before the news of what killed it has come.
    const ended = watch.ended() || (!initRuns && live.processes(paths).length === 0);
    if (watch.take() > 0) await oom();
    if (ended) return;
    const now = performance.now();
    if (now < next) continue;
    await stats(readStats(paths));
    // Not more often than wanted, even after a reader that took its time.
    next = Math.max(next + milliseconds, performance.now());
  }
}
