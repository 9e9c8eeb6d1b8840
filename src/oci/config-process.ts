/** config.json: the `process` object and its parts (runtime-spec config.md "process"). */
import type * as v from "valibot";
import {
  flag,
  int32,
  list,
  object,
  oneOf,
  optional,
  ranged,
  text,
  texts,
  uint16,
  uint32,
  uint64,
} from "./schema.ts";

export const BoxSchema = object({ height: uint16, width: uint16 });

export const UserSchema = object({
  uid: uint32,
  gid: uint32,
  umask: optional(uint32),
  additionalGids: optional(list(uint32)),
  username: optional(text),
});

export const LinuxCapabilitiesSchema = object({
  bounding: optional(texts),
  effective: optional(texts),
  inheritable: optional(texts),
  permitted: optional(texts),
  ambient: optional(texts),
});

export const POSIXRlimitSchema = object({ type: text, hard: uint64, soft: uint64 });

export const SchedulerSchema = object({
  policy: oneOf("a scheduling policy", [
    "SCHED_OTHER",
    "SCHED_FIFO",
    "SCHED_RR",
    "SCHED_BATCH",
    "SCHED_ISO",
    "SCHED_IDLE",
    "SCHED_DEADLINE",
  ]),
  nice: optional(int32),
  priority: optional(int32),
  flags: optional(
    list(
      oneOf("a scheduling flag", [
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
      ]),
    ),
  ),
  runtime: optional(uint64),
  deadline: optional(uint64),
  period: optional(uint64),
});

export const LinuxIOPrioritySchema = object({
  class: oneOf("an I/O priority class", ["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"]),
  // Required by the spec; runc takes one without it for 0, and the idle class has no use for it.
  priority: optional(ranged(0, 7)),
});

export const CPUAffinitySchema = object({ initial: optional(text), final: optional(text) });

export const ProcessSchema = object({
  terminal: optional(flag),
  consoleSize: optional(BoxSchema),
  user: UserSchema,
  args: optional(texts),
  env: optional(texts),
  cwd: text,
  capabilities: optional(LinuxCapabilitiesSchema),
  rlimits: optional(list(POSIXRlimitSchema)),
  noNewPrivileges: optional(flag),
  apparmorProfile: optional(text),
  oomScoreAdj: optional(ranged(-1000, 1000)),
  scheduler: optional(SchedulerSchema),
  selinuxLabel: optional(text),
  ioPriority: optional(LinuxIOPrioritySchema),
  execCPUAffinity: optional(CPUAffinitySchema),
});

export type Box = v.InferOutput<typeof BoxSchema>;
export type User = v.InferOutput<typeof UserSchema>;
export type LinuxCapabilities = v.InferOutput<typeof LinuxCapabilitiesSchema>;
export type POSIXRlimit = v.InferOutput<typeof POSIXRlimitSchema>;
export type Scheduler = v.InferOutput<typeof SchedulerSchema>;
export type LinuxIOPriority = v.InferOutput<typeof LinuxIOPrioritySchema>;
export type CPUAffinity = v.InferOutput<typeof CPUAffinitySchema>;
export type Process = v.InferOutput<typeof ProcessSchema>;
