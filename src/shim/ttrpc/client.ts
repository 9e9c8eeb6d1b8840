/** A client of ttrpc for one call at a time: what a shim needs to forward its events. */
import { abi } from "../../linux/abi.gen.ts";
import { connectUnix } from "../../linux/socket.ts";
import type { Loop } from "../loop.ts";
import { decode, encode } from "../proto/codec.ts";
import { readResponse, writeRequest } from "../proto/ttrpc.gen.ts";
import { Channel } from "./channel.ts";
import { encodeFrame, FrameReader, FrameType, REMOTE_CLOSED } from "./frame.ts";
import { Code, RpcError } from "./status.ts";

interface Pending {
  stream: number;
  resolve(payload: Uint8Array): void;
  reject(error: unknown): void;
}

export class Client {
  private channel: Channel | undefined;
  private pending: Pending | undefined;
  private stream = 1;

  /** @param path of the server's socket */
  constructor(
    private readonly loop: Loop,
    private readonly path: string,
  ) {}

  /**
   * Calls a method; connects if need be.
   * @param milliseconds how long the answer may take
   * @throws BuncError when there is no connection; RpcError: what the server answered, or that it did not
   */
  async call(
    service: string,
    method: string,
    payload: Uint8Array,
    milliseconds: number,
  ): Promise<Uint8Array> {
    if (this.pending) throw new Error("one call at a time");
    this.channel ??= this.connect();
    const { channel } = this;
    const stream = this.stream;
    this.stream += 2;
    const timeout = this.loop.after(milliseconds, () => {
      this.fail(new RpcError(Code.deadlineExceeded, `no answer of ${this.path} within ${milliseconds} ms`));
    });
    try {
      return await new Promise((resolve, reject) => {
        this.pending = { stream, resolve, reject };
        const body = encode(writeRequest, {
          service,
          method,
          payload,
          timeout_nano: milliseconds * 1_000_000,
        });
        channel.send(encodeFrame({ stream, type: FrameType.request, flags: REMOTE_CLOSED, body }));
      });
    } finally {
      timeout.cancel();
      this.pending = undefined;
    }
  }

  close(): void {
    this.channel?.close();
  }

  private connect(): Channel {
    const fd = connectUnix(this.path, abi.SOCK_NONBLOCK);
    this.stream = 1;
    const frames = new FrameReader(() =>
      this.fail(new RpcError(Code.resourceExhausted, "the answer is too long")),
    );
    const gone = () => {
      this.channel = undefined;
      this.fail(new RpcError(Code.unavailable, `the connection to ${this.path} was closed`));
    };
    return new Channel(this.loop, fd, {
      received: (bytes) => {
        frames.push(bytes, ({ stream, type, body }) => {
          if (type === FrameType.response && stream === this.pending?.stream) this.answer(body);
        });
      },
      closed: gone,
    });
  }

  private answer(body: Uint8Array): void {
    const { pending } = this;
    try {
      const { status, payload } = decode(readResponse, body);
      if (status?.code) pending?.reject(new RpcError(status.code, status.message));
      else pending?.resolve(payload ?? new Uint8Array(0));
    } catch (error) {
      this.fail(error);
    }
  }

  /** What a late answer would belong to is not known any more: the next call gets a new connection. */
  private fail(error: unknown): void {
    this.pending?.reject(error);
    const { channel } = this;
    this.channel = undefined;
    channel?.close();
  }
}
