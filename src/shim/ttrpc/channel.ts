/** A stream socket on the event loop. What is sent waits, without blocking anybody, until the peer takes it. */
import { abi } from "../../linux/abi.gen.ts";
import { sys } from "../../linux/lib.ts";
import { closeFd } from "../../linux/process.ts";
import type { Loop, Watch } from "../loop.ts";

/** What becomes of a channel's input. */
export interface ChannelEvents {
  /** The bytes are valid only until it returns. */
  received(bytes: Uint8Array): void;
  /** The peer is gone, or the channel was closed; called once. */
  closed(): void;
}

const CHUNK = 32768;
/** A peer that asks and does not read gets no more than this before it is not heard any more. */
const MAX_WAITING = 1 << 20;

/** One for all channels: what arrives is handled before the next one reads. */
let buffer: Uint8Array | undefined;

export class Channel {
  private readonly watch: Watch;
  private waiting: Uint8Array[] = [];
  private bytesWaiting = 0;
  private open = true;

  /** @param fd a connected, non-blocking socket; the channel's from now on */
  constructor(
    loop: Loop,
    readonly fd: number,
    private readonly events: ChannelEvents,
  ) {
    this.watch = loop.watch(fd, abi.POLLIN, (ready) => this.ready(ready));
  }

  /** Sends, now or as soon as the peer has room. Nothing happens on one that is closed. */
  send(bytes: Uint8Array): void {
    if (!this.open) return;
    this.waiting.push(bytes);
    this.bytesWaiting += bytes.length;
    if (this.waiting.length === 1) this.flush();
  }

  /** Whether nothing waits to be sent. */
  get idle(): boolean {
    return this.waiting.length === 0;
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.watch.cancel();
    closeFd(this.fd);
    this.waiting = [];
    this.events.closed();
  }

  private ready(events: number): void {
    if (events & abi.POLLOUT) this.flush();
    if (!this.open || !(events & (abi.POLLIN | abi.POLLHUP | abi.POLLERR))) return;
    if (this.bytesWaiting > MAX_WAITING && !(events & (abi.POLLHUP | abi.POLLERR))) return;
    buffer ??= new Uint8Array(CHUNK);
    const n = sys(abi.SYS_recvfrom, this.fd, buffer, CHUNK, abi.MSG_DONTWAIT, 0, 0);
    if (n === -abi.EAGAIN || n === -abi.EINTR) return;
    if (n <= 0) this.close();
    else this.events.received(buffer.subarray(0, n));
  }

  private flush(): void {
    while (this.waiting.length > 0) {
      const bytes = this.waiting[0]!;
      const flags = abi.MSG_DONTWAIT | abi.MSG_NOSIGNAL;
      const n = sys(abi.SYS_sendto, this.fd, bytes, bytes.length, flags, 0, 0);
      if (n === -abi.EINTR) continue;
      if (n === -abi.EAGAIN) break;
      if (n < 0) {
        this.close();
        return;
      }
      this.bytesWaiting -= n;
      if (n < bytes.length) this.waiting[0] = bytes.subarray(n);
      else this.waiting.shift();
    }
    const read = this.bytesWaiting > MAX_WAITING ? 0 : abi.POLLIN;
    this.watch.want(this.waiting.length > 0 ? read | abi.POLLOUT : read);
  }
}
