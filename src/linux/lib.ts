/**
 * The binding to libbunc.so: one foreign function that takes a system call number or one of enum bunc_call and
 * answers with a value >= 0 or -errno. The library is loaded from a memfd: never from a path that another user could
 * write to, and nothing is left in /tmp (bun.md F2). Until something needs it, system calls go through libc's syscall(2).
 */
import type { dlopen as Dlopen, FFIFunction, ptr as Ptr } from "bun:ffi";
import image from "#libbunc";
import { abi } from "./abi.gen.ts";
import { faults, sysFault } from "./faults.ts";
import { tracer } from "./trace.ts";

// The module bun:ffi costs 0.2 ms to import; its functions are on this object too (Bun 1.4.5; lib.test.ts checks it).
const { dlopen, ptr } = (Bun as unknown as { FFI: { dlopen: typeof Dlopen; ptr: typeof Ptr } }).FFI;

const SIGNATURE: FFIFunction = {
  args: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"],
  returns: "i64_fast" as "i64",
};

type Foreign = (
  call: number,
  a: number | bigint,
  b: number | bigint,
  c: number | bigint,
  d: number | bigint,
  e: number | bigint,
  f: number | bigint,
) => number | bigint;

/** syscall(2) of libc, and libbunc's entry, which is loaded (0.2 ms) when it is first needed. */
let syscall: Foreign | undefined;
let foreign: Foreign | undefined;

function libc(): Foreign {
  syscall = dlopen("libc.so.6", { syscall: SIGNATURE }).symbols.syscall as unknown as Foreign;
  return syscall;
}

/**
 * Puts the bytes of a shared library into a memfd; gives a path that dlopen takes. The descriptor stays open: dlopen(3)
 * knows libraries by their paths, and would take the next one with this number for the same.
 */
export function memfdPath(name: string, bytes: Uint8Array): string {
  const call = syscall ?? libc();
  const fd = Number(call(abi.SYS_memfd_create, ptr(cstring(name)), abi.MFD_CLOEXEC, 0, 0, 0, 0));
  if (fd < 0 || Number(call(abi.SYS_write, fd, ptr(bytes), bytes.length, 0, 0, 0)) !== bytes.length) {
    throw new Error(
      `cannot load the embedded ${name} from memory (memfd_create refused; see sysctl vm.memfd_noexec)`,
    );
  }
  return `/proc/self/fd/${fd}`;
}

function load(): Foreign {
  const path = memfdPath("libbunc", Uint8Array.fromBase64(image()));
  foreign = dlopen(path, { bunc: SIGNATURE }).symbols.bunc as unknown as Foreign;
  return foreign;
}

/** An argument of a system call: a number, or memory whose address is passed. */
export type SysArg = number | bigint | Uint8Array | string;

/**
 * Makes a system call (or one of BUNC_CALL_*). Strings become NUL-terminated bytes, typed arrays their address.
 * The result is the kernel's: -errno on failure. Memory must stay referenced by the caller while the kernel may use it.
 */
export function sys(
  call: number,
  a: SysArg = 0,
  b: SysArg = 0,
  c: SysArg = 0,
  d: SysArg = 0,
  e: SysArg = 0,
  f: SysArg = 0,
): number {
  if (faults) {
    const failure = sysFault(call);
    if (failure) return failure;
  }
  if (tracer) return tracer.call(call, [a, b, c, d, e, f]);
  const x = address(a, 0);
  const y = address(b, 1);
  const z = address(c, 2);
  const u = address(d, 3);
  const v = address(e, 4);
  const w = address(f, 5);
  if (foreign === undefined && call < abi.BUNC_CALL_FIRST) {
    const result = Number((syscall ?? libc())(call, x, y, z, u, v, w));
    // libc's answer has no errno: a call that failed is made again, by what tells why.
    if (result !== -1) return result;
  }
  return Number((foreign ?? load())(call, x, y, z, u, v, w));
}

/** As sys, when why a call fails is of no interest: libbunc is not loaded for it. */
export function succeeds(call: number, a: SysArg, b: SysArg = 0, c: SysArg = 0, d: SysArg = 0): boolean {
  if (foreign || faults || tracer) return sys(call, a, b, c, d) >= 0;
  const x = address(a, 0);
  const y = address(b, 1);
  const z = address(c, 2);
  const u = address(d, 3);
  return Number((syscall ?? libc())(call, x, y, z, u, 0, 0)) !== -1;
}

/** Whether libbunc is loaded: until then one of its calls costs more than the system calls it stands for. */
export function libraryLoaded(): boolean {
  return foreign !== undefined;
}

/**
 * Where the strings of a call lie while it is made, one place for each argument: an array for each string would cost
 * more than most calls. What is longer has one, in `long`.
 */
const PLACE = 1024;
const places: (Uint8Array | undefined)[] = [];
let placesAt = 0;
const long: (Uint8Array | undefined)[] = [];

function address(arg: SysArg, index: number): number | bigint {
  if (typeof arg === "number" || typeof arg === "bigint") return arg;
  if (typeof arg !== "string") return arg.length === 0 ? 0 : ptr(arg);
  if (arg.length * 3 >= PLACE) {
    const bytes = cstring(arg);
    long[index] = bytes;
    return ptr(bytes);
  }
  refuseNul(arg);
  if (placesAt === 0) {
    const all = new Uint8Array(6 * PLACE);
    placesAt = ptr(all);
    for (let i = 0; i < 6; i++) places[i] = all.subarray(i * PLACE, (i + 1) * PLACE);
  }
  const place = places[index]!;
  place[encoder.encodeInto(arg, place).written] = 0;
  return placesAt + index * PLACE;
}

function refuseNul(text: string): void {
  if (text.includes("\0")) throw new Error(`a NUL byte in ${JSON.stringify(text.slice(0, 60))}`);
}

/** The address of some bytes, for a structure that is passed to libbunc; they must stay referenced. */
export function addressOf(bytes: Uint8Array): number {
  return ptr(bytes);
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** UTF-8 with a terminating NUL. A NUL inside is the caller's mistake and is refused. */
export function cstring(text: string): Uint8Array {
  refuseNul(text);
  const bytes = new Uint8Array(text.length * 3 + 1);
  const { written } = encoder.encodeInto(text, bytes);
  return bytes.subarray(0, written + 1);
}

/** UTF-8 bytes as text; invalid sequences become U+FFFD. */
export function text(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** Text as UTF-8 bytes. */
export function bytesOf(value: string): Uint8Array {
  return encoder.encode(value);
}
