/**
 * The encoder: operations to the bytes of c/bunc.h (struct bunc_part, bunc_op). encode.test.ts decodes them again by
 * the offsets that the C compiler gave.
 */
import { abi, bunc_op_ as OP, bunc_part_ as PART, sizeof_ } from "../linux/abi.gen.ts";
import type { PartTrace } from "../linux/trace.ts";
import { type Arg, type DataArg, Field, type Op, Slot, Struct } from "./program.ts";

const PART_SIZE = sizeof_.bunc_part;
const OP_SIZE = sizeof_.bunc_op;
/** The data begins with an empty string and a word that a padding relocation may add to. */
const EMPTY_STRING = 0;
const PADDING_WORD = 8;

/** What a part's header says besides its sizes. */
export interface PartOptions {
  /** Index of its first operation in the whole program. */
  first: number;
  /** Fault injection (test builds): the operation with this index fails with this errno. */
  fault?: { index: number; errno: number } | undefined;
  /** The operations are timed, those from the index `end` on excepted; `fd`: init's memory for the times. */
  trace?: PartTrace | undefined;
}

const encoder = new TextEncoder();

/** Growing data area with the pointers in it. */
class Data {
  bytes = new Uint8Array(8192);
  size = 16;
  readonly relocs: number[] = [];
  /** The same bytes may be named several times: one operation fills them in, another passes them on. */
  private readonly placed = new Map<Struct | Uint8Array, number>();

  private room(size: number, align: number): number {
    const at = (this.size + align - 1) & ~(align - 1);
    if (at + size > this.bytes.length) {
      const twice = this.bytes.length * 2;
      const larger = new Uint8Array(twice > at + size ? twice : at + size);
      larger.set(this.bytes);
      this.bytes = larger;
    }
    this.size = at + size;
    return at;
  }

  /** Where the argument lies; bytes and structures are put in once. */
  place(arg: DataArg): number {
    if (typeof arg === "string") return this.add(arg);
    let offset = this.placed.get(arg);
    if (offset === undefined) {
      offset = this.add(arg);
      this.placed.set(arg, offset);
    }
    return offset;
  }

  private add(arg: DataArg): number {
    if (typeof arg === "string") {
      if (arg === "") return EMPTY_STRING;
      const at = this.room(arg.length * 3 + 1, 1);
      const { written } = encoder.encodeInto(arg, this.bytes.subarray(at));
      this.bytes[at + written] = 0;
      this.size = at + written + 1;
      return at;
    }
    if (arg instanceof Struct) {
      const at = this.room(arg.size, 8);
      this.bytes.set(new Uint8Array(arg.view.buffer), at);
      for (const pointer of arg.pointers) {
        const target = this.place(pointer.to);
        new DataView(this.bytes.buffer).setUint32(at + pointer.offset, target, true);
        this.relocs.push(at + pointer.offset);
      }
      return at;
    }
    const at = this.room(arg.length, 8);
    this.bytes.set(arg, at);
    return at;
  }
}

/**
 * Encodes one part of a launch program.
 *
 * @throws RangeError when the part would be larger than abi.BUNC_MAX_PART.
 */
export function encodePart(ops: readonly Op[], options: PartOptions): Uint8Array {
  const data = new Data();
  const head = new Uint8Array(PART_SIZE + ops.length * OP_SIZE);
  const view = new DataView(head.buffer);
  for (let i = 0; i < ops.length; i++) encodeOp(view, PART_SIZE + i * OP_SIZE, ops[i]!, data);
  if (data.relocs.length % 2) data.relocs.push(PADDING_WORD);
  const size = head.length + data.relocs.length * 4 + data.size;
  if (size > abi.BUNC_MAX_PART)
    throw new RangeError(`the launch program has ${size} bytes, more than ${abi.BUNC_MAX_PART}`);
  view.setUint32(PART.magic, abi.BUNC_MAGIC, true);
  view.setUint32(PART.size, size, true);
  view.setUint32(PART.nops, ops.length, true);
  view.setUint32(PART.nrelocs, data.relocs.length, true);
  view.setUint32(PART.data_size, data.size, true);
  view.setUint32(PART.first, options.first, true);
  if (options.trace) {
    view.setUint32(PART.flags, abi.BUNC_PART_TRACE, true);
    view.setInt32(PART.trace_fd, options.trace.fd, true);
    view.setUint32(PART.trace_end, options.trace.end, true);
  }
  if (options.fault) {
    view.setUint32(PART.fail_at, options.fault.index + 1, true);
    view.setUint32(PART.fail_errno, options.fault.errno, true);
  }
  const out = new Uint8Array(size);
  out.set(head);
  const relocs = new DataView(out.buffer, head.length);
  for (let i = 0; i < data.relocs.length; i++) relocs.setUint32(i * 4, data.relocs[i]!, true);
  out.set(data.bytes.subarray(0, data.size), head.length + data.relocs.length * 4);
  return out;
}

function encodeOp(view: DataView, at: number, op: Op, data: Data): void {
  const { options, args } = op;
  view.setUint16(at + OP.code, op.call, true);
  view.setUint8(at + OP.slot, options.slot ? options.slot.index : abi.BUNC_NO_SLOT);
  if (options.okSkip && options.okSkip > 255) throw new RangeError("an operation skips at most 255 others");
  if (options.okSkip) view.setUint8(at + OP.ok_skip, options.okSkip);
  if (options.log) view.setUint16(at + OP.log_slot, options.log.index + 1, true);
  const tolerate = options.tolerate;
  if (tolerate) {
    if (tolerate.length > 2) throw new RangeError("an operation tolerates at most two errnos");
    for (let i = 0; i < tolerate.length; i++) {
      if (tolerate[i]![1] > 255) throw new RangeError("an operation skips at most 255 others");
      view.setUint8(at + (i ? OP.err2 : OP.err1), tolerate[i]![0]);
      view.setUint8(at + (i ? OP.skip2 : OP.skip1), tolerate[i]![1]);
    }
  }
  if (args.length > 6) throw new RangeError("an operation has at most six arguments");
  let tags = 0;
  for (let i = 0; i < args.length; i++) {
    const where = at + OP.args + i * 8;
    const arg = args[i] as Arg;
    if (typeof arg === "number") {
      setWord(view, where, arg);
    } else if (typeof arg === "bigint") {
      view.setBigUint64(where, BigInt.asUintN(64, arg), true);
    } else if (arg instanceof Slot) {
      tags |= abi.BUNC_ARG_SLOT << (4 * i);
      view.setUint32(where, arg.index, true);
    } else {
      tags |= abi.BUNC_ARG_DATA << (4 * i);
      const offset = arg instanceof Field ? data.place(arg.struct) + arg.offset : data.place(arg);
      view.setUint32(where, offset, true);
    }
  }
  view.setUint32(at + OP.tags, tags, true);
}

/** A number as a 64-bit word in two's complement: -1 and AT_FDCWD included. The division has no remainder. */
function setWord(view: DataView, at: number, value: number): void {
  const low = value >>> 0;
  view.setUint32(at, low, true);
  view.setUint32(at + 4, ((value - low) / 0x100000000) >>> 0, true);
}
