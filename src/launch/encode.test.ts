/**
 * The encoder: random programs are encoded, then taken apart by the offsets that the C compiler gave, and compared
 * with what went in. Needs no build; that C reads them the same way is in interp.test.ts.
 */
import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import { encodePart } from "./encode.ts";
import { type Arg, type DataArg, Field, type Op, type OpOptions, Part, Slot, Struct } from "./program.ts";
import { type DecodedOp, type DecodedPart, decodePart, Random } from "./testing.ts";

const NUMBERS = [0, 1, -1, abi.AT_FDCWD, 255, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, -0x80000001];
const LARGE = [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 0x1_0000_0001, -0x1_0000_0001, -0x100000000];
const BIGINTS = [0n, -1n, 0xffffffffffffffffn, -0x8000000000000000n, 0x7fffffffffffffffn, 1n << 33n];
const TEXTS = [
  "",
  "a",
  "/proc/self/fd",
  "größe",
  "日本語",
  "😀 mount",
  "\ud800",
  "x\udc00y",
  "\u{10ffff}",
  "\uffff",
];

/** A random program, and objects that several operations share. */
class Generator {
  readonly random: Random;
  private readonly shared: (Struct | Uint8Array)[] = [];

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  part(): Part {
    const part = new Part();
    const count = this.random.below(40);
    for (let i = 0; i < count; i++) {
      const args = Array.from({ length: this.random.below(7) }, () => this.arg());
      part.op(
        this.random.pick([0, 1, 257, 0x1ff, abi.BUNC_OP_FIRST, abi.BUNC_OP_LAST - 1]),
        args,
        this.options(),
      );
    }
    return part;
  }

  private options(): OpOptions {
    const { random } = this;
    const options: OpOptions = {};
    if (random.below(2)) options.slot = this.slot();
    if (random.below(3) === 0) options.okSkip = random.below(256);
    if (random.below(4) === 0) options.log = this.slot();
    const tolerate = Array.from(
      { length: random.below(3) },
      () => [1 + random.below(255), random.below(256)] as const,
    );
    if (tolerate.length) options.tolerate = tolerate;
    return options;
  }

  private slot(): Slot {
    return new Slot(this.random.below(abi.BUNC_SLOTS), "slot");
  }

  private arg(): Arg {
    switch (this.random.below(8)) {
      case 0:
        return this.random.pick(NUMBERS);
      case 1:
        return this.random.pick(LARGE);
      case 2:
        return this.random.pick(BIGINTS);
      case 3:
        return this.slot();
      case 4: {
        const struct = this.struct(0);
        return struct.at(this.random.below(struct.size));
      }
      default:
        return this.data(0);
    }
  }

  private data(depth: number): DataArg {
    const { random } = this;
    switch (random.below(depth < 4 ? 6 : 3)) {
      case 0:
        return random.pick(TEXTS);
      case 1:
        return random.pick(TEXTS).repeat(random.below(3000));
      case 2:
        return this.keep(new Uint8Array(Array.from({ length: random.below(50) }, () => random.below(256))));
      case 3:
        return this.shared.length ? random.pick(this.shared) : "";
      default:
        return this.struct(depth);
    }
  }

  private struct(depth: number): Struct {
    const { random } = this;
    const words = 1 + random.below(12);
    const struct = new Struct(words * 8 + random.below(2) * 4, "random");
    for (let i = 0; i < words; i++) {
      if (random.below(2)) struct.u64(i * 8, random.pick([...NUMBERS, ...LARGE, ...BIGINTS]));
      else struct.pointer(i * 8, this.data(depth + 1));
    }
    // Only now: a structure that points to itself could never be placed.
    return this.keep(struct);
  }

  private keep<T extends Struct | Uint8Array>(value: T): T {
    this.shared.push(value);
    return value;
  }
}

/** Compares a decoded part with its operations; throws at the first difference. */
class Comparison {
  /** Where each object lies: one that is named twice must lie at one place. */
  private readonly places = new Map<Struct | Uint8Array, number>();
  private readonly pointers = new Set<number>();
  private readonly view: DataView;

  constructor(private readonly decoded: DecodedPart) {
    this.view = new DataView(decoded.data.buffer, decoded.data.byteOffset, decoded.data.length);
  }

  run(ops: readonly Op[]): void {
    expect(this.decoded.ops.length).toBe(ops.length);
    ops.forEach((op, i) => {
      this.compareOp(op, this.decoded.ops[i]!);
    });
    // Each pointer is relocated once; one more, of a word that nobody reads, makes their number even.
    const { relocs } = this.decoded;
    const extra = relocs.filter((at) => !this.pointers.has(at));
    expect(new Set(relocs).size).toBe(relocs.length);
    expect(relocs.length - extra.length).toBe(this.pointers.size);
    expect(relocs.length % 2).toBe(0);
    expect(extra.length).toBeLessThanOrEqual(1);
    for (const at of extra) expect(this.view.getBigUint64(at, true)).toBe(0n);
  }

  private compareOp(op: Op, got: DecodedOp): void {
    const { slot, okSkip = 0, log, tolerate = [] } = op.options;
    expect(got.code).toBe(op.call);
    expect(got.slot).toBe(slot ? slot.index : abi.BUNC_NO_SLOT);
    expect(got.okSkip).toBe(okSkip);
    expect(got.logSlot).toBe(log ? log.index + 1 : 0);
    for (const i of [0, 1] as const) {
      expect([got.err[i], got.skip[i]]).toEqual(tolerate[i] ? [...tolerate[i]] : [abi.BUNC_ERR_NONE, 0]);
    }
    for (let i = 0; i < 6; i++) this.compareArg(op.args[i] ?? 0, got.tags[i]!, got.args[i]!);
  }

  private compareArg(arg: Arg, tag: number, word: bigint): void {
    if (typeof arg === "number" || typeof arg === "bigint") {
      expect(tag).toBe(abi.BUNC_ARG_IMM);
      expect(word).toBe(BigInt.asUintN(64, BigInt(arg)));
    } else if (arg instanceof Slot) {
      expect(tag).toBe(abi.BUNC_ARG_SLOT);
      expect(word).toBe(BigInt(arg.index));
    } else {
      expect(tag).toBe(abi.BUNC_ARG_DATA);
      if (arg instanceof Field) this.compareData(arg.struct, Number(word) - arg.offset);
      else this.compareData(arg, Number(word));
    }
  }

  private compareData(arg: DataArg, at: number): void {
    const { data } = this.decoded;
    if (typeof arg === "string") {
      // Lone surrogates become U+FFFD, as everywhere where JavaScript's text leaves it.
      const wanted = new TextEncoder().encode(arg);
      expect(Buffer.from(data.subarray(at, at + wanted.length)).equals(wanted)).toBe(true);
      expect(data[at + wanted.length]).toBe(0);
      return;
    }
    const known = this.places.get(arg);
    if (known !== undefined) {
      expect(at).toBe(known);
      return;
    }
    this.places.set(arg, at);
    expect((data.byteOffset + at) % 8).toBe(0);
    if (arg instanceof Uint8Array) {
      expect(Buffer.from(data.subarray(at, at + arg.length)).equals(arg)).toBe(true);
      return;
    }
    this.compareStruct(arg, at);
  }

  private compareStruct(struct: Struct, at: number): void {
    const wanted = new Uint8Array(struct.view.buffer.slice(0));
    const got = this.decoded.data.slice(at, at + struct.size);
    for (const { offset, to } of struct.pointers) {
      expect(this.decoded.relocs).toContain(at + offset);
      this.pointers.add(at + offset);
      this.compareData(to, Number(this.view.getBigUint64(at + offset, true)));
      wanted.fill(0, offset, offset + 8);
      got.fill(0, offset, offset + 8);
    }
    expect(Buffer.from(got).equals(wanted)).toBe(true);
  }
}

function compare(part: Part, first = 0): DecodedPart {
  const decoded = decodePart(encodePart(part.ops, { first }));
  expect(decoded.magic).toBe(abi.BUNC_MAGIC);
  expect(decoded.first).toBe(first);
  new Comparison(decoded).run(part.ops);
  return decoded;
}

describe("a part", () => {
  test("without operations", () => {
    const bytes = encodePart([], { first: 7 });
    const decoded = decodePart(bytes);
    expect(decoded.size).toBe(bytes.length);
    expect(decoded.first).toBe(7);
    expect(decoded.ops).toEqual([]);
  });

  test("carries flags and the operation that is to fail", () => {
    const part = new Part();
    part.op(abi.SYS_getpid, []);
    const fault = { index: 3, errno: abi.EIO };
    const decoded = decodePart(encodePart(part.ops, { first: 3, trace: { fd: 7, end: 9 }, fault }));
    expect([decoded.flags, decoded.traceFd, decoded.traceEnd]).toEqual([abi.BUNC_PART_TRACE, 7, 9]);
    // Plus one, so that 0 means none.
    expect([decoded.failAt, decoded.failErrno]).toEqual([4, abi.EIO]);
  });

  test("of random operations is read back as it was", () => {
    for (let seed = 1; seed <= 300; seed++) {
      try {
        compare(new Generator(seed).part(), seed);
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
    }
  });

  test("is the same bytes when it is encoded twice", () => {
    for (let seed = 1000; seed < 1020; seed++) {
      const { ops } = new Generator(seed).part();
      expect(encodePart(ops, { first: 0 })).toEqual(encodePart(ops, { first: 0 }));
    }
  });
});

describe("pointers", () => {
  test.each([0, 1, 2, 3, 4, 5, 200])("%d in one array", (count) => {
    const array = new Struct((count + 1) * 8, "argv");
    for (let i = 0; i < count; i++) array.pointer(i * 8, `argument ${i}`);
    const part = new Part();
    part.op(abi.SYS_execve, ["/bin/true", array, 0]);
    const { relocs } = compare(part);
    expect(relocs.length).toBe(count + (count % 2));
  });

  test("to a buffer that is an argument, too, have its address", () => {
    // HOME: one operation writes into the buffer, execve's environment points to it.
    const home = new Uint8Array(64);
    const environment = new Struct(16, "envp").pointer(0, home);
    const part = new Part();
    part.op(abi.BUNC_OP_HOME, ["/etc/passwd", 0, home, home.length]);
    part.op(abi.SYS_execve, ["/bin/true", 0, environment]);
    compare(part);
  });

  test("to a structure that is named before and after it", () => {
    const inner = new Struct(8, "inner").u64(0, 42);
    const outer = new Struct(8, "outer").pointer(0, inner);
    const part = new Part();
    part.op(1, [outer, inner]);
    part.op(1, [inner.at(4), outer]);
    compare(part);
  });
});

describe("numbers that do not fit are refused", () => {
  const encode = (options: OpOptions, args: Arg[] = []) => {
    const part = new Part();
    part.op(abi.SYS_getpid, args, options);
    return encodePart(part.ops, { first: 0 });
  };

  test("three tolerated errnos", () => {
    expect(() => encode({ tolerate: [[1, 0] as const, [2, 0] as const, [3, 0] as const] })).toThrow(
      RangeError,
    );
  });

  test("a skip over more than 255 operations", () => {
    expect(() => encode({ okSkip: 256 })).toThrow(RangeError);
    expect(() => encode({ tolerate: [[abi.ENOENT, 256]] })).toThrow(RangeError);
  });

  test("a seventh argument", () => {
    expect(() => encode({}, [1, 2, 3, 4, 5, 6, 7])).toThrow(RangeError);
  });

  test("a part larger than BUNC_MAX_PART", () => {
    expect(() => encode({}, [new Uint8Array(abi.BUNC_MAX_PART)])).toThrow(RangeError);
  });
});
