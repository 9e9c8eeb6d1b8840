/**
 * Reads linux.seccomp: the words of config.json become libseccomp's numbers, and everything that is wrong becomes an
 * error with its path. Needs no library and no kernel. The rules are those of runc 1.5 (libcontainer/specconv
 * SetupSeccomp and libcontainer/seccomp); where the two differ, a comment says so.
 */
import { BuncError } from "../errors.ts";
import type { Integer, LinuxSeccomp, LinuxSyscall } from "../oci/config.ts";
import type { SeccompCondition } from "./native.ts";

/** SECCOMP_FILTER_FLAG_* of linux/seccomp.h, as seccomp(2) takes them. */
export const FLAG_LOG = 1 << 1;
export const FLAG_SPEC_ALLOW = 1 << 2;
export const FLAG_NEW_LISTENER = 1 << 3;
export const FLAG_WAIT_KILLABLE_RECV = 1 << 5;

/** Actions of seccomp.h; the lower 16 bits of ERRNO and TRACE carry a value. */
export const ACT_KILL_PROCESS = 0x80000000;
export const ACT_KILL_THREAD = 0x00000000;
export const ACT_TRAP = 0x00030000;
export const ACT_ERRNO = 0x00050000;
export const ACT_NOTIFY = 0x7fc00000;
export const ACT_TRACE = 0x7ff00000;
export const ACT_LOG = 0x7ffc0000;
export const ACT_ALLOW = 0x7fff0000;

/** The architectures of the runtime-spec. */
export const SECCOMP_ARCHS: readonly string[] = [
  "SCMP_ARCH_AARCH64",
  "SCMP_ARCH_ARM",
  "SCMP_ARCH_LOONGARCH64",
  "SCMP_ARCH_M68K",
  "SCMP_ARCH_MIPS",
  "SCMP_ARCH_MIPS64",
  "SCMP_ARCH_MIPS64N32",
  "SCMP_ARCH_MIPSEL",
  "SCMP_ARCH_MIPSEL64",
  "SCMP_ARCH_MIPSEL64N32",
  "SCMP_ARCH_PARISC",
  "SCMP_ARCH_PARISC64",
  "SCMP_ARCH_PPC",
  "SCMP_ARCH_PPC64",
  "SCMP_ARCH_PPC64LE",
  "SCMP_ARCH_RISCV64",
  "SCMP_ARCH_S390",
  "SCMP_ARCH_S390X",
  "SCMP_ARCH_SH",
  "SCMP_ARCH_SHEB",
  "SCMP_ARCH_X32",
  "SCMP_ARCH_X86",
  "SCMP_ARCH_X86_64",
];

/** libseccomp's name of an architecture: "x86_64" for SCMP_ARCH_X86_64. */
export function libseccompName(arch: string): string {
  return arch.slice("SCMP_ARCH_".length).toLowerCase();
}

/** System calls have so many arguments. */
const MAX_ARGUMENTS = 6;

const EPERM = 1;

/** libseccomp refuses ERRNO values from here on; the kernel's own limit is one higher. */
const MAX_ERRNO = 4095;

/** One element of linux.seccomp.syscalls. */
export interface ProfileEntry {
  /** Its index in the list, for messages. */
  index: number;
  names: readonly string[];
  action: number;
  conditions: SeccompCondition[];
}

/** linux.seccomp, read. */
export interface Profile {
  defaultAction: number;
  /** Flags for seccomp(2), FLAG_NEW_LISTENER included; `impliedFlags` are those that nobody asked for. */
  flags: number;
  impliedFlags: number;
  /** libseccomp's names of the architectures, in the profile's order. */
  archs: string[];
  entries: ProfileEntry[];
  listener: boolean;
  warnings: string[];
}

/** True when the profile asks for no filter at all: neither a default action nor system calls (as in runc). */
export function seccompDisabled(profile: LinuxSeccomp): boolean {
  return !profile.defaultAction && !profile.syscalls?.length;
}

/** An error about a place in linux.seccomp. */
export function seccompError(path: string, message: string, hint?: string, errno?: string): BuncError {
  const at = path === "" ? "linux.seccomp" : `linux.seccomp.${path}`;
  return new BuncError(message, {
    code: "config",
    phase: "seccomp",
    path: at,
    ...(hint === undefined ? {} : { hint }),
    ...(errno === undefined ? {} : { errno }),
  });
}

/** Any value for a message: quoted, on one line, and not longer than a name can reasonably be. */
export function quoted(value: unknown): string {
  if (typeof value !== "string")
    return typeof value === "bigint" ? String(value) : `${JSON.stringify(value)}`;
  return JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}...` : value);
}

/**
 * Reads a profile that is not disabled.
 * @throws BuncError on the first thing that is wrong.
 */
export function readProfile(profile: LinuxSeccomp): Profile {
  const warnings: string[] = [];
  const defaultAction = action(
    profile.defaultAction,
    profile.defaultErrnoRet,
    "defaultAction",
    "defaultErrnoRet",
  );
  if (defaultAction === ACT_NOTIFY) {
    throw seccompError("defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action");
  }
  warnUnusedErrno(warnings, defaultAction, profile.defaultErrnoRet, "defaultErrnoRet", profile.defaultAction);

  const entries = list<LinuxSyscall>(profile.syscalls, "syscalls").map((syscall, i) =>
    readEntry(syscall, i, warnings),
  );
  const listener = entries.some((entry) => entry.action === ACT_NOTIFY && entry.names.length > 0);
  checkListenerPath(profile, listener);

  const asked = readFlags(profile.flags);
  const impliedFlags = profile.flags == null ? FLAG_SPEC_ALLOW : 0;
  if (asked & FLAG_WAIT_KILLABLE_RECV && !listener) {
    throw seccompError(
      "flags",
      "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a listener",
      "add a rule with SCMP_ACT_NOTIFY, or remove the flag",
    );
  }
  return {
    defaultAction,
    flags: asked | impliedFlags | (listener ? FLAG_NEW_LISTENER : 0),
    impliedFlags,
    archs: list<string>(profile.architectures, "architectures").map(architecture),
    entries,
    listener,
    warnings,
  };
}

/**
 * A filter that notifies needs somebody to notify: without a path the container's first matching system call would
 * fail with ENOSYS. runc says so when it is about to connect.
 */
export function checkListenerPath(profile: LinuxSeccomp, listener: boolean): void {
  if (listener && !profile.listenerPath) {
    throw seccompError(
      "listenerPath",
      "seccomp listenerPath is not set",
      "SCMP_ACT_NOTIFY needs the path of the seccomp agent's socket",
    );
  }
}

function readEntry(syscall: LinuxSyscall, index: number, warnings: string[]): ProfileEntry {
  const at = `syscalls[${index}]`;
  if (typeof syscall !== "object" || syscall === null)
    throw seccompError(at, `${quoted(syscall)} is not an object`);
  const code = action(syscall.action, syscall.errnoRet, `${at}.action`, `${at}.errnoRet`);
  warnUnusedErrno(warnings, code, syscall.errnoRet, `${at}.errnoRet`, syscall.action);

  const names = list<string>(syscall.names, `${at}.names`);
  for (let n = 0; n < names.length; n++) {
    const name: unknown = names[n];
    if (typeof name !== "string") throw seccompError(`${at}.names[${n}]`, `${quoted(name)} is not a string`);
    if (name === "") throw seccompError(`${at}.names[${n}]`, "empty string is not a valid syscall");
    // Until the listener's descriptor is with the agent, nobody answers; and it is write(2) that tells its number.
    if (code === ACT_NOTIFY && name === "write") {
      throw seccompError(`${at}.names[${n}]`, "SCMP_ACT_NOTIFY cannot be used for the write syscall");
    }
  }
  const args = list<NonNullable<LinuxSyscall["args"]>[number]>(syscall.args, `${at}.args`);
  const conditions = args.map((arg, a): SeccompCondition => {
    const argAt = `${at}.args[${a}]`;
    if (typeof arg !== "object" || arg === null) throw seccompError(argAt, `${quoted(arg)} is not an object`);
    return {
      index: argumentIndex(arg.index, `${argAt}.index`),
      op: operator(arg.op, `${argAt}.op`),
      value: uint64(arg.value, `${argAt}.value`),
      valueTwo: uint64(arg.valueTwo, `${argAt}.valueTwo`),
    };
  });
  return { index, names, action: code, conditions };
}

/** A list that may be absent or null, as Go writes empty ones. */
function list<T>(value: readonly T[] | null | undefined, path: string): readonly T[] {
  if (value == null) return [];
  if (!Array.isArray(value)) throw seccompError(path, `${quoted(value)} is not a list`);
  return value;
}

function action(name: unknown, errno: unknown, path: string, errnoPath: string): number {
  switch (name) {
    case "SCMP_ACT_KILL":
    case "SCMP_ACT_KILL_THREAD":
      return ACT_KILL_THREAD;
    case "SCMP_ACT_KILL_PROCESS":
      return ACT_KILL_PROCESS;
    case "SCMP_ACT_TRAP":
      return ACT_TRAP;
    case "SCMP_ACT_ERRNO":
      return ACT_ERRNO + errnoValue(errno, errnoPath, MAX_ERRNO - 1);
    case "SCMP_ACT_TRACE":
      return ACT_TRACE + errnoValue(errno, errnoPath, 0xffff);
    case "SCMP_ACT_ALLOW":
      return ACT_ALLOW;
    case "SCMP_ACT_LOG":
      return ACT_LOG;
    case "SCMP_ACT_NOTIFY":
      return ACT_NOTIFY;
    default:
      throw seccompError(
        path,
        `${quoted(name)} is not a seccomp action`,
        "one of SCMP_ACT_ALLOW, ERRNO, KILL, KILL_PROCESS, KILL_THREAD, LOG, NOTIFY, TRACE, TRAP",
      );
  }
}

/** runc cuts a larger value to its lower 16 bits: 65536 would make a denied call look successful. */
function errnoValue(errno: unknown, path: string, max: number): number {
  if (errno == null) return EPERM;
  if (typeof errno !== "number" || !Number.isInteger(errno) || errno < 0 || errno > max) {
    throw seccompError(path, `${quoted(errno)} is not an errno`, `an integer from 0 to ${max}`);
  }
  return errno;
}

/** The runtime-spec wants an error here; runc and crun ignore the value, and profiles in use have it. */
function warnUnusedErrno(
  warnings: string[],
  code: number,
  errno: unknown,
  path: string,
  name: unknown,
): void {
  const kind = code >>> 16;
  if (errno != null && kind !== ACT_ERRNO >>> 16 && kind !== ACT_TRACE >>> 16) {
    warnings.push(`linux.seccomp.${path} has no effect: ${String(name)} returns no errno`);
  }
}

function readFlags(flags: readonly string[] | null | undefined): number {
  let bits = 0;
  const names = list<string>(flags, "flags");
  for (let i = 0; i < names.length; i++) {
    switch (names[i]) {
      case "SECCOMP_FILTER_FLAG_TSYNC":
        break; // init has one thread, and the flag excludes a listener; runc ignores it too
      case "SECCOMP_FILTER_FLAG_LOG":
        bits |= FLAG_LOG;
        break;
      case "SECCOMP_FILTER_FLAG_SPEC_ALLOW":
        bits |= FLAG_SPEC_ALLOW;
        break;
      case "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV":
        bits |= FLAG_WAIT_KILLABLE_RECV;
        break;
      default:
        throw seccompError(
          `flags[${i}]`,
          `seccomp flag ${quoted(names[i])} is not known`,
          "one of SECCOMP_FILTER_FLAG_TSYNC, LOG, SPEC_ALLOW, WAIT_KILLABLE_RECV",
        );
    }
  }
  return bits;
}

function architecture(name: unknown, index: number): string {
  if (typeof name !== "string" || !SECCOMP_ARCHS.includes(name)) {
    throw seccompError(
      `architectures[${index}]`,
      `${quoted(name)} is not a seccomp architecture`,
      "names look like SCMP_ARCH_X86_64",
    );
  }
  return libseccompName(name);
}

function operator(name: unknown, path: string): number {
  switch (name) {
    case "SCMP_CMP_NE":
      return 1;
    case "SCMP_CMP_LT":
      return 2;
    case "SCMP_CMP_LE":
      return 3;
    case "SCMP_CMP_EQ":
      return 4;
    case "SCMP_CMP_GE":
      return 5;
    case "SCMP_CMP_GT":
      return 6;
    case "SCMP_CMP_MASKED_EQ":
      return 7;
    default:
      throw seccompError(
        path,
        `${quoted(name)} is not a seccomp operator`,
        "one of SCMP_CMP_NE, LT, LE, EQ, GE, GT, MASKED_EQ",
      );
  }
}

function argumentIndex(index: unknown, path: string): number {
  if (typeof index !== "number" || !Number.isInteger(index) || index < 0 || index >= MAX_ARGUMENTS) {
    throw seccompError(path, `${quoted(index)} is not the index of a system call's argument`, "0 to 5");
  }
  return index;
}

/** A 64-bit value; absent means 0, as Go's zero value does. */
function uint64(value: unknown, path: string): Integer {
  if (value == null) return 0;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  if (typeof value === "bigint" && BigInt.asUintN(64, value) === value) return value;
  throw seccompError(path, `${quoted(value)} is not an integer from 0 to 18446744073709551615`);
}
