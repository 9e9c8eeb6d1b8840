/**
 * The stub in front of a filter that answers ENOSYS to system calls newer than all the profile names, instead of the
 * default action. Programs probe for new system calls and fall back on ENOSYS, not on EPERM; a profile older than the
 * C library would break them otherwise. Same decisions as runc's libcontainer/seccomp/patchbpf.
 */
import { INSTRUCTION_SIZE, type SeccompInfo } from "./native.ts";
import { ACT_ALLOW, ACT_LOG, ACT_TRACE } from "./profile.ts";

/** Classic BPF, as linux/bpf_common.h composes it. */
export const BPF_LD_W_ABS = 0x20;
export const BPF_JA = 0x05;
export const BPF_JEQ_K = 0x15;
export const BPF_JGT_K = 0x25;
export const BPF_JSET_K = 0x45;
export const BPF_RET_K = 0x06;

/** Offsets in struct seccomp_data. */
export const DATA_NR = 0;
export const DATA_ARCH = 4;

/** Set in the numbers of the x32 ABI, which otherwise shares AUDIT_ARCH_X86_64. */
const X32_BIT = 0x40000000;

/** The largest system call number that a profile names on an architecture. */
export interface LastSyscall {
  /** SCMP_ARCH_* token. */
  arch: number;
  number: number;
}

/**
 * True when the default action is to get the stub. A default that allows (or lets a tracer decide) must not be cut
 * short. runc means to leave the stub out for a default of ENOSYS too, but its comparison never holds; and the stub
 * is not without effect then: on x86_64 it answers numbers from 0x80000000 on, for which libseccomp would kill.
 */
export function wantsEnosysStub(defaultAction: number): boolean {
  return (
    defaultAction !== ACT_ALLOW && defaultAction !== ACT_LOG && defaultAction >>> 16 !== ACT_TRACE >>> 16
  );
}

/**
 * Builds the stub: for each architecture a section that either answers ENOSYS or jumps behind the stub, where the
 * filter starts. Unlisted architectures fall through all sections.
 * @param last per architecture; without those for which the profile names nothing. At most 32.
 */
export function enosysStub(last: readonly LastSyscall[], info: SeccompInfo): Uint8Array {
  if (last.length === 0) return new Uint8Array(0);
  const sections: Instruction[][] = [];
  for (const one of last) {
    if (one.arch === info.x32 && last.some((other) => other.arch === info.x86_64)) continue; // in the section of x86_64
    sections.push(section(one, last, info));
  }
  const program: Instruction[] = [[BPF_LD_W_ABS, 0, 0, DATA_ARCH]];
  let left = 0;
  for (const one of sections) left += one.length;
  for (const one of sections) {
    left -= one.length;
    for (const instruction of one) program.push(instruction);
    // The last of a section jumps over all that follow; in the last section it falls into the filter.
    program[program.length - 1]![3] = left;
  }
  return assemble(program);
}

type Instruction = [code: number, jt: number, jf: number, k: number];

/** The section of an architecture. Starts with its AUDIT_ARCH in A; the last instruction is an open jump. */
function section(one: LastSyscall, all: readonly LastSyscall[], info: SeccompInfo): Instruction[] {
  const refuse: Instruction = [BPF_RET_K, 0, 0, info.enosys];
  let auditArch = one.arch; // apart from x32, tokens are AUDIT_ARCH_* values
  let body: Instruction[];
  if (one.arch === info.x86_64 || one.arch === info.x32) {
    auditArch = info.x86_64;
    const of = (arch: number) => all.find((other) => other.arch === arch)?.number;
    body = x86Body(of(info.x86_64), of(info.x32), refuse);
  } else {
    body = [[BPF_JGT_K, 0, 1, one.number], refuse];
    // A number unknown to the kernel arrives as 0 (setup), which nothing else has used for decades.
    if (one.arch === info.s390 || one.arch === info.s390x) body.unshift([BPF_JEQ_K, 1, 0, 0]);
  }
  return [
    [BPF_JEQ_K, 0, body.length + 2, auditArch],
    [BPF_LD_W_ABS, 0, 0, DATA_NR],
    ...body,
    [BPF_JA, 0, 0, 0],
  ];
}

/** x86_64 and x32 by bit 30 of the number; a mode the profile does not have goes to the filter. */
function x86Body(x86_64: number | undefined, x32: number | undefined, refuse: Instruction): Instruction[] {
  if (x86_64 !== undefined && x32 !== undefined) {
    return [[BPF_JSET_K, 1, 0, X32_BIT], [BPF_JGT_K, 1, 2, x86_64], [BPF_JGT_K, 0, 1, x32], refuse];
  }
  if (x86_64 !== undefined) return [[BPF_JSET_K, 2, 0, X32_BIT], [BPF_JGT_K, 0, 1, x86_64], refuse];
  return [[BPF_JSET_K, 0, 2, X32_BIT], [BPF_JGT_K, 0, 1, x32!], refuse];
}

function assemble(program: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(program.length * INSTRUCTION_SIZE);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < program.length; i++) {
    const [code, jt, jf, k] = program[i]!;
    const at = i * INSTRUCTION_SIZE;
    view.setUint16(at, code, true);
    view.setUint8(at + 2, jt);
    view.setUint8(at + 3, jf);
    view.setUint32(at + 4, k, true);
  }
  return bytes;
}
