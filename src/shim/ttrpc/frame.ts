/**
 * Frames of ttrpc (github.com/containerd/ttrpc PROTOCOL.md): a header of ten bytes, big endian, and a body. Pure.
 *
 *     length of the body: 4 bytes | stream id: 4 | type: 1 | flags: 1
 */

/** The longest body that ttrpc allows. */
export const MAX_BODY = 4 << 20;

const HEADER = 10;

export const FrameType = { request: 1, response: 2, data: 3 } as const;

/** Of a request: no data follows; of data: it is the last. */
export const REMOTE_CLOSED = 1;
/** Of a request: data follows. */
export const REMOTE_OPEN = 2;
/** Of data: there is none, only the flags count. */
export const NO_DATA = 4;

export interface Frame {
  /** Chosen by the client; odd. */
  stream: number;
  type: number;
  flags: number;
  body: Uint8Array;
}

/** A frame's bytes. */
export function encodeFrame({ stream, type, flags, body }: Frame): Uint8Array {
  const bytes = new Uint8Array(HEADER + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.length);
  view.setUint32(4, stream);
  view.setUint8(8, type);
  view.setUint8(9, flags);
  bytes.set(body, HEADER);
  return bytes;
}

/** What stands in a header whose body is too long: the peer is told, and the body is thrown away. */
export interface Oversized {
  stream: number;
  type: number;
  length: number;
}

/** Cuts a stream of bytes into frames, however they arrive. Holds no more than one frame. */
export class FrameReader {
  /** What has arrived of the frame being read. */
  private held: Uint8Array = new Uint8Array(0);
  private used = 0;
  /** Bytes still to come of a body that is thrown away. */
  private skip = 0;

  /**
   * @param oversized is told of a frame whose body is longer than MAX_BODY; the stream goes on after it
   */
  constructor(private readonly oversized: (frame: Oversized) => void) {}

  /** Calls `take` for each frame that `bytes` completes. Their bodies are copies. */
  push(bytes: Uint8Array, take: (frame: Frame) => void): void {
    let rest = bytes;
    while (rest.length > 0) {
      if (this.skip > 0) {
        const n = this.skip < rest.length ? this.skip : rest.length;
        this.skip -= n;
        rest = rest.subarray(n);
        continue;
      }
      const header = this.used < HEADER;
      const wanted = header ? HEADER : HEADER + this.bodyLength();
      rest = this.fill(rest, wanted);
      if (this.used < wanted) return;
      if (header) {
        const length = this.bodyLength();
        if (length > MAX_BODY) {
          const view = this.view();
          this.skip = length;
          this.used = 0;
          this.oversized({ stream: view.getUint32(4), type: view.getUint8(8), length });
          continue;
        }
        if (length > 0) continue;
      }
      take(this.take());
    }
  }

  /** Whether the stream ends here in the middle of a frame. */
  get partial(): boolean {
    return this.used > 0 || this.skip > 0;
  }

  private view(): DataView {
    return new DataView(this.held.buffer, this.held.byteOffset);
  }

  private bodyLength(): number {
    return this.view().getUint32(0);
  }

  /** Takes what is missing of `wanted` bytes; gives what is left. */
  private fill(bytes: Uint8Array, wanted: number): Uint8Array {
    const missing = wanted - this.used;
    const n = missing < bytes.length ? missing : bytes.length;
    if (this.held.length < this.used + n) {
      // A peer that only announces a large body shall not cost its size.
      let size = this.held.length < 128 ? 256 : this.held.length * 2;
      if (size < this.used + n) size = this.used + n;
      const grown = new Uint8Array(size < wanted ? size : wanted);
      grown.set(this.held.subarray(0, this.used));
      this.held = grown;
    }
    this.held.set(bytes.subarray(0, n), this.used);
    this.used += n;
    return bytes.subarray(n);
  }

  private take(): Frame {
    const view = this.view();
    const frame = {
      stream: view.getUint32(4),
      type: view.getUint8(8),
      flags: view.getUint8(9),
      body: this.held.slice(HEADER, this.used),
    };
    this.used = 0;
    // One large frame must not stay for the life of the connection.
    if (this.held.length > 4096) this.held = new Uint8Array(0);
    return frame;
  }
}
