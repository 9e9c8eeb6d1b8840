/**
 * For tests: runs a seccomp program as the kernel would. Refuses what the kernel's checkers refuse
 * (bpf_check_classic, seccomp_check_filter), so that a program that runs here also loads.
 */
import { INSTRUCTION_SIZE } from "./native.ts";

/** struct seccomp_data. Arguments beyond those given are 0. */
export interface SyscallData {
  nr: number;
  arch: number;
  ip?: bigint;
  args?: readonly bigint[];
}

const DATA_SIZE = 64;

/** A loaded program. */
export class BpfProgram {
  readonly length: number;
  readonly #code: Uint16Array;
  readonly #jt: Uint8Array;
  readonly #jf: Uint8Array;
  readonly #k: Uint32Array;

  /** @throws Error when the kernel would refuse the program. */
  constructor(bytes: Uint8Array) {
    if (bytes.length === 0 || bytes.length % INSTRUCTION_SIZE !== 0) throw new Error(`${bytes.length} bytes`);
    this.length = bytes.length / INSTRUCTION_SIZE;
    if (this.length > 4096) throw new Error(`${this.length} instructions`);
    this.#code = new Uint16Array(this.length);
    this.#jt = new Uint8Array(this.length);
    this.#jf = new Uint8Array(this.length);
    this.#k = new Uint32Array(this.length);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let i = 0; i < this.length; i++) {
      this.#code[i] = view.getUint16(i * INSTRUCTION_SIZE, true);
      this.#jt[i] = view.getUint8(i * INSTRUCTION_SIZE + 2);
      this.#jf[i] = view.getUint8(i * INSTRUCTION_SIZE + 3);
      this.#k[i] = view.getUint32(i * INSTRUCTION_SIZE + 4, true);
      this.#check(i);
    }
    if (this.#code[this.length - 1] !== 0x06) throw new Error("the last instruction does not return");
  }

  #check(pc: number): void {
    const left = this.length - pc - 1;
    const k = this.#k[pc]!;
    switch (this.#code[pc]) {
      case 0x20: // ld [k]
        if (k >= DATA_SIZE || k % 4 !== 0) throw new Error(`instruction ${pc} loads from offset ${k}`);
        return;
      case 0x05: // ja
        if (k >= left) throw new Error(`instruction ${pc} jumps out of the program`);
        return;
      case 0x15: // jeq
      case 0x25: // jgt
      case 0x35: // jge
      case 0x45: // jset
        if (this.#jt[pc]! >= left || this.#jf[pc]! >= left) throw new Error(`instruction ${pc} jumps out`);
        return;
      case 0x54: // and #k
      case 0x06: // ret #k
        return;
      default:
        throw new Error(`instruction ${pc} has code 0x${this.#code[pc]!.toString(16)}`);
    }
  }

  /** The action for a system call, as an unsigned number. */
  run(data: SyscallData): number {
    const memory = new DataView(new ArrayBuffer(DATA_SIZE));
    memory.setUint32(0, data.nr, true);
    memory.setUint32(4, data.arch, true);
    memory.setBigUint64(8, data.ip ?? 0n, true);
    data.args?.forEach((arg, i) => {
      memory.setBigUint64(16 + i * 8, arg, true);
    });
    let a = 0;
    for (let pc = 0; ; pc++) {
      const k = this.#k[pc]!;
      switch (this.#code[pc]) {
        case 0x20:
          a = memory.getUint32(k, true);
          break;
        case 0x54:
          a = (a & k) >>> 0;
          break;
        case 0x05:
          pc += k;
          break;
        case 0x15:
          pc += a === k ? this.#jt[pc]! : this.#jf[pc]!;
          break;
        case 0x25:
          pc += a > k ? this.#jt[pc]! : this.#jf[pc]!;
          break;
        case 0x35:
          pc += a >= k ? this.#jt[pc]! : this.#jf[pc]!;
          break;
        case 0x45:
          pc += (a & k) !== 0 ? this.#jt[pc]! : this.#jf[pc]!;
          break;
        default:
          return k;
      }
    }
  }
}
