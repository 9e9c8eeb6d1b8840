/**
 * The server as a fork of `start`: it is there at once, with everything loaded, where an execve would load the program a
 * second time. Only a process with one thread can go on after fork(2). At this point this one still has: nothing has been
 * compiled by the JIT, no timer was set and nothing asynchronous was read; if that is not so, the answer is "not possible".
 */
import { abi } from "../../linux/abi.gen.ts";
import { pathError, readText } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import { closeFd } from "../../linux/process.ts";

/** linux/mman.h */
const MADV_DOFORK = 11;

/**
 * Forks.
 * @returns 0 in the child, its pid in the parent; undefined when the process must not be forked
 */
export function forkServer(): number | undefined {
  if (threads() !== 1 || !keepCode()) return undefined;
  const pid = sys(abi.BUNC_CALL_FORK);
  return pid < 0 ? undefined : pid;
}

/** Field 20 of /proc/PID/stat (proc_pid_stat(5)). */
function threads(): number {
  const stat = readText("/proc/self/stat", 4096);
  return typeof stat === "string" ? Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[17]) : 0;
}

/** JavaScriptCore keeps the pages for compiled code out of children; a child that is to run JavaScript needs them. */
function keepCode(): boolean {
  const maps = readText("/proc/self/maps");
  if (typeof maps !== "string") return false;
  for (let at = maps.indexOf(" rwxp "); at >= 0; at = maps.indexOf(" rwxp ", at + 1)) {
    const [from, to] = maps.slice(maps.lastIndexOf("\n", at) + 1, at).split("-");
    const start = BigInt(`0x${from}`);
    if (sys(abi.SYS_madvise, start, BigInt(`0x${to}`) - start, MADV_DOFORK) < 0) return false;
  }
  return true;
}

/** The child's first steps: no stream of the caller, who waits for their end, and a process group of its own. */
export function becomeServer(): void {
  const nothing = sys(abi.SYS_openat, abi.AT_FDCWD, "/dev/null", abi.O_RDWR | abi.O_CLOEXEC, 0);
  if (nothing < 0) throw pathError("open", "/dev/null", nothing);
  for (const fd of [0, 1, 2]) sys(abi.SYS_dup3, nothing, fd, 0);
  closeFd(nothing);
  sys(abi.SYS_setpgid, 0, 0);
}
