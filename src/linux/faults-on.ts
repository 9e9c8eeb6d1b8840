/**
 * Fault injection for the executable that test/fault builds (`--conditions=faults`). The environment variable
 * BUNC_FAULT says what fails:
 *
 *     init:N:ERRNO   operation N of what init executes, counted over all parts of a launch
 *     host:N:ERRNO   operation N of what this process executes as programs (cgroups, hooks), counted over all of them
 *     sys:N:ERRNO    the Nth foreign call of this process, before it is made
 *     kill:N         before its Nth foreign call this process is killed (SIGKILL)
 *     list:FILE      nothing; each part is appended to FILE as one line of JSON, and at the end the foreign calls
 */
import { appendFileSync } from "node:fs";
import type { Op } from "../launch/program.ts";
import { abi } from "./abi.gen.ts";
import { callName } from "./names.ts";

export const faults = true;

const [mode, ...rest] = (process.env.BUNC_FAULT ?? "").split(":");
const target = Number(rest[0]);
const errno = Number(rest[1]);

/** Operations of this process so far: every program that it executes begins again with index 0. */
let hostOps = 0;
/** enum bunc_call, without BUNC_CALL_. */
const FOREIGN = ["run", "spawn", "read_file", "recv", "send_fd", "signals"];
/** Names of the foreign calls so far. */
const calls: string[] = [];

/** Which operation of this part is to fail, if any: its index in its own program. */
export function faultOf(
  side: "host" | "init",
  first: number,
  ops: readonly Op[],
): { index: number; errno: number } | undefined {
  const from = side === "host" ? hostOps : first;
  if (side === "host") hostOps += ops.length;
  if (mode === "list") list(side, from, ops);
  if (mode !== side || !(target >= from && target < from + ops.length)) return undefined;
  return { index: target - from + first, errno };
}

/**
 * -errno when this foreign call is the one that is to fail, else 0. Closing and ending always work, as in Linux, and
 * which operation of a program fails is another matter.
 */
export function sysFault(call: number): number {
  if (call === abi.SYS_close) return 0;
  if (call === abi.SYS_exit_group) {
    if (mode === "list") appendFileSync(rest.join(":"), `${JSON.stringify({ calls })}\n`);
    return 0;
  }
  const name = call < abi.BUNC_CALL_RUN ? callName(call) : FOREIGN[call - abi.BUNC_CALL_RUN]!;
  if (calls.push(name) - 1 !== target) return 0;
  if (mode === "kill") process.kill(process.pid, "SIGKILL");
  return mode === "sys" && call !== abi.BUNC_CALL_RUN ? -errno : 0;
}

function list(side: string, from: number, ops: readonly Op[]): void {
  const shown = ops.map(({ call, phase, path, options: { about, okSkip, tolerate } }) => ({
    call: callName(call),
    phase,
    path,
    about,
    okSkip,
    tolerate,
  }));
  appendFileSync(rest.join(":"), `${JSON.stringify({ side, from, ops: shown })}\n`);
}
