/** `kill`: a signal to a container's init, or SIGKILL to everything in a container that shares its pid namespace. */

import * as live from "../cgroup/live.ts";
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import type { CgroupOps } from "./cgroups.ts";
import type { Summary } from "./state.ts";
import { openProcess } from "./status.ts";
import { readSummary } from "./store.ts";

/** The error of a signal to a container whose init has ended; containerd matches the words. */
export function notRunning(): BuncError {
  return new BuncError("container not running", { code: "state" });
}

/**
 * Sends a signal to a container's init. Takes no lock: what blocks another command may be what is to be killed.
 * @param signo 0 only asks whether init is there
 * @throws BuncError "container not running" when it is not
 */
export async function killContainer(
  root: string,
  id: string,
  signo: number,
  cgroups: CgroupOps = live,
): Promise<void> {
  await signalContainer(readSummary(root, id), signo, cgroups);
}

/** As killContainer, of a container that has been read. */
export async function signalContainer(summary: Summary, signo: number, cgroups: CgroupOps): Promise<void> {
  // Not (yet) a container: what is in its cgroups may be anybody's.
  if (summary.pid <= 0) throw notRunning();
  if (signo === abi.SIGKILL && summary.sharedPid) {
    // The kernel ends the processes of a pid namespace with its init, but this container has none of its own.
    if (await cgroups.killAll(summary.cgroupPaths)) return;
    // Without a cgroup, or rights in it, init is all that can be found.
  }
  signalInit(summary, signo);
  // In a frozen cgroup of v1 a killed process stays until it is thawed.
  if (signo === abi.SIGKILL && cgroups.isFrozen(summary.cgroupPaths)) cgroups.thaw(summary.cgroupPaths);
}

/** Sends the signal through a pidfd, so that it cannot hit a process that got the pid later. */
export function signalInit(summary: Summary, signo: number): void {
  const fd = openProcess(summary);
  if (fd === -abi.ESRCH) throw notRunning();
  if (fd < 0) throw signalError("pidfd_open", fd);
  const result = sys(abi.SYS_pidfd_send_signal, fd, signo, 0, 0);
  closeFd(fd);
  if (result === -abi.ESRCH) throw notRunning();
  if (result < 0) throw signalError("pidfd_send_signal", result);
}

function signalError(syscall: string, result: number): BuncError {
  return new BuncError(`unable to signal init: ${errnoText(-result)}`, {
    code: "host",
    syscall,
    errno: errnoName(-result),
  });
}
