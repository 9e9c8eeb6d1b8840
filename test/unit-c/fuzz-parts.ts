/**
 * Hands corrupted parts to BUNC_CALL_RUN of build/libbunc.so and compares each answer with what c/bunc.h says of the
 * part. A process of its own, so that a crash is seen; usage: fuzz-parts.ts SEED COUNT. Every operation is getpid,
 * whose arguments the kernel ignores, and no corruption touches an operation's number: whatever else is wrong, nothing
 * but getpid is ever called.
 */
import { encodePart } from "../../src/launch/encode.ts";
import { Part, Slot, Struct } from "../../src/launch/program.ts";
import { Random } from "../../src/launch/testing.ts";
import * as abi from "../../src/linux/abi.gen.ts";
import { sys } from "../../src/linux/lib.ts";

const { bunc_part_: PART, bunc_op_: OP, sizeof_ } = abi;
const EXTREMES = [
  0, 1, 8, 0x3f, 0x40, 0x7f, 0xff, 0x100, 0xffff, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff,
];

/** What bunc_load has to answer; undefined where that depends on where the part lies in memory. */
function expected(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < sizeof_.bunc_part) return -abi.EINVAL;
  const u32 = (at: number) => view.getUint32(at, true);
  if (u32(PART.magic) !== abi.BUNC_MAGIC || u32(PART.size) !== bytes.length) return -abi.EINVAL;
  if (bytes.length > abi.BUNC_MAX_PART) return -abi.EFBIG;
  const [nops, nrelocs, size] = [u32(PART.nops), u32(PART.nrelocs), u32(PART.data_size)];
  const relocsAt = sizeof_.bunc_part + nops * sizeof_.bunc_op;
  const dataAt = relocsAt + nrelocs * 4;
  if (dataAt + size !== bytes.length) return -abi.EINVAL;
  const seen: number[] = [];
  for (let i = 0; i < nrelocs; i++) {
    const at = u32(relocsAt + i * 4);
    if (at + 8 > size) return -abi.EINVAL;
    // A word that is already an address lies beyond the data; one that overlaps an address may hold anything.
    if (seen.includes(at)) return -abi.EINVAL;
    if (seen.some((other) => Math.abs(other - at) < 8)) return undefined;
    seen.push(at);
    if (view.getBigUint64(dataAt + at, true) > BigInt(size)) return -abi.EINVAL;
  }
  for (let i = 0; i < nops; i++) {
    const op = sizeof_.bunc_part + i * sizeof_.bunc_op;
    const slot = view.getUint8(op + OP.slot);
    if (slot !== abi.BUNC_NO_SLOT && slot >= abi.BUNC_SLOTS) return -abi.EINVAL;
    if (view.getUint16(op + OP.log_slot, true) > abi.BUNC_SLOTS) return -abi.EINVAL;
    for (let a = 0; a < 6; a++) {
      const tag = (u32(op + OP.tags) >>> (4 * a)) & 15;
      const word = view.getBigUint64(op + OP.args + a * 8, true);
      const limit = tag === abi.BUNC_ARG_DATA ? BigInt(size) : BigInt(abi.BUNC_SLOTS - 1);
      if (tag > abi.BUNC_ARG_SLOT || (tag !== abi.BUNC_ARG_IMM && word > limit)) return -abi.EINVAL;
    }
  }
  return 0;
}

function makePart(random: Random): Uint8Array {
  const part = new Part();
  const count = random.below(6);
  for (let i = 0; i < count; i++) {
    const struct = new Struct(32, "random");
    for (let p = random.below(4); p > 0; p--) struct.pointer((p - 1) * 8, "x".repeat(random.below(20)));
    const args = [
      random.below(100),
      "text",
      new Slot(random.below(abi.BUNC_SLOTS), "slot"),
      struct,
      new Uint8Array(8),
    ];
    const slot = new Slot(random.below(abi.BUNC_SLOTS), "result");
    part.op(
      abi.SYS_getpid,
      args.slice(0, random.below(6)),
      random.below(2) ? { slot } : { okSkip: random.below(5) },
    );
  }
  return encodePart(part.ops, { first: 1000 });
}

/** Whether a byte belongs to the number of an operation. */
function isCode(at: number, nops: number): boolean {
  const inOps = at - sizeof_.bunc_part;
  if (inOps < 0 || inOps >= nops * sizeof_.bunc_op) return false;
  const inOp = inOps % sizeof_.bunc_op;
  return inOp >= OP.code && inOp < OP.code + 2;
}

function corrupt(bytes: Uint8Array, random: Random): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const nops = view.getUint32(PART.nops, true);
  const u32 = (at: number, value: number) => view.setUint32(at, value, true);
  switch (random.below(8)) {
    case 0:
      // Truncated, with a header that knows nothing of it, or that does.
      bytes = bytes.slice(0, random.below(bytes.length + 1));
      if (bytes.length >= 8 && random.below(2))
        new DataView(bytes.buffer).setUint32(PART.size, bytes.length, true);
      return bytes;
    case 1:
      u32(
        random.pick([PART.magic, PART.size, PART.nops, PART.nrelocs, PART.data_size]),
        random.pick(EXTREMES),
      );
      return bytes;
    case 2: {
      // Sizes that still add up: an operation, or pointers, become data.
      const shift = random.below(2) && nops > 0;
      const relocs = view.getUint32(PART.nrelocs, true);
      const take = shift ? sizeof_.bunc_op : Math.min(relocs, 2) * 4;
      if (shift) u32(PART.nops, nops - 1);
      else u32(PART.nrelocs, relocs - take / 4);
      u32(PART.data_size, view.getUint32(PART.data_size, true) + take);
      return bytes;
    }
    default:
      for (let n = 1 + random.below(4); n > 0; n--) {
        const at = random.below(bytes.length);
        const wide = random.below(2) === 1 && at + 4 <= bytes.length;
        if ([0, 1, 2, 3].some((i) => isCode(at + i, nops))) continue;
        if (wide) u32(at, random.pick(EXTREMES));
        else bytes[at]! ^= 1 << random.below(8);
      }
      return bytes;
  }
}

const random = new Random(Number(process.argv[2]));
const count = Number(process.argv[3]);
const answers: Record<string, number> = {};
for (let i = 0; i < count; i++) {
  const bytes = corrupt(makePart(random), random);
  const wanted = expected(bytes);
  const state = new Uint8Array(sizeof_.bunc_state);
  // Memory of a size of its own: an empty part has an address, too.
  const memory = new Uint8Array(Math.max(bytes.length, 1));
  memory.set(bytes);
  const got = sys(abi.BUNC_CALL_RUN, memory, bytes.length, state);
  if (wanted === undefined ? got !== 0 && got !== -abi.EINVAL : got !== wanted) {
    console.error(`part ${i}: ${got} instead of ${wanted}: ${Buffer.from(bytes).toString("hex")}`);
    process.exit(1);
  }
  answers[got] = (answers[got] ?? 0) + 1;
}
console.log(JSON.stringify(answers));
