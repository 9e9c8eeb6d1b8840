/**
 * For tests, run as a process of its own: loads a filter into the kernel and reports what the kernel decides. x86_64.
 *
 * usage: kernel-probe.ts decide FILTER PROBES   the decision for each system call of a JSON list
 *        kernel-probe.ts load FILTER FLAGS      seccomp(2) with the flags, then a few real system calls
 *
 * For "decide" nothing may really be called: every answer of the program is replaced by an errno that stands for it,
 * and a prologue lets only the calls made by a function of our own reach the program, known by its address. Filters
 * apply to the calling thread alone, so Bun's other threads go on as before.
 */
import { CFunction, dlopen, type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { readFileSync } from "node:fs";

const FIRST_ERRNO = 1000;
const PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_SET_MODE_FILTER = 1;
const PROT_READ_WRITE_EXEC = 7;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const LD = 0x20;
const JEQ = 0x15;
const RET = 0x06;
const DATA_IP = 8;

/** long f(nr, a, b, c, d, e, f): the system call; what the kernel answers, -errno included. */
const MACHINE_CODE = [
  ...[0x48, 0x89, 0xf8], // mov rax, rdi
  ...[0x48, 0x89, 0xf7], // mov rdi, rsi
  ...[0x48, 0x89, 0xd6], // mov rsi, rdx
  ...[0x48, 0x89, 0xca], // mov rdx, rcx
  ...[0x4d, 0x89, 0xc2], // mov r10, r8
  ...[0x4d, 0x89, 0xc8], // mov r8, r9
  ...[0x4c, 0x8b, 0x4c, 0x24, 0x08], // mov r9, [rsp + 8]
  ...[0x0f, 0x05], // syscall
  0xc3, // ret
];

const libc = dlopen("libc.so.6", {
  mmap: { args: ["ptr", "u64", "i32", "i32", "i32", "i64"], returns: "ptr" },
  prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
});
const code = libc.symbols.mmap(null, 4096, PROT_READ_WRITE_EXEC, MAP_PRIVATE_ANONYMOUS, -1, 0) as Pointer;
new Uint8Array(toArrayBuffer(code, 0, MACHINE_CODE.length)).set(MACHINE_CODE);
/** seccomp_data.instruction_pointer of our calls: the address after `syscall`. */
const ip = BigInt(code) + BigInt(MACHINE_CODE.length - 1);
const systemCall = CFunction({
  ptr: code,
  args: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"],
  returns: "i64",
});

/** A system call; -errno when it fails. */
function call(nr: bigint, a = 0n, b = 0n, c = 0n): number {
  return Number(systemCall(nr, a, b, c, 0n, 0n, 0n));
}

function load(program: Uint8Array, flags: number): number {
  const fprog = new DataView(new ArrayBuffer(16));
  fprog.setUint16(0, program.length / 8, true);
  fprog.setBigUint64(8, BigInt(ptr(program)), true);
  const nr = BigInt(process.env.NR_SECCOMP ?? "");
  return call(nr, BigInt(SECCOMP_SET_MODE_FILTER), BigInt(flags), BigInt(ptr(new Uint8Array(fprog.buffer))));
}

/** The program with each answer replaced by ERRNO(FIRST_ERRNO + its index in `answers`), behind the prologue. */
function harmless(filter: Uint8Array, answers: number[]): Uint8Array {
  const prologue = [
    [LD, 0, 0, DATA_IP],
    [JEQ, 0, 2, Number(ip & 0xffffffffn)],
    [LD, 0, 0, DATA_IP + 4],
    [JEQ, 1, 0, Number(ip >> 32n)],
    [RET, 0, 0, 0x7fff0000],
  ] as const;
  const program = new Uint8Array(filter.length + prologue.length * 8);
  program.set(filter, prologue.length * 8);
  const view = new DataView(program.buffer);
  const put = (at: number, code: number, jt: number, jf: number, k: number) => {
    view.setUint16(at, code, true);
    view.setUint8(at + 2, jt);
    view.setUint8(at + 3, jf);
    view.setUint32(at + 4, k, true);
  };
  prologue.forEach(([code, jt, jf, k], i) => {
    put(i * 8, code, jt, jf, k);
  });
  for (let at = prologue.length * 8; at < program.length; at += 8) {
    if (view.getUint16(at, true) !== RET) continue;
    const answer = view.getUint32(at + 4, true);
    if (!answers.includes(answer)) answers.push(answer);
    put(at, RET, 0, 0, 0x00050000 + FIRST_ERRNO + answers.indexOf(answer));
  }
  return program;
}

const [, , what, filterPath, last] = process.argv;
const filter = new Uint8Array(readFileSync(filterPath!));
if (libc.symbols.prctl(PR_SET_NO_NEW_PRIVS, 1n, 0n, 0n, 0n) !== 0)
  throw new Error("prctl(PR_SET_NO_NEW_PRIVS)");

if (what === "decide") {
  const probes: [nr: number, arg0: string][] = JSON.parse(readFileSync(last!, "utf8"));
  const answers: number[] = [];
  const loaded = load(harmless(filter, answers), 0);
  if (loaded !== 0) throw new Error(`seccomp(2) answered ${loaded}`);
  const decisions = probes.map(([nr, arg0]) => {
    const result = call(BigInt(nr), BigInt.asIntN(64, BigInt(arg0)));
    return answers[-result - FIRST_ERRNO] ?? `no answer: ${result}`;
  });
  process.stdout.write(JSON.stringify(decisions));
} else {
  const loaded = load(filter, Number(last));
  const calls: Record<string, number> = {};
  for (const part of (process.env.CALLS ?? "").split(",").filter(Boolean)) calls[part] = call(BigInt(part));
  process.stdout.write(JSON.stringify({ loaded, calls }));
}
process.exit(0);
