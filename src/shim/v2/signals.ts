/** Signals of the shim, as events of its loop; and the orphans of its containers, which are its children as a subreaper. */
import type { Log } from "../../container/types.ts";
import { abi, siginfo_, sizeof_ } from "../../linux/abi.gen.ts";
import { pathError } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import { launches, ownChildren } from "../../linux/process.ts";
import type { Loop } from "../loop.ts";

/** struct signalfd_siginfo; its first word is the signal. */
const SIGNALFD_SIGINFO = 128;
/**
 * An own child that has ended and is about to be reaped by whoever waits for it hides the orphans behind it; and what a
 * launch has just forked, to end at once, looks like one.
 */
const RETRY_MILLISECONDS = 50;

/**
 * @param end is called on SIGTERM and SIGINT
 * @param inherited a descriptor that an earlier call made; -1: none
 * @returns the descriptor that the signals are read from
 */
export function watchSignals(loop: Loop, end: () => void, log: Log, inherited: number): number {
  const mask = new DataView(new ArrayBuffer(8));
  let low = 0;
  for (const signo of [abi.SIGCHLD, abi.SIGTERM, abi.SIGINT]) low |= 1 << (signo - 1);
  mask.setUint32(0, low, true);
  const bytes = new Uint8Array(mask.buffer);
  sys(abi.SYS_rt_sigprocmask, abi.SIG_SETMASK, bytes, 0, 8);
  const flags = abi.SFD_CLOEXEC | abi.SFD_NONBLOCK;
  const fd = inherited >= 0 ? inherited : sys(abi.SYS_signalfd4, -1, bytes, 8, flags);
  if (fd < 0) throw pathError("signalfd", "", fd);
  const info = new Uint8Array(SIGNALFD_SIGINFO);
  loop.watch(fd, abi.POLLIN, () => {
    while (sys(abi.SYS_read, fd, info, info.length) === SIGNALFD_SIGINFO) {
      const signo = info[0]!;
      if (signo === abi.SIGCHLD) continue;
      log.debug(`signal ${signo}: the shim ends`);
      end();
    }
    reapOrphans(loop);
  });
  // What ended before the signals were blocked.
  reapOrphans(loop);
  return fd;
}

let retrying = false;

function reapOrphans(loop: Loop): void {
  const info = new Uint8Array(sizeof_.siginfo);
  const pidOf = new DataView(info.buffer);
  const status = new Uint8Array(4);
  for (;;) {
    pidOf.setInt32(siginfo_.si_pid, 0, true);
    const options = abi.WEXITED | abi.WNOHANG | abi.WNOWAIT;
    if (sys(abi.SYS_waitid, abi.P_ALL, 0, info, options, 0) < 0) return;
    const pid = pidOf.getInt32(siginfo_.si_pid, true);
    if (pid === 0) return;
    if (ownChildren.has(pid) || launches.count > 0) break;
    sys(abi.SYS_wait4, pid, status, abi.WNOHANG, 0);
  }
  if (retrying) return;
  retrying = true;
  loop.after(RETRY_MILLISECONDS, () => {
    retrying = false;
    reapOrphans(loop);
  });
}
