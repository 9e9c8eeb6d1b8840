/** Processes: pidfds, waiting, and what /proc says of one. */
import { abi, siginfo_, sizeof_ } from "./abi.gen.ts";
import { readText } from "./file.ts";
import { sys, text } from "./lib.ts";

/** How a process ended: its exit code, or the signal that killed it. */
export interface Exit {
  code: number;
  signal: number;
}

/**
 * Pids of the children that somebody in this process waits for, from their start until they are reaped. A subreaper may
 * reap all others, which were left to it by their parents.
 */
export const ownChildren = new Set<number>();

/**
 * How many launches are on their way. Each may fork a child that this process has not been told of yet: until there is none,
 * a subreaper leaves the children alone that it does not know.
 */
export const launches = { count: 0 };

/** Waits for a child by its pidfd and reaps it; undefined when it is no child of ours (any more). */
export function waitChild(pidfd: number, options = 0): Exit | undefined {
  const info = new Uint8Array(sizeof_.siginfo);
  if (sys(abi.SYS_waitid, abi.P_PIDFD, pidfd, info, abi.WEXITED | options, 0) < 0) return undefined;
  const view = new DataView(info.buffer);
  const pid = view.getInt32(siginfo_.si_pid, true);
  if (pid === 0) return undefined;
  if (!(options & abi.WNOWAIT)) ownChildren.delete(pid);
  const status = view.getInt32(siginfo_.si_status, true);
  return view.getInt32(siginfo_.si_code, true) === abi.CLD_EXITED
    ? { code: status, signal: 0 }
    : { code: 0, signal: status };
}

/** Whether a pid is that of a child of this process that has not been reaped: it keeps its pid until then. */
export function isChild(pid: number): boolean {
  return sys(abi.SYS_waitid, abi.P_PID, pid, 0, abi.WEXITED | abi.WNOHANG | abi.WNOWAIT, 0) === 0;
}

/** Kills the process and waits until it is gone; one that ended already is fine. */
export function killChild(pidfd: number): Exit | undefined {
  sys(abi.SYS_pidfd_send_signal, pidfd, abi.SIGKILL, 0, 0);
  return waitChild(pidfd);
}

/** A descriptor of the process (CLOEXEC), or -errno. */
export function openPidfd(pid: number): number {
  return sys(abi.SYS_pidfd_open, pid, 0);
}

/** Closes a descriptor, if it is one. */
export function closeFd(fd: number | undefined): void {
  if (fd !== undefined && fd >= 0) sys(abi.SYS_close, fd);
}

/**
 * When the process started, in clock ticks since boot: field 22 of /proc/PID/stat (proc(5)), which together with the
 * pid names a process for good. -abi.ESRCH when there is none.
 */
export function startTime(pid: number): number {
  const stat = readText(`/proc/${pid}/stat`, 4096);
  if (typeof stat === "number") return -abi.ESRCH;
  // The command name may hold spaces and parentheses; what follows the last ")" does not.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[19]);
}

/** The kernel's release as major * 1000 + minor: 6018 for 6.18. */
export function kernelVersion(): number {
  const FIELD = 65;
  const buffer = new Uint8Array(6 * FIELD);
  sys(abi.SYS_uname, buffer);
  const release = text(buffer.subarray(2 * FIELD, 3 * FIELD));
  const dot = release.indexOf(".");
  return Number.parseInt(release, 10) * 1000 + Number.parseInt(release.slice(dot + 1), 10);
}
