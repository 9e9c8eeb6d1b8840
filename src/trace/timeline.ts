/**
 * What a trace holds, and from it a timeline: named slices in two lanes, each with what it is and what became of it.
 * Pure; the writers (chrome.ts, svg.ts, table.ts) only draw it. All times are nanoseconds since the trace began.
 */
import type { InheritedFd } from "../launch/context.ts";
import { explainCall, explainOps } from "../launch/explain.ts";
import type { Arg, Op } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName } from "../linux/errno.ts";

/** When an operation ran. */
export interface Time {
  start: number;
  /** 0: it has not ended, or was an execve. */
  end: number;
  /** What the kernel answered: -errno on failure. */
  result: number;
}

/** A step of bunc itself. */
export interface Step {
  name: string;
  /** Place in config.json, or "". */
  path: string;
  start: number;
  end: number;
}

/** A system call of bunc itself. */
export interface Call extends Time {
  call: number;
  args: readonly Arg[];
}

/** A part of a program that bunc executed itself. */
export interface HostPart {
  ops: readonly Op[];
  /** Index of the first of them in its program. */
  first: number;
  /** By position in the part; undefined: it did not run. */
  times: readonly (Time | undefined)[];
  failed?: number;
}

/** A bunc-init and its program. */
export interface InitRun {
  pid: number;
  ops: readonly Op[];
  /** Of the operations only what `create` kept is known: no arguments. */
  kept?: boolean;
  /** Index of the first of `ops` in the whole program. */
  first: number;
  fds: readonly InheritedFd[];
  firstFd: number;
  /** By position in `ops`. */
  times: readonly (Time | undefined)[];
  /** When it executed the program; undefined where it did not, or not yet. */
  ended: number | undefined;
  /** Operations from this position on were not timed, and why. */
  untimed?: { from: number; why: string };
  failed?: { index: number; errno: number };
}

/** All that was taken down. */
export interface Recorded {
  /** The command, as it is shown: "run web". */
  title: string;
  version: string;
  pid: number;
  /** How long this process had been running when the trace began: its times are negative. */
  loaded: number;
  steps: readonly Step[];
  calls: readonly Call[];
  parts: readonly HostPart[];
  inits: readonly InitRun[];
  /** When the trace ended. */
  end: number;
  /** The error the command ended with. */
  error?: string;
  /** What the reader must know, one line each. */
  notes: readonly string[];
}

/** What a slice is: a step of bunc, a system call of it, an operation of a program, or idleness. */
export type Kind = "step" | "call" | "op" | "wait";

/** One slice. */
export interface Slice {
  /** 0: bunc; from 1 on: each bunc-init. */
  lane: number;
  /** Nesting within the lane. */
  depth: number;
  kind: Kind;
  /** Short: a call, a step. */
  name: string;
  /** In full: the call with its arguments. */
  text: string;
  phase: string;
  /** Place in config.json, or "". */
  path: string;
  start: number;
  end: number;
  /** Index in the program, of an operation. */
  index?: number;
  /** Name of the errno that it ended with. */
  errno?: string;
  /** It made the command fail. */
  failed?: boolean;
  /** It was not carried out: the operation before it said so. */
  skipped?: boolean;
  /** It was carried out, but the clock was out of reach. */
  untimed?: boolean;
  /** It was still going on when the trace ended. */
  unfinished?: boolean;
}

/** One process. */
export interface Lane {
  name: string;
  pid: number;
}

/** What the writers draw. */
export interface Timeline {
  title: string;
  version: string;
  lanes: readonly Lane[];
  /** By lane and start; what contains others comes before them. */
  slices: readonly Slice[];
  start: number;
  end: number;
  error?: string;
  notes: readonly string[];
}

/** Makes the timeline. */
export function timeline(recorded: Recorded): Timeline {
  const { title, version, pid, loaded, end, error } = recorded;
  const lanes: Lane[] = [{ name: "bunc", pid }];
  const slices = hostSlices(recorded);
  const notes = [...recorded.notes];
  for (const run of recorded.inits) {
    if (run.ops.length === 0) continue;
    // The first is the container's (or exec's); others help to get descriptors.
    slices.push(...initSlices(run, lanes.length, end));
    lanes.push({ name: lanes.length === 1 ? "bunc-init" : `bunc-init ${lanes.length}`, pid: run.pid });
    if (run.untimed && run.untimed.from < run.ops.length) notes.push(run.untimed.why);
  }
  keepDecisive(slices, error !== undefined);
  const start = -loaded;
  return { title, version, lanes, slices, start, end, notes, ...(error === undefined ? {} : { error }) };
}

/** The step of the launcher that begins when all is lost. */
export const TAKE_BACK = "take everything back";

/** Of all that failed marks the one that the command failed with: bunc goes on after some, and others come when it gives up. */
function keepDecisive(slices: readonly Slice[], failed: boolean): void {
  const lost = slices.find(({ kind, name }) => kind === "step" && name === TAKE_BACK)?.start;
  let decisive: Slice | undefined;
  for (const slice of slices) {
    if (!slice.failed) continue;
    delete slice.failed;
    const late = lost !== undefined && slice.start > lost;
    if (failed && !late && (!decisive || slice.start >= decisive.start)) decisive = slice;
  }
  if (decisive) decisive.failed = true;
}

function hostSlices({ steps, calls, parts, loaded, end }: Recorded): Slice[] {
  const base = { lane: 0, phase: "", path: "" } as const;
  const slices: Slice[] = [];
  if (loaded > 0) {
    const text = "start the runtime, read the command line, load the code";
    slices.push({ ...base, depth: 0, kind: "step", name: "load bunc", text, start: -loaded, end: 0 });
  }
  for (const { name, path, start, end } of steps) {
    slices.push({ ...base, depth: 0, kind: "step", name, text: name, path, start, end });
  }
  for (const { call, args, start, end, result } of calls) {
    const { name, text } = explainCall(call, args);
    slices.push({ ...base, depth: 1, kind: "call", name, text, start, end, ...outcome(result) });
  }
  for (const { ops, first, times, failed } of parts) {
    const last = times.findLastIndex((time) => time);
    let at = 0;
    for (const [i, told] of explainOps(ops, "parent", first).entries()) {
      if (failed !== undefined && i > last) break;
      const time = times[i];
      if (time) at = time.start;
      const slice: Slice = {
        ...base,
        ...{ depth: 2, kind: "op", name: told.call, text: told.text, phase: told.phase, path: told.path },
        ...{ start: at, end: time ? time.end || end : at, index: first + i },
        ...(time ? outcome(time.result) : { skipped: true }),
      };
      if (failed === first + i) slice.failed = true;
      if (time) at = slice.end;
      slices.push(slice);
    }
  }
  return inOrder(slices);
}

function initSlices(run: InitRun, lane: number, traceEnd: number): Slice[] {
  const { ops, first, times, ended, untimed, failed } = run;
  const slices: Slice[] = [];
  let at = times.find((time) => time)?.start ?? 0;
  let waits = false;
  const reached = failed
    ? failed.index - first
    : ended === undefined
      ? times.findLastIndex((time) => time)
      : ops.length - 1;
  for (const [i, told] of explainOps(ops, "init", first, run.fds, run.firstFd).entries()) {
    if (i > reached) break;
    const time = times[i];
    const op = ops[i]!;
    // Of what another command left for this one there is only what its error would say.
    const text = run.kept ? op.options.about?.replace(/^error running /, "") || told.call : told.text;
    const slice: Slice = {
      ...{ lane, depth: 0, kind: "op", name: told.call, text, phase: told.phase, path: told.path },
      ...{ start: at, end: at, index: first + i },
    };
    if (time) {
      if (waits && time.start > at) {
        const text = "waits for the next part of its program";
        slices.push({
          ...slice,
          kind: "wait",
          name: "wait for bunc",
          text,
          path: "",
          start: at,
          end: time.start,
        });
        delete slices.at(-1)!.index;
      }
      slice.start = time.start;
      const last = op.call === abi.SYS_execve || op.call === abi.SYS_execveat;
      // An image that was executed anew goes on with the program.
      const next = last && !time.end ? times.find((one, later) => later > i && one)?.start : undefined;
      slice.end = time.end || next || (last && ended) || traceEnd;
      if (!time.end && !next && !(last && ended)) slice.unfinished = true;
      Object.assign(slice, outcome(time.result));
      at = slice.end;
    } else if (untimed && i >= untimed.from) {
      slice.untimed = true;
    } else {
      slice.skipped = true;
    }
    if (failed?.index === first + i) {
      slice.failed = true;
      slice.errno = errnoName(failed.errno);
      delete slice.skipped;
    }
    waits = time !== undefined && op.call === abi.BUNC_OP_PART;
    slices.push(slice);
  }
  return slices;
}

function outcome(result: number): { errno?: string } {
  return result < 0 && result >= -4095 ? { errno: errnoName(-result) } : {};
}

/** By start, what contains others first. */
function inOrder(slices: Slice[]): Slice[] {
  return slices.sort((a, b) => a.start - b.start || a.depth - b.depth || b.end - a.end);
}
