/** config.json: `linux.seccomp` (runtime-spec config-linux.md "Seccomp"). */
import type * as v from "valibot";
import { list, object, oneOf, optional, ranged, text, texts, uint64 } from "./schema.ts";

const action = oneOf("a seccomp action", [
  "SCMP_ACT_KILL",
  "SCMP_ACT_KILL_PROCESS",
  "SCMP_ACT_KILL_THREAD",
  "SCMP_ACT_TRAP",
  "SCMP_ACT_ERRNO",
  "SCMP_ACT_TRACE",
  "SCMP_ACT_ALLOW",
  "SCMP_ACT_LOG",
  "SCMP_ACT_NOTIFY",
]);

const architecture = oneOf("a seccomp architecture", [
  "SCMP_ARCH_X86",
  "SCMP_ARCH_X86_64",
  "SCMP_ARCH_X32",
  "SCMP_ARCH_ARM",
  "SCMP_ARCH_AARCH64",
  "SCMP_ARCH_MIPS",
  "SCMP_ARCH_MIPS64",
  "SCMP_ARCH_MIPS64N32",
  "SCMP_ARCH_MIPSEL",
  "SCMP_ARCH_MIPSEL64",
  "SCMP_ARCH_MIPSEL64N32",
  "SCMP_ARCH_PPC",
  "SCMP_ARCH_PPC64",
  "SCMP_ARCH_PPC64LE",
  "SCMP_ARCH_S390",
  "SCMP_ARCH_S390X",
  "SCMP_ARCH_PARISC",
  "SCMP_ARCH_PARISC64",
  "SCMP_ARCH_RISCV64",
  "SCMP_ARCH_LOONGARCH64",
  "SCMP_ARCH_M68K",
  "SCMP_ARCH_SH",
  "SCMP_ARCH_SHEB",
]);

const filterFlag = oneOf("a seccomp flag", [
  "SECCOMP_FILTER_FLAG_TSYNC",
  "SECCOMP_FILTER_FLAG_LOG",
  "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
  "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
]);

export const LinuxSeccompArgSchema = object({
  index: ranged(0, 5),
  value: uint64,
  valueTwo: optional(uint64),
  op: oneOf("a seccomp operator", [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
  ]),
});

export const LinuxSyscallSchema = object({
  names: texts,
  action,
  errnoRet: optional(ranged(0, 65535)),
  args: optional(list(LinuxSeccompArgSchema)),
});

export const LinuxSeccompSchema = object({
  defaultAction: action,
  defaultErrnoRet: optional(ranged(0, 65535)),
  architectures: optional(list(architecture)),
  flags: optional(list(filterFlag)),
  listenerPath: optional(text),
  listenerMetadata: optional(text),
  syscalls: optional(list(LinuxSyscallSchema)),
});

export type LinuxSeccompAction = v.InferOutput<typeof action>;
export type Arch = v.InferOutput<typeof architecture>;
export type LinuxSeccompFlag = v.InferOutput<typeof filterFlag>;
export type LinuxSeccompArg = v.InferOutput<typeof LinuxSeccompArgSchema>;
export type LinuxSeccompOperator = LinuxSeccompArg["op"];
export type LinuxSyscall = v.InferOutput<typeof LinuxSyscallSchema>;
export type LinuxSeccomp = v.InferOutput<typeof LinuxSeccompSchema>;
