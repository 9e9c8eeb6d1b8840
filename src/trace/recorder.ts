/**
 * Keeps a trace while a command works (`--trace`): steps and system calls of this process, and the times that the
 * interpreter of launch programs writes down, here and in bunc-init. Loaded only when a trace was asked for.
 *
 * Init's times lie in memory that it shares with this process, so they can be read whatever becomes of it, and neither
 * the program nor a seccomp filter has to let anything through.
 */

import type { InheritedFd } from "../launch/context.ts";
import { allows } from "../launch/finish.ts";
import type { Arg, Op, Phase } from "../launch/program.ts";
import { abi, bunc_time_, sizeof_ } from "../linux/abi.gen.ts";
import { pathError, readText } from "../linux/file.ts";
import { addressOf, type SysArg, sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import {
  type InitTracer,
  type KeptOp,
  type PartTrace,
  type ProgramFacts,
  type Tracer,
  traceWith,
} from "../linux/trace.ts";
import type { Spec } from "../oci/config.ts";
import type { Call, HostPart, InitRun, Recorded, Step, Time } from "./timeline.ts";

const SIZE = sizeof_.bunc_time;
/** Name of the file in a state directory with the times of an init that waits for `start`. */
const FILE = "trace";
/** Longer bytes of a call are told by their number. */
const SHOWN_BYTES = 200;

/** One trace. */
export class Recorder implements Tracer {
  /** When the trace began, by CLOCK_MONOTONIC and by Bun's clock. */
  private readonly began: bigint;
  private readonly zero: number;
  private readonly steps: Step[] = [];
  private readonly calls: Call[] = [];
  private readonly parts: { ops: readonly Op[]; first: number; bytes: Uint8Array; failed?: number }[] = [];
  private readonly inits: InitRecorder[] = [];
  private readonly notes: string[] = [];
  private directory: string | undefined;
  private facts: ProgramFacts | undefined;

  constructor() {
    const { monotonic, own } = sameTime(clock, Bun.nanoseconds);
    this.began = monotonic;
    this.zero = own;
  }

  /** Nanoseconds since the trace began. */
  now(): number {
    return Bun.nanoseconds() - this.zero;
  }

  /** The same of CLOCK_MONOTONIC. */
  since(nanoseconds: bigint): number {
    return Number(nanoseconds - this.began);
  }

  step(name: string, path = ""): void {
    const start = this.now();
    const last = this.steps.at(-1);
    if (last) {
      // Init is waited for in turns, which are one step for the reader.
      if (last.name === name && last.path === path) return;
      last.end = start;
    }
    this.steps.push({ name, path, start, end: 0 });
  }

  call(call: number, args: readonly SysArg[]): number {
    const told = args.map(copied);
    traceWith(undefined);
    const start = this.now();
    try {
      const result = sys(call, args[0], args[1], args[2], args[3], args[4], args[5]);
      this.calls.push({ call, args: told, start, end: this.now(), result });
      return result;
    } finally {
      traceWith(this);
    }
  }

  part(ops: readonly Op[], first: number): number {
    const bytes = new Uint8Array(ops.length * SIZE);
    this.parts.push({ ops, first, bytes });
    return addressOf(bytes) - first * SIZE;
  }

  partFailed(index: number): void {
    this.parts.at(-1)!.failed = index;
  }

  keepIn(directory: string): void {
    this.directory = directory;
  }

  program(facts: ProgramFacts): void {
    this.facts = facts;
  }

  init(): InitTracer {
    const step = this.steps.at(-1);
    this.step("prepare the trace");
    const init = this.prepared();
    if (step) this.step(step.name, step.path);
    return init;
  }

  private prepared(): InitTracer {
    const init = new InitRecorder(
      this,
      this.quietly(() => newMemory(this.directory)),
    );
    const { facts } = this;
    if (facts)
      init.know(
        facts,
        this.quietly(() => clockOffset(facts)),
      );
    this.directory = undefined;
    this.facts = undefined;
    this.inits.push(init);
    return init;
  }

  resumed(pid: number, directory: string, ops: readonly KeptOp[]): InitTracer | undefined {
    const path = `${directory}/${FILE}`;
    const fd = this.quietly(() => sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_CLOEXEC, 0));
    if (fd < 0) {
      this.notes.push(
        "what bunc-init does is only in the trace of a container that was created with --trace",
      );
      return undefined;
    }
    const init = new InitRecorder(this, fd);
    init.resume(pid, ops);
    this.inits.push(init);
    return init;
  }

  /** Ends the trace. */
  finish(title: string, version: string, error?: string): Recorded {
    traceWith(undefined);
    const end = this.now();
    const last = this.steps.at(-1);
    if (last) last.end = end;
    const parts = this.parts.map(({ ops, first, bytes, failed }): HostPart => {
      const times = ops.map((_, i) => this.time(new DataView(bytes.buffer), i));
      return { ops, first, times, ...(failed === undefined ? {} : { failed }) };
    });
    return {
      ...{ title, version, pid: process.pid, loaded: this.zero, end, notes: this.notes, parts },
      ...{ steps: this.steps, calls: this.calls, inits: this.inits.map((init) => init.finish()) },
      ...(error === undefined ? {} : { error }),
    };
  }

  /** An entry of an array of struct bunc_time. */
  time(view: DataView, index: number): Time | undefined {
    const at = index * SIZE;
    const start = view.getBigUint64(at + bunc_time_.start, true);
    if (start === 0n) return undefined;
    const end = view.getBigUint64(at + bunc_time_.end, true);
    return {
      start: this.since(start),
      end: end === 0n ? 0 : this.since(end),
      result: Number(view.getBigInt64(at + bunc_time_.result, true)),
    };
  }

  /** The trace's own calls are not part of it. */
  private quietly<T>(body: () => T): T {
    traceWith(undefined);
    try {
      return body();
    } finally {
      traceWith(this);
    }
  }
}

/** An init, and the memory with its times. */
class InitRecorder implements InitTracer {
  private pid = 0;
  private inside = -1;
  /** The memory's number for the image after the next part that executes one. */
  private again = -1;
  private first = 0;
  private kept = false;
  private readonly ops: Op[] = [];
  private facts: { fds: readonly InheritedFd[]; firstFd: number; spec?: Spec } = { fds: [], firstFd: 3 };
  /** What its clock is ahead of this one after it has entered a time namespace; undefined: not known. */
  private offset: bigint | undefined = 0n;
  private untimed: number | undefined;
  private endedAt: number | undefined;
  private failure: { index: number; errno: number } | undefined;

  constructor(
    private readonly recorder: Recorder,
    readonly fd: number,
  ) {}

  know(facts: ProgramFacts, offset: bigint | undefined): void {
    this.facts = facts;
    this.offset = offset;
  }

  resume(pid: number, ops: readonly KeptOp[]): void {
    this.pid = pid;
    this.kept = true;
    this.first = ops[0]?.index ?? 0;
    for (const { call, phase, path, about } of ops) {
      this.ops.push({ call, args: [], options: about ? { about } : {}, phase: phase as Phase, path });
    }
  }

  born(pid: number, fd: number, renews: boolean): void {
    this.pid = pid;
    this.inside = fd;
    if (renews) this.again = fd + 1;
  }

  sent(ops: readonly Op[]): PartTrace {
    for (const op of ops) {
      // With the filter loaded the time may be had no more: the call might even be the end of it.
      if (op.call === abi.SYS_seccomp && this.untimed === undefined && !this.clockAllowed()) {
        this.untimed = this.ops.length;
      }
      this.ops.push(op);
    }
    const end = this.untimed === undefined ? 0xffffffff : this.untimed;
    const fd = this.inside;
    this.inside = -1;
    if (this.again >= 0 && ops.some(({ call }) => call === abi.SYS_execve)) {
      this.inside = this.again;
      this.again = -1;
    }
    return { fd, end };
  }

  private clockAllowed(): boolean {
    const profile = this.facts.spec?.linux?.seccomp;
    return !profile || allows(profile, "clock_gettime");
  }

  failed(index: number, errno: number): void {
    this.failure = { index, errno };
  }

  ended(): void {
    this.endedAt = this.recorder.now();
  }

  /** Reads the times. */
  finish(): InitRun {
    const { pid, ops, first, failure, endedAt } = this;
    const count = Math.max(0, Math.min(ops.length, abi.BUNC_TIMES - first));
    const bytes = new Uint8Array(count * SIZE);
    if (count > 0) sys(abi.SYS_pread64, this.fd, bytes, bytes.length, first * SIZE);
    closeFd(this.fd);
    const view = new DataView(bytes.buffer);
    const times: (Time | undefined)[] = [];
    for (let i = 0; i < count; i++) times.push(this.recorder.time(view, i));
    correctClock(ops, times, this.offset);
    const failed = failure ?? lastFailure(times, first, endedAt);
    const untimed = this.whyUntimed(count);
    return {
      ...{ pid, ops, first, fds: this.facts.fds, firstFd: this.facts.firstFd, times, ended: endedAt },
      ...(this.kept ? { kept: true } : {}),
      ...(failed ? { failed } : {}),
      ...(untimed ? { untimed } : {}),
    };
  }

  private whyUntimed(count: number): InitRun["untimed"] {
    if (this.untimed !== undefined) {
      const why = "the seccomp profile may refuse clock_gettime, so what comes after it has no times";
      return { from: this.untimed - this.first, why };
    }
    if (count === this.ops.length) return undefined;
    return { from: count, why: `only the first ${abi.BUNC_TIMES} operations have times` };
  }
}

/** An init that went no further than an operation with an error, which nobody read from it. */
function lastFailure(
  times: readonly (Time | undefined)[],
  first: number,
  ended: number | undefined,
): { index: number; errno: number } | undefined {
  if (ended !== undefined) return undefined;
  const last = times.findLastIndex((time) => time);
  const result = times[last]?.result ?? 0;
  return result < 0 && times[last]!.end ? { index: first + last, errno: -result } : undefined;
}

/**
 * A time namespace that is entered moves the clock (time_namespaces(7)): the times after it are moved back.
 * @param offset nanoseconds; undefined: taken from the two times of the operation that enters it
 */
export function correctClock(
  ops: readonly Op[],
  times: readonly (Time | undefined)[],
  offset: bigint | undefined,
): void {
  const entered = ops.findIndex(
    ({ call, args }) => call === abi.SYS_setns && (Number(args[1]) & abi.CLONE_NEWTIME) !== 0,
  );
  const entry = times[entered];
  if (!entry?.end || entry.result < 0) return;
  const ahead = offset === undefined ? entry.end - entry.start : Number(offset);
  entry.end -= ahead;
  for (let i = entered + 1; i < times.length; i++) {
    const time = times[i];
    if (!time) continue;
    time.start -= ahead;
    if (time.end) time.end -= ahead;
  }
}

/** How far CLOCK_MONOTONIC is ahead in the time namespace that a program enters; 0 if it enters none. */
function clockOffset({ spec, joined }: ProgramFacts): bigint | undefined {
  const own = readOffset("self") ?? 0n;
  if (joined !== undefined) {
    const theirs = readOffset(String(joined));
    return theirs === undefined ? undefined : theirs - own;
  }
  const time = spec.linux?.namespaces?.find(({ type }) => type === "time");
  if (!time) return 0n;
  if (time.path) return undefined;
  const wanted = spec.linux?.timeOffsets?.monotonic;
  // Without a wish it begins with the clock of its maker.
  if (!wanted) return 0n;
  const { secs = 0, nanosecs = 0 } = wanted;
  return BigInt(secs) * 1_000_000_000n + BigInt(nanosecs) - own;
}

/** Of /proc/PID/timens_offsets, in nanoseconds; undefined where it cannot be read. */
function readOffset(pid: string): bigint | undefined {
  const text = readText(`/proc/${pid}/timens_offsets`, 4096);
  if (typeof text !== "string") return undefined;
  const [, secs, nanosecs] = /^monotonic\s+(-?\d+)\s+(\d+)$/m.exec(text) ?? [];
  return secs && nanosecs ? BigInt(secs) * 1_000_000_000n + BigInt(nanosecs) : undefined;
}

/**
 * Memory for the times of an init: a memfd, or for `start` a file in the state directory. It is all there from the
 * beginning: init could neither get more nor tell of it.
 */
function newMemory(directory: string | undefined): number {
  const path = `${directory}/${FILE}`;
  const flags = abi.O_RDWR | abi.O_CREAT | abi.O_EXCL | abi.O_CLOEXEC;
  const fd = directory
    ? sys(abi.SYS_openat, abi.AT_FDCWD, path, flags, 0o600)
    : sys(abi.SYS_memfd_create, "bunc-trace", abi.MFD_CLOEXEC);
  if (fd < 0) throw pathError(directory ? "open" : "memfd_create", directory ? path : "bunc-trace", fd);
  const result = sys(abi.SYS_fallocate, fd, 0, 0, abi.BUNC_TIMES * SIZE);
  if (result === 0) return fd;
  closeFd(fd);
  throw pathError("fallocate", directory ? path : "bunc-trace", result);
}

const MOST_READINGS = 10;
const CLOSE_ENOUGH = 2000;

/**
 * One moment by two clocks of nanoseconds. This process may be interrupted between reading the one and the other, so of some
 * readings the closest counts. What is `own` is a little early at most: what follows from what another process has done then
 * never seems to come before it.
 */
export function sameTime(clock: () => bigint, ownClock: () => number): { monotonic: bigint; own: number } {
  let best = { monotonic: 0n, own: 0, width: Number.POSITIVE_INFINITY };
  for (let i = 0; i < MOST_READINGS && best.width > CLOSE_ENOUGH; i++) {
    const own = ownClock();
    const monotonic = clock();
    const width = ownClock() - own;
    if (width < best.width) best = { monotonic, own, width };
  }
  return best;
}

/** CLOCK_MONOTONIC in nanoseconds. */
function clock(): bigint {
  const bytes = new Uint8Array(16);
  sys(abi.SYS_clock_gettime, abi.CLOCK_MONOTONIC, bytes);
  const view = new DataView(bytes.buffer);
  return view.getBigInt64(0, true) * 1_000_000_000n + view.getBigInt64(8, true);
}

/** An argument as it is now: the memory may be used again. */
function copied(arg: SysArg): Arg {
  if (!(arg instanceof Uint8Array)) return arg;
  return arg.length > SHOWN_BYTES ? new Uint8Array(arg.length) : arg.slice();
}
