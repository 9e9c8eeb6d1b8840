/** When the process gets CPUs and disks, and which memory: scheduler, I/O priority, memory policy, lists of CPUs and nodes. */
import { abi } from "../linux/abi.gen.ts";
import type { Context } from "./context.ts";
import { Struct } from "./program.ts";

const IOPRIO_CLASS: Readonly<Record<string, number>> = {
  IOPRIO_CLASS_RT: 1,
  IOPRIO_CLASS_BE: 2,
  IOPRIO_CLASS_IDLE: 3,
};

function schedValue(name: string): number {
  switch (name) {
    case "SCHED_OTHER":
      return abi.SCHED_OTHER;
    case "SCHED_FIFO":
      return abi.SCHED_FIFO;
    case "SCHED_RR":
      return abi.SCHED_RR;
    case "SCHED_BATCH":
      return abi.SCHED_BATCH;
    // Reserved in <linux/sched.h>, and refused by the kernel.
    case "SCHED_ISO":
      return 4;
    case "SCHED_IDLE":
      return abi.SCHED_IDLE;
    case "SCHED_DEADLINE":
      return abi.SCHED_DEADLINE;
    case "SCHED_FLAG_RESET_ON_FORK":
      return abi.SCHED_FLAG_RESET_ON_FORK;
    case "SCHED_FLAG_RECLAIM":
      return abi.SCHED_FLAG_RECLAIM;
    case "SCHED_FLAG_DL_OVERRUN":
      return abi.SCHED_FLAG_DL_OVERRUN;
    case "SCHED_FLAG_KEEP_POLICY":
      return abi.SCHED_FLAG_KEEP_POLICY;
    case "SCHED_FLAG_KEEP_PARAMS":
      return abi.SCHED_FLAG_KEEP_PARAMS;
    case "SCHED_FLAG_UTIL_CLAMP_MIN":
      return abi.SCHED_FLAG_UTIL_CLAMP_MIN;
    case "SCHED_FLAG_UTIL_CLAMP_MAX":
      return abi.SCHED_FLAG_UTIL_CLAMP_MAX;
    default:
      return 0;
  }
}

function memoryPolicyValue(name: string): number {
  switch (name) {
    case "MPOL_DEFAULT":
      return abi.MPOL_DEFAULT;
    case "MPOL_PREFERRED":
      return abi.MPOL_PREFERRED;
    case "MPOL_BIND":
      return abi.MPOL_BIND;
    case "MPOL_INTERLEAVE":
      return abi.MPOL_INTERLEAVE;
    case "MPOL_LOCAL":
      return abi.MPOL_LOCAL;
    case "MPOL_PREFERRED_MANY":
      return abi.MPOL_PREFERRED_MANY;
    // Linux 6.9; not in the headers of Debian 12.
    case "MPOL_WEIGHTED_INTERLEAVE":
      return 6;
    case "MPOL_F_NUMA_BALANCING":
      return abi.MPOL_F_NUMA_BALANCING;
    case "MPOL_F_RELATIVE_NODES":
      return abi.MPOL_F_RELATIVE_NODES;
    case "MPOL_F_STATIC_NODES":
      return abi.MPOL_F_STATIC_NODES;
    default:
      return 0;
  }
}

/** process.scheduler and process.ioPriority. */
export function compileScheduling(c: Context): void {
  compileScheduler(c);
  const io = c.process.ioPriority;
  if (!io) return;
  c.part.at("process", "process.ioPriority");
  const value = (IOPRIO_CLASS[io.class]! << 13) | (io.priority ?? 0);
  c.part.op(abi.SYS_ioprio_set, [abi.IOPRIO_WHO_PROCESS, 0, value], {
    about: "cannot set the I/O priority",
    hint: "the realtime class needs CAP_SYS_ADMIN or CAP_SYS_NICE of the host",
  });
}

function compileScheduler(c: Context): void {
  const s = c.process.scheduler;
  if (!s) return;
  let flags = 0;
  for (const flag of s.flags ?? []) flags |= schedValue(flag);
  const policy = schedValue(s.policy);
  const attr = new Struct(48, "sched_attr")
    .u32(0, 48)
    .u32(4, policy)
    .u64(8, flags)
    .u32(16, s.nice ?? 0)
    .u32(20, s.priority ?? 0)
    .u64(24, s.runtime ?? 0)
    .u64(32, s.deadline ?? 0)
    .u64(40, s.period ?? 0);
  c.part.at("process", "process.scheduler");
  // sched_setattr(2): a deadline is refused to a process that may not run on every CPU. The words are runc's.
  const pinned = c.spec.linux?.resources?.cpu?.cpus;
  c.part.op(abi.SYS_sched_setattr, [0, attr, 0], {
    about: "cannot set the scheduler",
    ...(pinned
      ? { hint: "process scheduler can't be used together with AllowedCPUs (resources.cpu.cpus)" }
      : {
          hint: "realtime policies and lower nice values need CAP_SYS_NICE of the host, or RLIMIT_RTPRIO and RLIMIT_NICE",
        }),
  });
}

/** linux.memoryPolicy. */
export function compileMemoryPolicy(c: Context): void {
  const policy = c.spec.linux?.memoryPolicy;
  if (!policy) return;
  let mode = memoryPolicyValue(policy.mode);
  for (const flag of policy.flags ?? []) mode |= memoryPolicyValue(flag);
  const nodes = parseNumberList(policy.nodes ?? "");
  const mask = bitMask(nodes);
  c.part.at("process", "linux.memoryPolicy");
  c.part.op(abi.SYS_set_mempolicy, nodes.length ? [mode, mask, mask.length * 8 + 1] : [mode, 0, 0], {
    about: "cannot set the memory policy",
  });
}

/** A bit for each number, in whole words of 64. */
export function bitMask(numbers: readonly number[]): Uint8Array {
  let words = 1;
  for (const number of numbers) if (number >>> 6 >= words) words = (number >>> 6) + 1;
  const mask = new Uint8Array(words * 8);
  for (const number of numbers) mask[number >>> 3]! |= 1 << (number & 7);
  return mask;
}

/** "0-3,7" as sorted numbers. The list was checked with the bundle. */
export function parseNumberList(list: string): number[] {
  const numbers = new Set<number>();
  for (const range of list.split(",")) {
    if (!range.trim()) continue;
    const [from, to] = range.split("-").map(Number);
    for (let n = from!; n <= (to ?? from!) && n < 4096; n++) numbers.add(n);
  }
  return [...numbers].sort((a, b) => a - b);
}

/** A set of numbers as one hexadecimal number, a bit for each. */
export function maskText(numbers: readonly number[]): string {
  let mask = 0n;
  for (const n of numbers) mask |= 1n << BigInt(n);
  return `0x${mask.toString(16)}`;
}
