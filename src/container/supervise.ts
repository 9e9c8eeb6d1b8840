/**
 * The foreground of `run`: forwards signals to the container, relays its terminal, and waits for its end. One loop
 * over poll(2); nothing else of this process is awake meanwhile.
 */
import { abi, siginfo_, sizeof_ } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd, type Exit, waitChild } from "../linux/process.ts";
import type { TerminalRelay } from "./terminal-relay.ts";

/** Something else that is watched while the container runs (the notify socket). */
export interface Watched {
  fd: number;
  /** Called when the descriptor can be read; false ends the watch. */
  handle(): boolean;
}

/**
 * Turns every signal that a caller may want to reach the container into a byte in a pipe. Called before init is
 * started, so that none is lost.
 */
export class Signals {
  readonly fd: number;

  constructor() {
    const ends = new Int32Array(2);
    const result = sys(abi.SYS_pipe2, new Uint8Array(ends.buffer), abi.O_CLOEXEC | abi.O_NONBLOCK);
    if (result < 0) throw pathError("pipe2", "", result);
    this.fd = ends[0]!;
    sys(abi.BUNC_CALL_SIGNALS, ends[1]!);
  }

  /** The signals that arrived since the last call. */
  read(): Uint8Array {
    const buffer = new Uint8Array(256);
    const n = sys(abi.SYS_read, this.fd, buffer, buffer.length);
    return buffer.subarray(0, n < 0 ? 0 : n);
  }
}

const POLLFD = 8;

/** Forwards and relays until init ends; gives how. Other children that this subreaper got are reaped too. */
export function supervise(
  pidfd: number,
  signals: Signals,
  relay: TerminalRelay | undefined,
  watched: Watched | undefined,
): Exit {
  let extra = watched;
  for (;;) {
    const fds: { fd: number; events: number }[] = [
      { fd: pidfd, events: abi.POLLIN },
      { fd: signals.fd, events: abi.POLLIN },
      { fd: extra ? extra.fd : -1, events: abi.POLLIN },
      ...(relay?.pollEntries() ?? []),
    ];
    const set = new DataView(new ArrayBuffer(fds.length * POLLFD));
    for (let i = 0; i < fds.length; i++) {
      set.setInt32(i * POLLFD, fds[i]!.fd, true);
      set.setInt16(i * POLLFD + 4, fds[i]!.events, true);
    }
    sys(abi.SYS_ppoll, new Uint8Array(set.buffer), fds.length, 0, 0, 8);
    const ready = (i: number) => set.getInt16(i * POLLFD + 6, true);
    if (ready(1)) forward(signals, pidfd, relay);
    if (extra && ready(2) && !extra.handle()) extra = undefined;
    relay?.serve((i) => ready(i + 3));
    if (ready(0)) {
      // Twice, as a call may fail for want of memory; it has ended, so this does not block.
      const exit = waitChild(pidfd) ?? waitChild(pidfd);
      relay?.drain();
      // A process that criu restored by settings of its own may be no child of ours: how it ended is not known.
      return exit ?? { code: 1, signal: 0 };
    }
  }
}

function forward(signals: Signals, pidfd: number, relay: TerminalRelay | undefined): void {
  for (const signal of signals.read()) {
    if (signal === abi.SIGWINCH && relay) relay.resize();
    else sys(abi.SYS_pidfd_send_signal, pidfd, signal, 0, 0);
  }
}

/** Reaps children that were left to this process as a subreaper, but not init. */
export function reapOthers(init: number): void {
  const status = new Uint8Array(4);
  for (;;) {
    const info = new Uint8Array(sizeof_.siginfo);
    const options = abi.WEXITED | abi.WNOHANG | abi.WNOWAIT;
    if (sys(abi.SYS_waitid, 0, 0, info, options, 0) < 0) return;
    const pid = new DataView(info.buffer).getInt32(siginfo_.si_pid, true);
    if (pid === 0 || pid === init) return;
    sys(abi.SYS_wait4, pid, status, abi.WNOHANG, 0);
  }
}

export { closeFd };
