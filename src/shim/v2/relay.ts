/** A terminal: what its master says goes to the output, what comes in goes to the master. Never blocks, never loses. */
import { abi } from "../../linux/abi.gen.ts";
import { sys } from "../../linux/lib.ts";
import { closeFd } from "../../linux/process.ts";
import type { Loop, Timer, Watch } from "../loop.ts";

const CHUNK = 16384;
/** What a terminal holds at the end of a process is less; somebody else may write on and on. */
const MAX_CHUNKS = 64;

/** One for all terminals: what is read is written, or copied, before the next one reads. */
let buffer: Uint8Array | undefined;

/** Bytes on their way from one descriptor to another, and the watches that move them. */
class Flow {
  private pending: Uint8Array | undefined;
  private source: Watch | undefined;
  private drain: Watch | undefined;
  ended = false;

  constructor(
    private readonly loop: Loop,
    private readonly from: number,
    private readonly to: number,
    private readonly onEnd: () => void,
  ) {
    this.listen();
  }

  private listen(): void {
    try {
      this.source = this.loop.watch(this.from, abi.POLLIN, () => this.move());
    } catch {
      // A file or /dev/null is always ready, and comes to its end.
      while (!this.ended && !this.pending) this.move();
    }
  }

  /** Moves one chunk; false when nothing more can be moved now. */
  move(): boolean {
    if (this.ended || this.pending) return false;
    buffer ??= new Uint8Array(CHUNK);
    const n = sys(abi.SYS_read, this.from, buffer, CHUNK);
    if (n === -abi.EAGAIN || n === -abi.EINTR) return n === -abi.EINTR;
    if (n <= 0) {
      // EIO: the last user of the terminal is gone.
      this.end();
      return false;
    }
    this.write(buffer.subarray(0, n));
    return !this.pending;
  }

  private write(bytes: Uint8Array): void {
    let rest = bytes;
    while (rest.length > 0) {
      const n = sys(abi.SYS_write, this.to, rest, rest.length);
      if (n === -abi.EINTR) continue;
      if (n === -abi.EAGAIN) {
        this.wait(rest);
        return;
      }
      // Nobody takes it any more; the process goes on all the same.
      if (n < 0) break;
      rest = rest.subarray(n);
    }
    if (!this.pending) return;
    this.pending = undefined;
    this.drain?.cancel();
    this.drain = undefined;
    if (!this.ended) this.listen();
  }

  private wait(rest: Uint8Array): void {
    this.pending = rest.slice();
    if (this.drain) return;
    // Not only without events: that the other end has hung up would be told again and again.
    this.source?.cancel();
    this.drain = this.loop.watch(this.to, abi.POLLOUT, () => this.write(this.pending!));
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.source?.cancel();
    this.onEnd();
  }

  /** Whether all that was read has been written. */
  get empty(): boolean {
    return this.pending === undefined;
  }

  stop(): void {
    this.ended = true;
    this.source?.cancel();
    this.drain?.cancel();
  }
}

/** A relay between two chunks, as another process can take it over; -1: closed. */
export interface RelayState {
  master: number;
  from: number;
  to: number;
  inputEnded: boolean;
}

export class TerminalRelay {
  private readonly output: Flow;
  private readonly input: Flow;
  private outputOpen = true;
  private waiters: (() => void)[] = [];
  private open = true;

  /**
   * @param master of the terminal
   * @param from what is to be typed, non-blocking
   * @param to where the output goes, non-blocking; all three are the relay's from now on
   */
  constructor(
    private readonly loop: Loop,
    private readonly master: number,
    private readonly from: number,
    private readonly to: number,
  ) {
    sys(abi.SYS_fcntl, master, abi.F_SETFL, abi.O_RDWR | abi.O_NONBLOCK);
    this.output = new Flow(loop, master, to, () => this.outputEnded());
    this.input = new Flow(loop, from, master, () => {});
  }

  /** Its state, when nothing is on its way; else undefined. */
  snapshot(): RelayState | undefined {
    if (!this.output.empty || !this.input.empty) return undefined;
    const { master, from, to } = this;
    return { master, from, to: this.outputOpen ? to : -1, inputEnded: this.input.ended };
  }

  static resume(loop: Loop, { master, from, to, inputEnded }: RelayState): TerminalRelay {
    const relay = new TerminalRelay(loop, master, from, to);
    if (to < 0) relay.outputOpen = false;
    if (to < 0) relay.output.stop();
    if (inputEnded) relay.input.stop();
    return relay;
  }

  resize(width: number, height: number): void {
    const size = new DataView(new ArrayBuffer(8));
    size.setUint16(0, height, true);
    size.setUint16(2, width, true);
    sys(abi.SYS_ioctl, this.master, abi.TIOCSWINSZ, new Uint8Array(size.buffer));
  }

  /** Resolves when the terminal has said all, and the output has it; or the time is over. */
  finished(milliseconds: number): Promise<void> {
    // What is there can be read at once; the rest of the users may keep the terminal open.
    for (let i = 0; i < MAX_CHUNKS && this.output.move(); i++);
    if (!this.outputOpen) return Promise.resolve();
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const done = () => {
        timer?.cancel();
        resolve();
      };
      timer = this.loop.after(milliseconds, done);
      this.waiters.push(done);
    });
  }

  private outputEnded(): void {
    if (!this.output?.empty) {
      // The rest is still on its way.
      this.loop.after(10, () => this.outputEnded());
      return;
    }
    if (!this.outputOpen) return;
    this.outputOpen = false;
    // Its reader sees the end now, not at Delete.
    closeFd(this.to);
    for (const waiter of this.waiters) waiter();
    this.waiters = [];
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.input.stop();
    this.output.stop();
    if (this.outputOpen) closeFd(this.to);
    this.outputOpen = false;
    for (const waiter of this.waiters) waiter();
    this.waiters = [];
    closeFd(this.master);
    closeFd(this.from);
  }
}
