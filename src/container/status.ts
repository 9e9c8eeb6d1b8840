/**
 * What a container is doing, from its live process: pid and start time say whether init is still there, the freezer
 * whether it is paused, the exec fifo whether it waits for `start`. Nothing of it is stored.
 */
import { abi } from "../linux/abi.gen.ts";
import { readInto } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import type { CgroupOps } from "./cgroups.ts";
import type { Summary } from "./state.ts";
import { hasFifo } from "./store.ts";
import type { Status } from "./types.ts";

/** What a line of /proc/PID/stat says, proc_pid_stat(5). */
export interface ProcessStat {
  /** "R", "S", "D", "Z", "X", ... */
  state: string;
  /** Clock ticks from boot to the start of the process. */
  start: number;
}

/**
 * Reads a line of /proc/PID/stat. Its second field, the command's name in parentheses, may hold anything a program
 * wants, so the rest begins at the last parenthesis.
 * @returns undefined for text that is no such line
 */
export function parseStat(text: string): ProcessStat | undefined {
  const end = text.lastIndexOf(") ");
  if (end < 0) return undefined;
  const state = text[end + 2];
  // From field 3 on to field 22.
  let at = end + 2;
  for (let field = 3; field < 22; field++) {
    at = text.indexOf(" ", at) + 1;
    if (at === 0) return undefined;
  }
  const stop = text.indexOf(" ", at);
  const digits = text.slice(at, stop < 0 ? text.length : stop).trim();
  const start = Number(digits);
  if (!state || digits === "" || !Number.isInteger(start)) return undefined;
  return { state, start };
}

/** State and start time of a process, or undefined when there is none with this pid. */
export function processStat(pid: number): ProcessStat | undefined {
  if (pid <= 0) return undefined;
  line ??= new Uint8Array(LINE_SIZE);
  const n = readInto(abi.AT_FDCWD, `/proc/${pid}/stat`, line);
  return n > 0 ? parseStat(text(line.subarray(0, n))) : undefined;
}

/** More than the 22 fields that matter ever have. */
const LINE_SIZE = 512;

/** One for all reads: `list` makes hundreds. */
let line: Uint8Array | undefined;

/** Whether the process that had this pid and start time runs; a zombie does not. */
export function isAlive({ pid, start }: { pid: number; start: number }): boolean {
  const stat = processStat(pid);
  return stat !== undefined && stat.start === start && stat.state !== "Z" && stat.state !== "X";
}

/**
 * The status of a container.
 * @param path its state directory
 */
export function statusOf(summary: Summary, path: string, cgroups: Pick<CgroupOps, "isFrozen">): Status {
  if (!isAlive(summary)) return "stopped";
  if (cgroups.isFrozen(summary.cgroupPaths)) return "paused";
  return hasFifo(path) ? "created" : "running";
}

/** A pidfd of a process, checked to be the one with this start time; -ESRCH when it has ended, or another -errno. */
export function openProcess(process: { pid: number; start: number }): number {
  if (process.pid <= 0) return -abi.ESRCH;
  const fd = sys(abi.SYS_pidfd_open, process.pid, 0);
  // EINVAL: no process any more, but the number is still in use, as that of a session or a process group.
  if (fd < 0) return fd === -abi.EINVAL ? -abi.ESRCH : fd;
  // The pidfd holds on to whatever had the pid; if the right process has it now, it had it then.
  if (isAlive(process)) return fd;
  closeFd(fd);
  return -abi.ESRCH;
}

/** The time now as libcontainer writes it: RFC 3339, UTC, as many digits of a second as are not zero. */
export function timestamp(): string {
  const now = new DataView(new ArrayBuffer(16));
  // CLOCK_REALTIME is 0.
  sys(abi.SYS_clock_gettime, 0, new Uint8Array(now.buffer));
  return formatTime(Number(now.getBigInt64(0, true)), Number(now.getBigInt64(8, true)));
}

/** Seconds since 1970 and nanoseconds in Go's RFC3339Nano. */
export function formatTime(seconds: number, nanoseconds: number): string {
  const whole = new Date(seconds * 1000).toISOString().slice(0, 19);
  if (nanoseconds === 0) return `${whole}Z`;
  const fraction = String(nanoseconds).padStart(9, "0");
  let end = fraction.length;
  while (fraction.charCodeAt(end - 1) === 0x30) end--;
  return `${whole}.${fraction.slice(0, end)}Z`;
}
