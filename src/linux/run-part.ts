/** Running a part of a launch program in this process: what the parent does (cgroups, ids, hooks) is a program too. */
import { encodePart } from "../launch/encode.ts";
import { opFailure } from "../launch/failure.ts";
import type { Part, Slot } from "../launch/program.ts";
import { abi, bunc_state_ as STATE, sizeof_ } from "./abi.gen.ts";
import { faultOf } from "./faults.ts";
import { sys } from "./lib.ts";
import { tracer } from "./trace.ts";

/** The state of a program that runs in this process; slots live as long as it does. */
export class HostState {
  readonly bytes = new Uint8Array(sizeof_.bunc_state);
  private readonly view = new DataView(this.bytes.buffer);
  /** Operations that earlier parts held: the index of the next one in the whole program. */
  next = 0;

  /** What a slot holds; -errno after a tolerated failure. */
  get(slot: Slot): number {
    return Number(this.view.getBigInt64(STATE.slots + slot.index * 8, true));
  }

  set(slot: Slot, value: number): void {
    this.view.setBigInt64(STATE.slots + slot.index * 8, BigInt(value), true);
  }

  /** Takes the address of the times of a program that is traced. */
  timeAt(address: number): void {
    this.view.setUint32(STATE.times, address >>> 0, true);
    this.view.setUint32(STATE.times + 4, (address / 0x100000000) >>> 0, true);
    this.view.setUint32(STATE.ntimes, 0xffffffff, true);
  }

  /** Index, text and step of the failure that abi.BUNC_CALL_RUN answered with. */
  failure(): { index: number; text: Uint8Array; step: number } {
    const size = this.view.getUint32(STATE.text_size, true);
    return {
      index: this.view.getUint32(STATE.index, true),
      step: this.view.getUint32(STATE.step, true),
      text: this.bytes.slice(STATE.text, STATE.text + size),
    };
  }
}

/**
 * Executes a part here, in order, until it is done.
 *
 * @param apart flags of clone(2): execute it in a child that shares descriptors with this process, but not its
 * namespaces, root and working directory
 * @throws BuncError naming the operation that failed.
 */
export function runPart(part: Part, state: HostState = new HostState(), apart?: number): HostState {
  if (part.ops.length === 0) return state;
  const result = preparePart(part, state, faultOf("host", state.next, part.ops), apart)();
  if (result < 0) {
    const { index, text, step } = state.failure();
    throw opFailure(part.ops[index - state.next + part.ops.length]!, -result, text, step);
  }
  return state;
}

/**
 * Encodes a part that is to be executed here later, without delay.
 * @returns what executes it, once, and answers with 0 or -errno (then `state.failure` says more)
 */
export function preparePart(
  part: Part,
  state: HostState = new HostState(),
  fault?: ReturnType<typeof faultOf>,
  apart?: number,
): () => number {
  const { ops } = part;
  const first = state.next;
  state.next += ops.length;
  const bytes = encodePart(ops, { first, fault, trace: tracer ? ALL_TIMED : undefined });
  return () => {
    if (tracer) state.timeAt(tracer.part(ops, first));
    const result =
      apart === undefined
        ? sys(abi.BUNC_CALL_RUN, bytes, bytes.length, state.bytes)
        : sys(abi.BUNC_CALL_RUN_APART, bytes, bytes.length, state.bytes, apart);
    if (result < 0) tracer?.partFailed(state.failure().index, -result);
    return result;
  };
}

const ALL_TIMED = { fd: -1, end: 0xffffffff };
