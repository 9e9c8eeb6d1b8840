/**
 * Fault injection, for the executable that test/fault builds (`--conditions=faults`): the environment variable
 * BUNC_FAULT=host:N:ERRNO or init:N:ERRNO makes operation N of that side fail. In an ordinary build the library
 * ignores the header field, and this file never reads the variable.
 */
import { faults } from "#faults";

/** Which operation of this part is to fail, if any. */
export function faultOf(
  side: "host" | "init",
  first: number,
  count: number,
): { index: number; errno: number } | undefined {
  if (!faults) return undefined;
  const [where, index, errno] = (process.env.BUNC_FAULT ?? "").split(":");
  const n = Number(index);
  if (where !== side || !(n >= first && n < first + count)) return undefined;
  return { index: n, errno: Number(errno) };
}
