/**
 * The launch program as TypeScript sees it: a list of operations, each one raw system call or one composite of
 * c/bunc.h, with where in config.json it comes from. Building one touches nothing; encode.ts turns it into bytes.
 */
import { abi } from "../linux/abi.gen.ts";

/** A place where init (or the parent) keeps the result of an operation for later ones. */
export class Slot {
  constructor(
    readonly index: number,
    /** What it holds, for `bunc explain`. */
    readonly name: string,
  ) {}
}

/** Where in a structure the address of an argument stands. */
export interface Pointer {
  offset: number;
  to: DataArg;
}

const NO_POINTERS: Pointer[] = [];

/** A C structure: bytes, and the arguments whose addresses stand in it. */
export class Struct {
  /** Its bytes, as little-endian words. */
  readonly words: Uint32Array;
  private own: DataView | undefined;
  private addresses = NO_POINTERS;

  /** @param size bytes, a multiple of four */
  constructor(
    readonly size: number,
    /** What it is, for `bunc explain`, e.g. "mount_attr". */
    readonly name: string,
  ) {
    if (size & 3) throw new RangeError(`the structure ${name} has ${size} bytes, not whole words`);
    this.words = new Uint32Array(size >> 2);
  }

  get view(): DataView {
    this.own ??= new DataView(this.words.buffer);
    return this.own;
  }

  get pointers(): readonly Pointer[] {
    return this.addresses;
  }

  /** @param offset a multiple of four, as in all that follow */
  u32(offset: number, value: number): this {
    this.words[offset >> 2] = value;
    return this;
  }

  u64(offset: number, value: number | bigint): this {
    const at = offset >> 2;
    if (typeof value === "bigint") {
      this.view.setBigUint64(offset, BigInt.asUintN(64, value), true);
    } else {
      this.words[at] = value;
      this.words[at + 1] = highWord(value);
    }
    return this;
  }

  pointer(offset: number, to: DataArg): this {
    if (this.addresses === NO_POINTERS) this.addresses = [];
    this.addresses.push({ offset, to });
    return this;
  }

  /** A field of this structure as an argument: its address. */
  at(offset: number): Field {
    return new Field(this, offset);
  }
}

/** The upper half of a number as a 64-bit word in two's complement: -1 and AT_FDCWD included. */
export function highWord(value: number): number {
  // The division has no remainder.
  return value >= 0 && value <= 0xffffffff ? 0 : (value - (value >>> 0)) / 0x100000000;
}

/** The address of something inside of a structure that is (also) an argument of its own. */
export class Field {
  constructor(
    readonly struct: Struct,
    readonly offset: number,
  ) {}
}

/** Something that lies in a program's data and is passed by its address. A string is ended by NUL. */
export type DataArg = string | Uint8Array | Struct;

/** An argument of an operation. */
export type Arg = number | bigint | DataArg | Field | Slot;

/** What an operation belongs to; `explain` groups by it, errors name it. */
export type Phase =
  | "state"
  | "namespaces"
  | "cgroup"
  | "ids"
  | "network"
  | "sysctl"
  | "rootfs"
  | "mounts"
  | "devices"
  | "terminal"
  | "hooks"
  | "pivot"
  | "paths"
  | "process"
  | "seccomp"
  | "start";

/** How an operation differs from "must succeed, result dropped, go on with the next". */
export interface OpOptions {
  /** Keep the result here. */
  slot?: Slot;
  /** After success skip so many of the following operations. */
  okSkip?: number;
  /** Errnos (at most two; BUNC_ERR_ANY for all) that are no failure, each with the operations to skip then. */
  tolerate?: readonly (readonly [errno: number, skip: number])[];
  /** A slot with an fscontext whose log explains a failure. */
  log?: Slot;
  /** What it is about in words, for messages: 'mount "tmpfs" at "/dev"'. */
  about?: string;
  /** What the reader of a failure can do. */
  hint?: string;
  /** Of a mount, to explain which part of it failed. */
  mount?: { type: string; source: string; options: readonly { text: string; index: number }[] };
}

/** One operation. */
export interface Op {
  /** System call number, or BUNC_OP_*. */
  readonly call: number;
  readonly args: readonly Arg[];
  readonly options: OpOptions;
  readonly phase: Phase;
  /** Place in config.json, "" when no field asked for it. */
  readonly path: string;
}

const PLAIN: OpOptions = {};

/** One part of a program under construction. */
export class Part {
  readonly ops: Op[] = [];
  phase: Phase = "namespaces";
  path = "";

  /** Says what the following operations belong to. */
  at(phase: Phase, path = ""): this {
    this.phase = phase;
    this.path = path;
    return this;
  }

  /** Appends an operation; gives its index in this part. */
  op(call: number, args: readonly Arg[], options: OpOptions = PLAIN): number {
    return this.ops.push({ call, args, options, phase: this.phase, path: this.path }) - 1;
  }
}

/** Hands out slots; a program has abi.BUNC_SLOTS of them, so those of a single mount are given back. */
export class Slots {
  private readonly free: number[] = [];
  private next = 0;

  take(name: string): Slot {
    const index = this.free.pop() ?? this.next++;
    if (index >= abi.BUNC_SLOTS) throw new Error("a launch program needs more slots than there are");
    return new Slot(index, name);
  }

  /** How many were in use at once so far, at most. */
  get most(): number {
    return this.next;
  }

  give(...slots: Slot[]): void {
    for (const slot of slots) this.free.push(slot.index);
  }
}
