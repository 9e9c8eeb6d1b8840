/** Names of system calls and composite operations by number: for errors and `explain`, never on the hot path. */
import { abi } from "./abi-table.gen.ts";

let calls: Map<number, string> | undefined;

/** "openat2", "mkpath" (a composite of c/bunc.h), or "syscall 999". */
export function callName(call: number): string {
  if (!calls) {
    calls = new Map();
    for (const [name, value] of Object.entries(abi)) {
      if (typeof value !== "number") continue;
      if (name.startsWith("SYS_")) calls.set(value, name.slice(4));
      else if (name.startsWith("BUNC_OP_") && name !== "BUNC_OP_FIRST" && name !== "BUNC_OP_LAST") {
        calls.set(value, name.slice(8).toLowerCase());
      }
    }
  }
  return calls.get(call) ?? `syscall ${call}`;
}
