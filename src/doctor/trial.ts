/**
 * Trying out what a launch will do: bunc-init makes real calls in throw-away namespaces and tells how each one ended.
 * Nothing of it reaches the host: the namespaces go away with init.
 */
import { applyIdMaps } from "../container/ids.ts";
import { Init } from "../container/init-channel.ts";
import { BuncError } from "../errors.ts";
import { type Arg, Part, Slot } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName } from "../linux/errno.ts";
import { sys } from "../linux/lib.ts";
import type { LinuxIDMapping } from "../oci/config.ts";
import type { Outcome } from "./facts.ts";

/** One call of a trial; the result may be kept for a later one. */
export interface Call {
  call: number;
  args: Arg[];
  slot?: Slot;
}

/** Calls by what they try; the first of a list that fails is its outcome. */
export type Steps = Record<string, Call[]>;

/** Mappings of a user namespace. */
export interface Maps {
  uid: LinuxIDMapping[];
  gid: LinuxIDMapping[];
}

/** Where results go that nobody needs. */
const DROPPED = new Slot(63, "result");

/** The outcome of a system call's result. */
export const outcome = (result: number): Outcome => (result < 0 ? errnoName(-result) : "ok");

/** How a trial went. */
export interface Trial {
  /** Starting init. */
  start: Outcome;
  /** Making its user namespace, if it was to have one. */
  user: Outcome;
  /** The error of mapping ids in words, "" for none. */
  maps: string;
  /** What was not reached has the outcome "EIO". */
  steps: Record<string, Outcome>;
}

/** In which user namespace init makes its calls: the caller's, or a new one with these ids or with none. */
export type UserNamespace = "own" | "unmapped" | Maps;

/** Event numbers below those of the steps. */
const USER = 1;
const READY = 2;
const FIRST = 3;

/** Starts init and lets it make the calls, in order. */
export function tryOut(steps: Steps, user: UserNamespace = "own"): Trial {
  const names = Object.keys(steps);
  const result: Trial = { start: "ok", user: "ok", maps: "", steps: {} };
  for (const name of names) result.steps[name] = "EIO";
  let init: Init;
  try {
    init = Init.spawn({ flags: 0, firstFd: 3, fds: [], preserve: 0 });
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    result.start = error.fields.errno ?? "EIO";
    return result;
  }
  try {
    if (user === "own" || enter(init, user, result)) {
      init.send(program(names, steps));
      collect(init, names, result.steps);
    }
  } finally {
    init.kill();
  }
  return result;
}

/** Gives init a user namespace. It is made by init itself: who executes a program without an id in it loses its rights. */
function enter(init: Init, user: Maps | "unmapped", result: Trial): boolean {
  const part = new Part();
  // As root's containers do (launch/namespaces.ts).
  if (sys(abi.SYS_geteuid) === 0) part.op(abi.SYS_prctl, [abi.PR_SET_DUMPABLE, 0, 0, 0, 0]);
  part.op(abi.SYS_unshare, [abi.CLONE_NEWUSER], { slot: DROPPED, tolerate: [[abi.BUNC_ERR_ANY, 0]] });
  part.op(abi.BUNC_OP_REPORT, [USER, DROPPED]);
  part.op(abi.BUNC_OP_PART, [READY, 0]);
  init.send(part);
  result.user = outcome(init.next()?.value ?? -abi.EIO);
  if (result.user !== "ok" || init.next()?.event !== READY) return false;
  if (user === "unmapped") return true;
  try {
    applyIdMaps(init.pid, { ...user, path: "linux" }, sys(abi.SYS_geteuid));
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    result.maps = error.fields.hint ? `${error.message} (${error.fields.hint})` : error.message;
    return false;
  }
  return true;
}

/** Every call is followed by a report of its result, which ends nothing. */
function program(names: string[], steps: Steps): Part {
  const part = new Part();
  names.forEach((name, index) => {
    for (const { call, args, slot } of steps[name]!) {
      const kept = slot ?? DROPPED;
      part.op(call, args, { slot: kept, tolerate: [[abi.BUNC_ERR_ANY, 0]] });
      part.op(abi.BUNC_OP_REPORT, [FIRST + index, kept]);
    }
  });
  // Told at last: all of the above has been done. Init waits for a part that never comes.
  part.op(abi.BUNC_OP_PART, [READY, 0]);
  return part;
}

function collect(init: Init, names: string[], results: Record<string, Outcome>): void {
  const seen = new Map<number, number>();
  for (let event = init.next(); event && event.event !== READY; event = init.next()) {
    const before = seen.get(event.event) ?? 0;
    seen.set(event.event, before < 0 ? before : event.value);
  }
  for (const [number, value] of seen) results[names[number - FIRST]!] = outcome(value);
}

/** Slots for the calls of one list of steps. */
export function slots(...names: string[]): Slot[] {
  return names.map((name, index) => new Slot(index, name));
}
