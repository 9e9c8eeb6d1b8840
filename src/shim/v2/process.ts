/** A process of a task, its init or one of exec: what it is, its streams, and its end. */
import { abi } from "../../linux/abi.gen.ts";
import { sys } from "../../linux/lib.ts";
import { closeFd, ownChildren, waitChild } from "../../linux/process.ts";
import type { Loop, Watch } from "../loop.ts";
import type { Timestamp } from "../proto/task.gen.ts";
import type { StreamNames } from "./record.ts";
import type { Streams, StreamsState } from "./streams.ts";
import { now } from "./time.ts";

/** How a process ended. */
export interface Ended {
  /** Its exit code, or 128 + the signal. */
  status: number;
  at: Timestamp;
}

/** A process, as another process of the shim can take it over. */
export interface ProcessState {
  execId: string;
  names: StreamNames;
  pid: number;
  pidfd: number;
  ended: Ended | undefined;
  streams: StreamsState | undefined;
}

/** The exit status of one that this shim cannot ask: it was started by another, on a kernel before 6.15. */
const UNKNOWN_STATUS = 255;

/** What somebody knows who never was there. */
const NOT_STARTED = 0;

export class ShimProcess {
  pid = NOT_STARTED;
  ended: Ended | undefined;
  streams: Streams | undefined;
  private pidfd = -1;
  private watch: Watch | undefined;
  private waiters: ((ended: Ended) => void)[] = [];
  /** While a start is on its way its event must be told before the exit's. */
  private holding = false;
  private held: Ended | undefined;

  /**
   * @param execId "" for the init of a container
   * @param onEnd is told once, before those who wait
   */
  constructor(
    readonly execId: string,
    readonly names: StreamNames,
    private readonly onEnd: (process: ShimProcess, ended: Ended) => void,
  ) {}

  /** Its state, when nothing is being done with it; else undefined. */
  snapshot(): ProcessState | undefined {
    const { execId, names, pid, pidfd, ended } = this;
    const streams = this.streams?.snapshot();
    if (this.holding || (this.streams && !streams)) return undefined;
    return { execId, names, pid, pidfd, ended, streams };
  }

  /** Takes over a process. */
  resume(loop: Loop, { pid, pidfd, ended }: ProcessState, streams: Streams | undefined): void {
    this.pid = pid;
    this.ended = ended;
    this.streams = streams;
    if (pidfd < 0) return;
    ownChildren.add(pid);
    this.adopt(loop, pid, pidfd);
  }

  /** Whether it has been started and has not ended, as far as has been told. */
  get running(): boolean {
    return this.pid > 0 && this.ended === undefined;
  }

  /** Watches for the end; the pidfd is this object's from now on. */
  adopt(loop: Loop, pid: number, pidfd: number): void {
    this.pid = pid;
    this.pidfd = pidfd;
    this.watch = loop.watch(pidfd, abi.POLLIN, () => this.reap());
  }

  /** Keeps the end to itself until `release`. */
  hold(): void {
    this.holding = true;
  }

  release(): void {
    this.holding = false;
    const { held } = this;
    this.held = undefined;
    if (held) this.end(held);
  }

  /** Sends a signal; false when it has ended. */
  signal(signo: number): boolean {
    return this.pidfd >= 0 && sys(abi.SYS_pidfd_send_signal, this.pidfd, signo, 0, 0) === 0;
  }

  /** Resolves with the end, now or later. */
  wait(): Promise<Ended> {
    const { ended } = this;
    return ended ? Promise.resolve(ended) : new Promise((resolve) => this.waiters.push(resolve));
  }

  /** Tells the end to whoever waits. */
  finish(ended: Ended): void {
    this.ended = ended;
    const { waiters } = this;
    this.waiters = [];
    for (const waiter of waiters) waiter(ended);
  }

  private reap(): void {
    this.watch?.cancel();
    const exit = waitChild(this.pidfd);
    const status = exit ? (exit.signal ? 128 + exit.signal : exit.code) : foreignStatus(this.pidfd);
    closeFd(this.pidfd);
    this.pidfd = -1;
    const ended = { status, at: now() };
    if (this.holding) this.held = ended;
    else this.end(ended);
  }

  private end(ended: Ended): void {
    this.onEnd(this, ended);
  }

  /** Forgets a process that could not be started. */
  close(): void {
    this.watch?.cancel();
    closeFd(this.pidfd);
    this.pidfd = -1;
    this.streams?.close();
    this.streams = undefined;
  }
}

/** A process of exec, which is registered before it is started. */
export class ExecProcess extends ShimProcess {
  /** JSON of the OCI process. */
  spec = "";
  starting = false;
}

/** struct pidfd_info and its request (linux/pidfd.h), which Debian's headers do not have yet. */
const PIDFD_GET_INFO = 0xc040ff0b;
const PIDFD_INFO_EXIT = 8n;
const INFO = { size: 64, exitCode: 60 } as const;

/** The status of an ended process that is no child of this one, as far as the kernel tells. */
function foreignStatus(pidfd: number): number {
  const info = new DataView(new ArrayBuffer(INFO.size));
  info.setBigUint64(0, PIDFD_INFO_EXIT, true);
  if (sys(abi.SYS_ioctl, pidfd, PIDFD_GET_INFO, new Uint8Array(info.buffer)) < 0) return UNKNOWN_STATUS;
  if (!(info.getBigUint64(0, true) & PIDFD_INFO_EXIT)) return UNKNOWN_STATUS;
  // As wait(2) has it.
  const code = info.getInt32(INFO.exitCode, true);
  const signal = code & 0x7f;
  return signal ? 128 + signal : (code >> 8) & 0xff;
}
