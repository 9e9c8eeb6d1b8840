/** The ordinary build injects no faults: what faults-on.ts exports, so small that nothing of it is left when minified. */
import type { Op } from "../launch/program.ts";

export const faults = false;

export function faultOf(_side: "host" | "init", _first: number, _ops: readonly Op[]): undefined {
  return undefined;
}

export function sysFault(_call: number): number {
  return 0;
}
