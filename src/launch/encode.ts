/**
 * The encoder: operations to the bytes of c/bunc.h (struct bunc_part, bunc_op). encode.test.ts decodes them again by
 * the offsets that the C compiler gave.
 */
import { abi, bunc_part_ as PART, sizeof_ } from "../linux/abi.gen.ts";
import type { PartTrace } from "../linux/trace.ts";
import { type Arg, Field, highWord, type Op, Slot, Struct } from "./program.ts";

const PART_SIZE = sizeof_.bunc_part;
const OP_SIZE = sizeof_.bunc_op;
/** The data begins with an empty string and a word that a padding relocation may add to. */
const EMPTY_STRING = 0;
const PADDING_WORD = 8;
const FIRST_DATA = 16;

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

/** Header and operations of the part that is being encoded, as little-endian words. */
let head = new Uint32Array(4096);
/** Its data without the strings. */
let data = new Uint8Array(4096);
let size = 0;
let relocs: number[] = [];
/** The same bytes may be named several times: one operation fills them in, another passes them on. */
let placed = new Map<Struct | Uint8Array, number>();
/**
 * The strings, each ended by NUL. They come last, and are encoded at once: as long as they are ASCII, their lengths are
 * known before. Until then their offsets lack `size`.
 */
let strings = "";
let inHead: number[] = [];
let inData: number[] = [];
/** There are others, which are encoded one by one. */
let notAscii = false;

/**
 * Encodes one part of a launch program.
 *
 * @throws RangeError when the part would be larger than abi.BUNC_MAX_PART.
 */
export function encodePart(ops: readonly Op[], options: PartOptions): Uint8Array {
  const words = (PART_SIZE + ops.length * OP_SIZE) >> 2;
  if (words > head.length) head = new Uint32Array(words * 2);
  else head.fill(0, 0, words);
  size = FIRST_DATA;
  data.fill(0, 0, FIRST_DATA);
  relocs = [];
  placed = new Map();
  strings = "";
  inHead = [];
  inData = [];
  let at = PART_SIZE >> 2;
  for (let i = 0; i < ops.length; i++) {
    encodeOp(at, ops[i]!);
    at += OP_SIZE >> 2;
  }
  if (relocs.length % 2) relocs.push(PADDING_WORD);
  const before = words * 4 + relocs.length * 4;
  const total = before + size + strings.length;
  if (total > abi.BUNC_MAX_PART)
    throw new RangeError(`the launch program has ${total} bytes, more than ${abi.BUNC_MAX_PART}`);
  const out = new Uint8Array(total);
  if (strings !== "") {
    const { read, written } = encoder.encodeInto(strings, out.subarray(before + size));
    if (read < strings.length || written > strings.length) return encodeOthers(ops, options);
    for (let i = 0; i < inHead.length; i++) head[inHead[i]!]! += size;
    if (inData.length) {
      const view = new DataView(data.buffer);
      for (let i = 0; i < inData.length; i++)
        view.setUint32(inData[i]!, view.getUint32(inData[i]!, true) + size, true);
    }
  }
  head[PART.magic >> 2] = abi.BUNC_MAGIC;
  head[PART.size >> 2] = total;
  head[PART.nops >> 2] = ops.length;
  head[PART.nrelocs >> 2] = relocs.length;
  head[PART.data_size >> 2] = size + strings.length;
  head[PART.first >> 2] = options.first;
  if (options.trace) {
    head[PART.flags >> 2] = abi.BUNC_PART_TRACE;
    head[PART.trace_fd >> 2] = options.trace.fd;
    head[PART.trace_end >> 2] = options.trace.end;
  }
  if (options.fault) {
    head[PART.fail_at >> 2] = options.fault.index + 1;
    head[PART.fail_errno >> 2] = options.fault.errno;
  }
  out.set(new Uint8Array(head.buffer, 0, words * 4));
  if (relocs.length) new Uint32Array(out.buffer, words * 4, relocs.length).set(relocs);
  out.set(data.subarray(0, size), before);
  return out;
}

/** A part with strings that are not ASCII. */
function encodeOthers(ops: readonly Op[], options: PartOptions): Uint8Array {
  notAscii = true;
  try {
    return encodePart(ops, options);
  } finally {
    notAscii = false;
  }
}

/** Places for that many bytes in the data. */
function room(bytes: number, align: number): number {
  const at = (size + align - 1) & ~(align - 1);
  if (at + bytes > data.length) {
    const twice = data.length * 2;
    const larger = new Uint8Array(twice > at + bytes ? twice : at + bytes);
    larger.set(data);
    data = larger;
  }
  // What an earlier part left in between.
  data.fill(0, size, at);
  size = at + bytes;
  return at;
}

/** Where a string lies; `size` is to be added if it is not 0. */
function placeString(text: string): number {
  if (text === "") return EMPTY_STRING;
  if (!notAscii) {
    const at = strings.length;
    strings += `${text}\0`;
    return at;
  }
  const bytes = encoder.encode(text);
  const at = room(bytes.length + 1, 1);
  data.set(bytes, at);
  data[at + bytes.length] = 0;
  return at;
}

/** Where bytes or a structure lie; they are put in once. */
function placeBytes(arg: Uint8Array | Struct): number {
  const there = placed.get(arg);
  if (there !== undefined) return there;
  let at: number;
  if (arg instanceof Struct) {
    at = room(arg.size, 8);
    data.set(new Uint8Array(arg.words.buffer), at);
    placed.set(arg, at);
    const { pointers } = arg;
    for (let i = 0; i < pointers.length; i++) {
      const { offset, to } = pointers[i]!;
      const where = at + offset;
      const target = typeof to === "string" ? placeString(to) : placeBytes(to);
      if (typeof to === "string" && to !== "" && !notAscii) inData.push(where);
      new DataView(data.buffer).setUint32(where, target, true);
      relocs.push(where);
    }
  } else {
    at = room(arg.length, 8);
    data.set(arg, at);
    placed.set(arg, at);
  }
  return at;
}

/** Encodes an operation. @param at of its first word in `head`; the words are those of struct bunc_op */
function encodeOp(at: number, op: Op): void {
  const { options, args } = op;
  const { slot, okSkip = 0, log, tolerate } = options;
  if (okSkip > 255) throw new RangeError("an operation skips at most 255 others");
  head[at] = op.call;
  let results = (slot ? slot.index : abi.BUNC_NO_SLOT) | (okSkip << 8);
  let more = log ? (log.index + 1) << 16 : 0;
  if (tolerate) {
    if (tolerate.length > 2) throw new RangeError("an operation tolerates at most two errnos");
    for (let i = 0; i < tolerate.length; i++) {
      const [errno, skip] = tolerate[i]!;
      if (skip > 255) throw new RangeError("an operation skips at most 255 others");
      if (i === 0) results |= (errno << 16) | (skip << 24);
      else more |= errno | (skip << 8);
    }
  }
  head[at + 2] = results;
  head[at + 3] = more;
  if (args.length > 6) throw new RangeError("an operation has at most six arguments");
  let tags = 0;
  let where = at + 4;
  for (let i = 0; i < args.length; i++, where += 2) {
    const arg = args[i] as Arg;
    if (typeof arg === "number") {
      head[where] = arg;
      if (arg < 0 || arg > 0xffffffff) head[where + 1] = highWord(arg);
    } else if (typeof arg === "string") {
      tags |= abi.BUNC_ARG_DATA << (4 * i);
      head[where] = placeString(arg);
      if (arg !== "" && !notAscii) inHead.push(where);
    } else if (typeof arg === "bigint") {
      const value = BigInt.asUintN(64, arg);
      head[where] = Number(value & 0xffffffffn);
      head[where + 1] = Number(value >> 32n);
    } else if (arg instanceof Slot) {
      tags |= abi.BUNC_ARG_SLOT << (4 * i);
      head[where] = arg.index;
    } else {
      tags |= abi.BUNC_ARG_DATA << (4 * i);
      head[where] = arg instanceof Field ? placeBytes(arg.struct) + arg.offset : placeBytes(arg);
    }
  }
  head[at + 1] = tags;
}
