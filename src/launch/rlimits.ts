/** process.rlimits: the resource limits of the user's program (setrlimit(2)). */
import { abi } from "../linux/abi.gen.ts";
import type { POSIXRlimit } from "../oci/config.ts";
import type { Context } from "./context.ts";
import { Struct } from "./program.ts";

function rlimit(name: string): number {
  switch (name) {
    case "RLIMIT_AS":
      return abi.RLIMIT_AS;
    case "RLIMIT_CORE":
      return abi.RLIMIT_CORE;
    case "RLIMIT_CPU":
      return abi.RLIMIT_CPU;
    case "RLIMIT_DATA":
      return abi.RLIMIT_DATA;
    case "RLIMIT_FSIZE":
      return abi.RLIMIT_FSIZE;
    case "RLIMIT_LOCKS":
      return abi.RLIMIT_LOCKS;
    case "RLIMIT_MEMLOCK":
      return abi.RLIMIT_MEMLOCK;
    case "RLIMIT_MSGQUEUE":
      return abi.RLIMIT_MSGQUEUE;
    case "RLIMIT_NICE":
      return abi.RLIMIT_NICE;
    case "RLIMIT_NOFILE":
      return abi.RLIMIT_NOFILE;
    case "RLIMIT_NPROC":
      return abi.RLIMIT_NPROC;
    case "RLIMIT_RSS":
      return abi.RLIMIT_RSS;
    case "RLIMIT_RTPRIO":
      return abi.RLIMIT_RTPRIO;
    case "RLIMIT_RTTIME":
      return abi.RLIMIT_RTTIME;
    case "RLIMIT_SIGPENDING":
      return abi.RLIMIT_SIGPENDING;
    case "RLIMIT_STACK":
      return abi.RLIMIT_STACK;
    default:
      return 0;
  }
}

/** Whether the bundle limits the number of descriptors itself. */
export function hasNofile(limits: readonly POSIXRlimit[] = []): boolean {
  for (const { type } of limits) if (type === "RLIMIT_NOFILE") return true;
  return false;
}

/** Room for what the runtime itself needs, however low the limit of the program is. */
const LEAST_NOFILE = 4096;

/**
 * Before init enters a user namespace, where it could raise no hard limit any more: all that the program's are set from is
 * as high as it can be. Without the right to do so they stay, which only matters if one is to be raised.
 */
export function compileRlimitRoom(c: Context): void {
  const limits = c.process.rlimits ?? [];
  for (let i = 0; i < limits.length; i++) {
    const { type, hard } = limits[i]!;
    const wanted = hard > LEAST_NOFILE ? hard : LEAST_NOFILE;
    const most = type === "RLIMIT_NOFILE" ? wanted : 0xffffffffffffffffn;
    const value = new Struct(16, "rlimit64").u64(0, most).u64(8, most);
    c.part.at("process", `process.rlimits[${i}]`);
    c.part.op(abi.SYS_prlimit64, [0, rlimit(type), value, 0], { tolerate: [[abi.EPERM, 0]] });
  }
}

/** The limits themselves, and the caller's RLIMIT_NOFILE where the bundle has none. */
export function compileRlimits(c: Context): void {
  const limits = c.process.rlimits ?? [];
  const { nofile } = c.settings;
  if (nofile && !hasNofile(limits)) {
    const value = new Struct(16, "rlimit64").u64(0, nofile.soft).u64(8, nofile.hard);
    c.part.at("process", "");
    c.part.op(abi.SYS_prlimit64, [0, abi.RLIMIT_NOFILE, value, 0], {
      about: "cannot lower RLIMIT_NOFILE again",
    });
  }
  for (let i = 0; i < limits.length; i++) {
    const { type, soft, hard } = limits[i]!;
    const value = new Struct(16, "rlimit64").u64(0, soft).u64(8, hard);
    c.part.at("process", `process.rlimits[${i}]`);
    c.part.op(abi.SYS_prlimit64, [0, rlimit(type), value, 0], {
      about: `error setting rlimits for ready process: error setting rlimit type ${type}`,
      hint: "raising a hard limit needs CAP_SYS_RESOURCE",
    });
  }
}
