/**
 * libbunc-seccomp.so through bun:ffi: encodes requests and decodes answers in the formats that c/libseccomp-bunc.h
 * defines. Nothing is decided here. The library is opened only when a filter has to be compiled or `features` asks.
 */
import { dlopen } from "bun:ffi";
import type { Integer } from "../oci/config.ts";

/** Where the fields lie; c/libseccomp-bunc.h defines it, native.test.ts compares. */
export const LAYOUT = {
  format: 1,
  request: { size: 24, version: 0, defaultAction: 4, optimize: 8, narchs: 12, nrules: 16, nargs: 20 },
  rule: { size: 12, action: 0, syscall: 4, nargs: 8 },
  arg: { size: 24, index: 0, op: 4, aLow: 8, aHigh: 12, bLow: 16, bHigh: 20 },
  failure: { size: 24, stage: 0, index: 4, name: 8, nameSize: 16 },
  infoSize: 52,
} as const;

/** Bytes of a struct sock_filter. */
export const INSTRUCTION_SIZE = 8;

/** What libseccomp and the running kernel are. */
export interface SeccompInfo {
  /** Version of the libseccomp linked in, as "2.5.4". */
  version: string;
  /** seccomp_api_get(3) as found on this kernel. */
  apiLevel: number;
  /** Architecture tokens (SCMP_ARCH_*): of the build, and those with habits of their own. */
  native: number;
  x86_64: number;
  x32: number;
  s390: number;
  s390x: number;
  /** SECCOMP_FILTER_FLAG_* that the kernel takes. */
  kernelFlags: number;
  /** The action that answers ENOSYS. */
  enosys: number;
  /** Instructions a program may have (BPF_MAXINSNS). */
  maxInstructions: number;
}

/** One comparison of a rule; `op` is an enum scmp_compare. */
export interface SeccompCondition {
  index: number;
  op: number;
  value: Integer;
  valueTwo: Integer;
}

/** One rule: the action when the system call matches and all conditions hold. */
export interface SeccompRule {
  action: number;
  /** As `resolve` answers for the native architecture; may be negative. */
  syscall: number;
  conditions: readonly SeccompCondition[];
}

export interface SeccompRequest {
  defaultAction: number;
  /** 1: sorted by priority, 2: binary tree (SCMP_FLTATR_CTL_OPTIMIZE). */
  optimize: number;
  /** Tokens besides the native one. */
  archs: readonly number[];
  rules: readonly SeccompRule[];
}

/** What libseccomp refused: the kind of element, its index in the request, and the errno by name. */
export interface SeccompFailure {
  stage: "request" | "init" | "arch" | "optimize" | "rule" | "export" | "size";
  /** Of the architecture or rule; for "size" the bytes the program has. */
  index: number;
  errno: string;
}

/** The library as compile.ts uses it. */
export interface SeccompLibrary {
  readonly info: SeccompInfo;
  /** Token of an architecture by libseccomp's name for it, 0 when this version does not know it. */
  arch(name: string): number;
  /**
   * Numbers of all names on all architectures: [arch * names.length + name]. Negative where the architecture does
   * not have the call, -1 where libseccomp does not know the name.
   */
  resolve(archs: readonly number[], names: readonly string[]): Int32Array;
  /** Compiles into an array of struct sock_filter. */
  compile(request: SeccompRequest): Uint8Array | SeccompFailure;
}

const STAGES = ["request", "request", "init", "arch", "optimize", "rule", "export", "size"] as const;

/**
 * Opens libbunc-seccomp.so.
 * @param path what dlopen(3) gets: for the embedded library the path that src/linux/lib.ts made of it.
 * @throws Error when it cannot be loaded.
 */
export function openSeccompLibrary(path: string): SeccompLibrary {
  const { symbols } = dlopen(path, {
    bunc_seccomp_compile: { args: ["ptr", "u32", "ptr", "u32", "ptr"], returns: "i32" },
    bunc_seccomp_resolve: { args: ["ptr", "u32", "ptr", "u32", "u32", "ptr"], returns: "i32" },
    bunc_seccomp_arch: { args: ["ptr"], returns: "u32" },
    bunc_seccomp_info: { args: ["ptr"], returns: "void" },
  });
  const raw = new Uint32Array(LAYOUT.infoSize / 4);
  symbols.bunc_seccomp_info(raw);
  if (raw[0] !== LAYOUT.format) {
    throw new Error(`libbunc-seccomp.so has format ${raw[0]}, this program needs ${LAYOUT.format}`);
  }
  const info: SeccompInfo = {
    version: `${raw[1]}.${raw[2]}.${raw[3]}`,
    apiLevel: raw[4]!,
    native: raw[5]!,
    x86_64: raw[6]!,
    x32: raw[7]!,
    s390: raw[8]!,
    s390x: raw[9]!,
    kernelFlags: raw[10]!,
    enosys: raw[11]!,
    maxInstructions: raw[12]!,
  };
  const utf8 = new TextEncoder();

  return {
    info,
    arch: (name) => symbols.bunc_seccomp_arch(utf8.encode(`${name}\0`)),

    resolve(archs, names) {
      const numbers = new Int32Array(archs.length * names.length);
      if (numbers.length === 0) return numbers;
      // A NUL would end the name early and could make another, known one of it.
      const joined = utf8.encode(`${names.map((n) => (n.includes("\0") ? "" : n)).join("\0")}\0`);
      const rc = symbols.bunc_seccomp_resolve(
        Uint32Array.from(archs),
        archs.length,
        joined,
        joined.length,
        names.length,
        numbers,
      );
      if (rc !== 0) throw new Error(`bunc_seccomp_resolve answered ${rc}`);
      return numbers;
    },

    compile(request) {
      const bytes = encodeRequest(request);
      const program = new Uint8Array(info.maxInstructions * INSTRUCTION_SIZE);
      const failure = new Uint8Array(LAYOUT.failure.size);
      const length = symbols.bunc_seccomp_compile(bytes, bytes.length, program, program.length, failure);
      return length >= 0 ? program.subarray(0, length) : decodeFailure(failure);
    },
  };
}

function decodeFailure(bytes: Uint8Array): SeccompFailure {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const { stage, index, name, nameSize } = LAYOUT.failure;
  let errno = "";
  for (let i = name; i < name + nameSize && bytes[i] !== 0; i++) errno += String.fromCharCode(bytes[i]!);
  return {
    stage: STAGES[view.getUint32(stage, true)] ?? "request",
    index: view.getUint32(index, true),
    errno,
  };
}

/** The request as bytes. Little-endian, as every architecture that Bun runs on. */
export function encodeRequest(request: SeccompRequest): Uint8Array {
  const { archs, rules } = request;
  let nargs = 0;
  for (const rule of rules) nargs += rule.conditions.length;
  const rulesAt = LAYOUT.request.size + archs.length * 4;
  const argsAt = rulesAt + rules.length * LAYOUT.rule.size;
  const bytes = new Uint8Array(argsAt + nargs * LAYOUT.arg.size);
  const view = new DataView(bytes.buffer);

  view.setUint32(LAYOUT.request.version, LAYOUT.format, true);
  view.setUint32(LAYOUT.request.defaultAction, request.defaultAction, true);
  view.setUint32(LAYOUT.request.optimize, request.optimize, true);
  view.setUint32(LAYOUT.request.narchs, archs.length, true);
  view.setUint32(LAYOUT.request.nrules, rules.length, true);
  view.setUint32(LAYOUT.request.nargs, nargs, true);
  for (let i = 0; i < archs.length; i++) view.setUint32(LAYOUT.request.size + i * 4, archs[i]!, true);

  let at = rulesAt;
  let arg = argsAt;
  for (const rule of rules) {
    view.setUint32(at + LAYOUT.rule.action, rule.action, true);
    view.setInt32(at + LAYOUT.rule.syscall, rule.syscall, true);
    view.setUint32(at + LAYOUT.rule.nargs, rule.conditions.length, true);
    at += LAYOUT.rule.size;
    for (const condition of rule.conditions) {
      view.setUint32(arg + LAYOUT.arg.index, condition.index, true);
      view.setUint32(arg + LAYOUT.arg.op, condition.op, true);
      view.setUint32(arg + LAYOUT.arg.aLow, low(condition.value), true);
      view.setUint32(arg + LAYOUT.arg.aHigh, high(condition.value), true);
      view.setUint32(arg + LAYOUT.arg.bLow, low(condition.valueTwo), true);
      view.setUint32(arg + LAYOUT.arg.bHigh, high(condition.valueTwo), true);
      arg += LAYOUT.arg.size;
    }
  }
  return bytes;
}

/** The lower 32 bits; `>>> 0` is exact modulo 2^32 for every safe integer. */
function low(value: Integer): number {
  return typeof value === "number" ? value >>> 0 : Number(BigInt.asUintN(32, value));
}

function high(value: Integer): number {
  return typeof value === "number" ? Math.floor(value / 4294967296) : Number(value >> 32n);
}
