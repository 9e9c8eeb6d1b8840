/**
 * Where a trace hooks in (`--trace`): undefined in an ordinary start, which then pays for one comparison and nothing
 * else. What keeps the trace is src/trace/recorder.ts, loaded on demand. Not for the shim, which serves many containers.
 */
import type { InheritedFd } from "../launch/context.ts";
import type { Op } from "../launch/program.ts";
import type { Spec } from "../oci/config.ts";
import type { SysArg } from "./lib.ts";

/** What a part's header says of tracing (c/bunc.h). */
export interface PartTrace {
  /** Init's number of the memory for its times; -1 where the program runs in this process. */
  fd: number;
  /** Operations from this index on are not timed. */
  end: number;
}

/** The trace of one process that executes a launch program. */
export interface InitTracer {
  /** This process's descriptor of the memory that the times are written to; init inherits it as its last one, or last two. */
  readonly fd: number;
  /** It was born, with this number for the memory, and the next one when it will execute its image anew. */
  born(pid: number, fd: number, renews: boolean): void;
  /** A part is sent; gives what its header must say. */
  sent(ops: readonly Op[]): PartTrace;
  /** It told that an operation failed. */
  failed(index: number, errno: number): void;
  /** Its socket is closed: it has executed the program, or died. */
  ended(): void;
}

/** Takes down what happens. Times are its own business. */
export interface Tracer {
  /** The next step of this process begins, and the one before ends. `path`: the place in config.json, if any. */
  step(name: string, path?: string): void;
  /** A foreign call of lib.ts: makes it. */
  call(call: number, args: readonly SysArg[]): number;
  /** A part is run in this process; gives the address of the times, as if they began with operation 0. */
  part(ops: readonly Op[], first: number): number;
  /** The part that was run last has failed. */
  partFailed(index: number, errno: number): void;
  /** A process is about to be started; undefined when its times cannot be had. */
  init(): InitTracer | undefined;
  /** The times of the next process are kept in this directory, for `start` to read. */
  keepIn(directory: string): void;
  /** What the next process's program needs for its times to be right and its operations to be told. */
  program(facts: ProgramFacts): void;
  /** `start` is about to release an init that `create` made: its operations from there on, and where create kept times. */
  resumed(pid: number, directory: string, ops: readonly KeptOp[]): InitTracer | undefined;
}

/** An operation as `create` keeps it for `start`. */
export interface KeptOp {
  index: number;
  call: number;
  phase: string;
  path: string;
  about?: string;
}

/** Facts about the program of the container's init, or of exec. */
export interface ProgramFacts {
  /** The descriptors that it inherits, the first with the number `firstFd`. */
  fds: readonly InheritedFd[];
  firstFd: number;
  /** The container's: a seccomp filter may refuse to tell the time, and a time namespace changes it. */
  spec: Spec;
  /** The pid of the container that exec joins. */
  joined?: number;
}

/** Who keeps the trace. */
export let tracer: Tracer | undefined;

/** From now on a trace is kept, or none. */
export function traceWith(next: Tracer | undefined): void {
  tracer = next;
}
