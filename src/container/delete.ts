/** `delete`: takes back all that a container holds: processes, cgroups, mounts, state; then the poststop hooks run. */

import * as live from "../cgroup/live.ts";
import { BuncError, renderError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError, readText } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { sleep, waitReady } from "../linux/wait.ts";
import type { CgroupOps } from "./cgroups.ts";
import { signalContainer } from "./kill.ts";
import { removeStateDir } from "./remove.ts";
import type { Summary } from "./state.ts";
import { openProcess, statusOf } from "./status.ts";
import { openStateDir, type StateDir } from "./store.ts";
import type { Status } from "./types.ts";

/** runc polls 100 times, 100 ms apart. */
const END_MILLISECONDS = 10_000;

/** What a delete may be given; the defaults are those of the command. */
export interface DeleteOptions {
  /** Takes what goes wrong without stopping the delete: a poststop hook that fails. */
  warn?: (message: string) => void;
  cgroups?: CgroupOps;
  /** How long to wait for init to end after SIGKILL. */
  endMilliseconds?: number;
}

/**
 * Deletes a container that is stopped or created, with `force` any; what `create` left behind when it was killed, too.
 * @throws BuncError in runc's words: "container does not exist" (not with `force`), "cannot delete container X that is
 * not stopped: S", "container init still running"
 */
export async function deleteContainer(
  root: string,
  id: string,
  force: boolean,
  options: DeleteOptions = {},
): Promise<void> {
  let dir: StateDir;
  try {
    dir = openStateDir(root, id);
  } catch (error) {
    if (force && isMissing(error)) return;
    throw error;
  }
  try {
    await deleteAt(dir, force, options);
  } finally {
    dir.close();
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof BuncError && error.fields.code === "not-found";
}

async function deleteAt(dir: StateDir, force: boolean, options: DeleteOptions): Promise<void> {
  const { warn = console.error, cgroups = live } = options;
  const before = read(dir);
  if (before instanceof BuncError) {
    if (!force && !isMissing(before)) throw before;
  } else if (force) {
    // Without the lock: who holds it may wait for what is killed here.
    await kill(before, cgroups);
  } else {
    checkDeletable(dir, statusOf(before, dir.path, cgroups));
  }
  await dir.lock();
  // Another delete, or the create that has failed, may have been quicker.
  if (!dir.isCurrent()) {
    if (force) return;
    throw new BuncError("container does not exist", { code: "not-found" });
  }
  const summary = read(dir);
  if (summary instanceof BuncError) {
    deleteRest(dir, force, summary, warn);
    return;
  }
  if (!force) checkDeletable(dir, statusOf(summary, dir.path, cgroups));
  if (summary.pid > 0) {
    await endInit(summary, cgroups, options.endMilliseconds ?? END_MILLISECONDS);
    await removeCgroups(summary, cgroups, warn);
  } else if (summary.own?.criu) {
    // Its restore was killed: what is in the cgroups is criu, which may go on without it, and the container's.
    await cgroups.killAll(summary.cgroupPaths);
    await removeCgroups(summary, cgroups, warn);
  } else {
    await removeUnused([...new Set(Object.values(summary.cgroupPaths))], cgroups, warn);
  }
  for (const group of summary.rdtGroups) removeRdtGroup(group);
  removeStateDir(dir, summary.own?.mounts);
  await runPoststop(summary, warn);
}

/** SIGKILL to a container that may have ended meanwhile. */
async function kill(summary: Summary, cgroups: CgroupOps): Promise<void> {
  try {
    await signalContainer(summary, abi.SIGKILL, cgroups);
  } catch (error) {
    if (!(error instanceof BuncError) || error.fields.code !== "state") throw error;
  }
}

/** The state, or the error that there is none to be read. */
function read(dir: StateDir): Summary | BuncError {
  try {
    return dir.summary();
  } catch (error) {
    if (error instanceof BuncError) return error;
    throw error;
  }
}

function checkDeletable(dir: StateDir, status: Status): void {
  if (status === "stopped" || status === "created") return;
  throw new BuncError(`cannot delete container ${dir.id} that is not stopped: ${status}`, {
    code: "state",
    hint: "stop it first, or use --force",
  });
}

/**
 * A directory without a state that can be read. Without a state.json no cgroup was made either; runc removes such a
 * directory without --force too, and then says that there is no container.
 */
function deleteRest(dir: StateDir, force: boolean, error: BuncError, warn: (message: string) => void): void {
  if (!force && !isMissing(error)) throw error;
  removeStateDir(dir);
  if (!force) throw error;
  if (!isMissing(error)) {
    warn(`${renderError(error)}; its cgroups, if it has any, are left behind`);
  }
}

/** Kills what still runs and waits until init has ended. */
async function endInit(summary: Summary, cgroups: CgroupOps, milliseconds: number): Promise<void> {
  const init = openProcess(summary);
  if (init === -abi.ESRCH) return;
  if (init < 0) throw pathError("pidfd_open", String(summary.pid), init);
  try {
    await kill(summary, cgroups);
    if ((await waitReady([init], milliseconds))[0]) return;
    throw new BuncError("container init still running", {
      code: "state",
      hint: `process ${summary.pid} has got SIGKILL but does not end; /proc/${summary.pid}/stack tells what it waits for`,
    });
  } finally {
    closeFd(init);
  }
}

async function removeCgroups(
  summary: Summary,
  cgroups: CgroupOps,
  warn: (message: string) => void,
): Promise<void> {
  const { cgroupPaths, sharedPid, rootlessCgroups, systemdCgroup } = summary;
  if (Object.keys(cgroupPaths).length === 0) return;
  // A frozen cgroup of v1 lets nothing end.
  if (cgroups.isFrozen(cgroupPaths)) cgroups.thaw(cgroupPaths);
  // systemd would give what is left a SIGTERM, and time.
  if (sharedPid || systemdCgroup) await cgroups.killAll(cgroupPaths);
  if (systemdCgroup) await stopUnit(cgroupPaths, rootlessCgroups, warn);
  try {
    await cgroups.destroy(cgroupPaths);
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    const message = `unable to remove container's cgroup: ${error.message}`;
    if (!rootlessCgroups) throw new BuncError(message, error.fields);
    warn(message);
  }
}

/** As with runc a unit that cannot be stopped, for want of a bus maybe, does not keep the container. */
async function stopUnit(
  paths: Readonly<Record<string, string>>,
  rootless: boolean,
  warn: (message: string) => void,
): Promise<void> {
  const { stopContainerUnit } = await import("../cgroup/systemd.ts");
  try {
    stopContainerUnit(paths, rootless);
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    warn(renderError(error));
  }
}

/** How often, 50 ms apart, a cgroup is tried to be removed while an init in it ends. */
const ATTEMPTS = 40;

/**
 * Removes the cgroups of a container whose `create` was killed before it had an init, or had noted it. It is not known
 * whether they were there before and whose they are: so only a bunc-init in them and its hooks are killed, and nothing
 * below them is removed (no init has got so far as to make anything there).
 */
async function removeUnused(
  paths: readonly string[],
  cgroups: CgroupOps,
  warn: (message: string) => void,
): Promise<void> {
  let left = paths;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    let result = 0;
    left = left.filter((path) => {
      const answer = sys(abi.SYS_unlinkat, abi.AT_FDCWD, path, abi.AT_REMOVEDIR);
      if (answer < 0 && answer !== -abi.ENOENT) result = answer;
      return answer < 0 && answer !== -abi.ENOENT;
    });
    if (left.length === 0) return;
    const pids = [...new Set(left.flatMap((path) => cgroups.processes({ "": path })))];
    const doomed = pids.filter(isDoomed);
    const others = pids.filter((pid) => isOther(executable(pid)) && !doomed.includes(pid));
    if (result !== -abi.EBUSY || (others.length > 0 && doomed.length === 0)) break;
    for (const pid of doomed) killDoomed(pid);
    await sleep(attempt === 0 ? 2 : 50);
  }
  warn(`not removed, as it may not be the container's: cgroup ${left.join(", ")}`);
}

/** Whether an executable is somebody else's: a child of bunc that has not become bunc-init yet will be that soon. */
function isOther(path: string): boolean {
  return path !== "" && path !== executable("self");
}

/** Whether a process is bunc-init, which runs from a memfd of that name, or a hook that it runs: its child. */
function isDoomed(pid: number): boolean {
  return isInit(pid) || isInit(parentOf(pid));
}

function isInit(pid: number): boolean {
  return executable(pid).startsWith("/memfd:bunc-init");
}

/** Field 4 of /proc/PID/stat, 0 when there is no such process. */
function parentOf(pid: number): number {
  const stat = readText(`/proc/${pid}/stat`, 4096);
  return typeof stat === "number" ? 0 : Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
}

function killDoomed(pid: number): void {
  const fd = sys(abi.SYS_pidfd_open, pid, 0);
  // Asked again, as the pid may have become another's before it was opened.
  if (fd >= 0 && isDoomed(pid)) sys(abi.SYS_pidfd_send_signal, fd, abi.SIGKILL, 0, 0);
  closeFd(fd);
}

/** What /proc/PID/exe names, "" when there is no such process, or it is ending. */
function executable(pid: number | "self"): string {
  const buffer = new Uint8Array(256);
  const n = sys(abi.SYS_readlinkat, abi.AT_FDCWD, `/proc/${pid}/exe`, buffer, buffer.length);
  return n > 0 ? text(buffer.subarray(0, n)) : "";
}

/** A directory of resctrl is removed with rmdir, whatever files it shows. */
function removeRdtGroup(path: string): void {
  const result = sys(abi.SYS_unlinkat, abi.AT_FDCWD, path, abi.AT_REMOVEDIR);
  if (result === 0 || result === -abi.ENOENT) return;
  const error = pathError("rmdir", path, result);
  throw new BuncError(`unable to remove container's IntelRDT group: ${error.message}`, error.fields);
}

/**
 * The container is gone; a hook that fails is only warned about, and the others are run (runtime.md, lifecycle step 13).
 */
async function runPoststop(summary: Summary, warn: (message: string) => void): Promise<void> {
  if (summary.poststop.length === 0) return;
  const { hookStateJson } = await import("./hook-state.ts");
  const { fromLibcontainer, hookFiles, runHooks } = await import("./hooks.ts");
  const { id, bundle, annotations } = summary;
  const state = hookStateJson({ id, status: "stopped", bundle, annotations });
  await runHooks("poststop", summary.poststop.map(fromLibcontainer), state, {
    failed: (error) => warn(renderError(error)),
    files: hookFiles(summary, bundle),
  });
}
