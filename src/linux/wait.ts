/**
 * How this process waits. A command has nothing else to do and blocks; the shim's event loop, which serves other
 * containers meanwhile, takes over with `waitBy`.
 */
import { abi } from "./abi.gen.ts";
import { sys } from "./lib.ts";

/** Waits until one of the descriptors can be read, at most so many milliseconds (Infinity: for ever); tells which. */
export type Waiter = (fds: readonly number[], milliseconds: number) => Promise<boolean[]>;

let waiter: Waiter | undefined;

/** From now on waiting is left to an event loop. */
export function waitBy(loop: Waiter | undefined): void {
  waiter = loop;
}

/** Whether other work goes on while something is waited for, so that a call which may block must not be made at once. */
export function servesOthers(): boolean {
  return waiter !== undefined;
}

/**
 * Waits until one of the descriptors can be read or its other end is closed, at most so long.
 * @param milliseconds Infinity: for ever; 0: only asks
 * @returns which of them are ready
 */
export function waitReady(
  fds: readonly number[],
  milliseconds: number = Number.POSITIVE_INFINITY,
): boolean[] | Promise<boolean[]> {
  return waiter ? waiter(fds, milliseconds) : poll(fds, milliseconds);
}

/** Lets time pass. */
export function sleep(milliseconds: number): unknown {
  return waitReady([], milliseconds);
}

const POLLFD = 8;

/** As waitReady, and blocks: ppoll(2). */
export function poll(fds: readonly number[], milliseconds: number): boolean[] {
  const set = new DataView(new ArrayBuffer(POLLFD * fds.length));
  for (let i = 0; i < fds.length; i++) {
    set.setInt32(i * POLLFD, fds[i]!, true);
    set.setInt16(i * POLLFD + 4, abi.POLLIN, true);
  }
  let timeout: Uint8Array | 0 = 0;
  if (milliseconds !== Number.POSITIVE_INFINITY) {
    const time = new DataView(new ArrayBuffer(16));
    time.setUint32(0, milliseconds / 1000, true);
    time.setUint32(8, (milliseconds % 1000) * 1_000_000, true);
    timeout = new Uint8Array(time.buffer);
  }
  sys(abi.SYS_ppoll, new Uint8Array(set.buffer), fds.length, timeout, 0, 8);
  const ready: boolean[] = [];
  for (let i = 0; i < fds.length; i++) ready.push(set.getInt16(i * POLLFD + 6, true) !== 0);
  return ready;
}
