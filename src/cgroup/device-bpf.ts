/**
 * The device filter of cgroup v2: an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE, which the kernel asks before a
 * device is opened or made. Instructions: RFC 9669; its context: struct bpf_cgroup_dev_ctx of linux/bpf.h.
 */
import { type Part, type Slot, type Slots, Struct } from "../launch/program.ts";
import { abi, bpf_attr_, sizeof_ } from "../linux/abi.gen.ts";
import { ALL_ACCESS, ANY, type DeviceFilter } from "./devices.ts";

/** Opcodes (RFC 9669, "Instruction encoding"): class, source and operation, the same on every machine. */
const LOAD_WORD = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const AND32 = 0x54; // BPF_ALU | BPF_K | BPF_AND
const SHIFT_RIGHT32 = 0x74; // BPF_ALU | BPF_K | BPF_RSH
const MOVE32 = 0xbc; // BPF_ALU | BPF_X | BPF_MOV
const SET = 0xb7; // BPF_ALU64 | BPF_K | BPF_MOV
// The 32-bit forms: a number of 2^31 or more would otherwise be compared with its sign spread over 64 bits.
const JUMP_NOT_EQUAL = 0x56; // BPF_JMP32 | BPF_K | BPF_JNE
const JUMP_NOT_EQUAL_REG = 0x5e; // BPF_JMP32 | BPF_X | BPF_JNE
const EXIT = 0x95; // BPF_JMP | BPF_EXIT
const INSTRUCTION = 8;

/** Registers: R0 the answer, R1 the context (later a scratch register), R2 type, R3 access, R4 major, R5 minor. */
const [ANSWER, CONTEXT, TYPE, ACCESS, MAJOR, MINOR] = [0, 1, 2, 3, 4, 5] as const;

/**
 * The filter as BPF instructions. A request matches an exception that has its type and numbers, and all of the access
 * that is asked for; the first match decides.
 */
export function deviceProgram(filter: DeviceFilter): Uint8Array {
  const words: number[] = [];
  const emit = (code: number, to: number, from: number, offset: number, value: number) => {
    words.push(code | (to << 8) | (from << 12) | ((offset & 0xffff) << 16), value);
  };
  // access_type: the type in the lower half, the access in the upper.
  emit(LOAD_WORD, TYPE, CONTEXT, 0, 0);
  emit(AND32, TYPE, 0, 0, 0xffff);
  emit(LOAD_WORD, ACCESS, CONTEXT, 0, 0);
  emit(SHIFT_RIGHT32, ACCESS, 0, 0, 16);
  emit(LOAD_WORD, MAJOR, CONTEXT, 4, 0);
  emit(LOAD_WORD, MINOR, CONTEXT, 8, 0);
  for (const { type, major, minor, access } of filter.exceptions) {
    // Each test jumps over what is left of this exception: the other tests and the two instructions of its answer.
    let left = 2 + (access === ALL_ACCESS ? 0 : 3) + (major === ANY ? 0 : 1) + (minor === ANY ? 0 : 1);
    emit(JUMP_NOT_EQUAL, TYPE, 0, left, type === "b" ? abi.BPF_DEVCG_DEV_BLOCK : abi.BPF_DEVCG_DEV_CHAR);
    if (access !== ALL_ACCESS) {
      left -= 3;
      emit(MOVE32, CONTEXT, ACCESS, 0, 0);
      emit(AND32, CONTEXT, 0, 0, access);
      emit(JUMP_NOT_EQUAL_REG, CONTEXT, ACCESS, left, 0);
    }
    if (major !== ANY) emit(JUMP_NOT_EQUAL, MAJOR, 0, --left, major);
    if (minor !== ANY) emit(JUMP_NOT_EQUAL, MINOR, 0, --left, minor);
    emit(SET, ANSWER, 0, 0, filter.allow ? 0 : 1);
    emit(EXIT, 0, 0, 0, 0);
  }
  emit(SET, ANSWER, 0, 0, filter.allow ? 1 : 0);
  emit(EXIT, 0, 0, 0, 0);
  const bytes = new Uint8Array(words.length * 4);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < words.length; i++) view.setUint32(i * 4, words[i]! >>> 0, true);
  return bytes;
}

/** bpf(2)'s attribute: one union; what is not set is zero. */
function attribute(name: string): Struct {
  return new Struct(sizeof_.bpf_attr, name);
}

/** Loads the filter and attaches it to the cgroup, beside those that are attached already. */
export function attachDeviceFilter(part: Part, slots: Slots, dir: string, filter: DeviceFilter): void {
  const program = deviceProgram(filter);
  const A = bpf_attr_;
  const load = attribute("bpf_attr: prog_load")
    .u32(A.prog_type, abi.BPF_PROG_TYPE_CGROUP_DEVICE)
    .u32(A.insn_cnt, program.length / INSTRUCTION)
    .pointer(A.insns, program)
    .pointer(A.license, "Apache");
  const attach = attribute("bpf_attr: prog_attach")
    .u32(A.attach_type, abi.BPF_CGROUP_DEVICE)
    .u32(A.attach_flags, abi.BPF_F_ALLOW_MULTI);
  const fd = slots.take("cgroup directory");
  const loaded = slots.take("device filter");
  const about = "cannot load the device filter (bpf)";
  const hint =
    "device rules of cgroup v2 need root on the host (CAP_BPF, or CAP_SYS_ADMIN) and a kernel with CONFIG_CGROUP_BPF";
  part.op(abi.SYS_openat, [abi.AT_FDCWD, dir, abi.O_RDONLY | abi.O_DIRECTORY | abi.O_CLOEXEC, 0], {
    slot: fd,
    about: `cannot open the cgroup ${dir}`,
  });
  // Before Linux 5.11 a program counts against RLIMIT_MEMLOCK.
  loadProgram(part, load, loaded, { about, hint, okSkip: 2, tolerate: [[abi.EPERM, 0]] });
  const unlimited = new Struct(16, "rlimit")
    .u32(0, 0xffffffff)
    .u32(4, 0xffffffff)
    .u32(8, 0xffffffff)
    .u32(12, 0xffffffff);
  part.op(abi.SYS_prlimit64, [0, abi.RLIMIT_MEMLOCK, unlimited, 0], { tolerate: [[abi.BUNC_ERR_ANY, 0]] });
  loadProgram(part, load, loaded, { about, hint });
  part.op(abi.BUNC_OP_PATCH, [attach.at(A.target_fd), 4, 0, fd]);
  part.op(abi.BUNC_OP_PATCH, [attach.at(A.attach_bpf_fd), 4, 0, loaded]);
  part.op(abi.SYS_bpf, [abi.BPF_PROG_ATTACH, attach, attach.size], {
    about: `cannot attach the device filter to ${dir} (bpf)`,
    hint,
  });
  part.op(abi.SYS_close, [loaded]);
  part.op(abi.SYS_close, [fd]);
  slots.give(fd, loaded);
}

function loadProgram(part: Part, load: Struct, slot: Slot, options: Parameters<Part["op"]>[2]): void {
  part.op(abi.SYS_bpf, [abi.BPF_PROG_LOAD, load, load.size], { ...options, slot });
}
