/** A server of ttrpc (github.com/containerd/ttrpc PROTOCOL.md): connections, requests, and their answers in any order. */
import { abi } from "../../linux/abi.gen.ts";
import { pathError } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import { closeFd } from "../../linux/process.ts";
import type { Loop, Watch } from "../loop.ts";
import { decode, encode } from "../proto/codec.ts";
import { readRequest, type Status, writeResponse } from "../proto/ttrpc.gen.ts";
import { Channel } from "./channel.ts";
import { encodeFrame, type Frame, FrameReader, FrameType, MAX_BODY, REMOTE_OPEN } from "./frame.ts";
import { Code, RpcError } from "./status.ts";

/** Answers a call; what it throws (RpcError: with its code) is the answer, too. */
export type Handler = (service: string, method: string, payload: Uint8Array) => Promise<Uint8Array>;

/** A call that has not been answered yet. */
export interface PendingCall {
  stream: number;
  service: string;
  method: string;
  payload: Uint8Array;
}

/** A connection between two calls, as another process can take it over. */
export interface ConnectionState {
  fd: number;
  lastStream: number;
  calls: PendingCall[];
}

/** Serves a listening socket, to processes of the same user and group only. */
export class Server {
  private readonly watch: Watch;
  private readonly connections = new Set<Connection>();

  /**
   * @param fd a listening socket, non-blocking
   * @param warn takes one line about a peer that does not keep to the protocol
   */
  constructor(
    private readonly loop: Loop,
    private readonly fd: number,
    private readonly handler: Handler,
    private readonly warn: (message: string) => void,
  ) {
    this.watch = loop.watch(fd, abi.POLLIN, () => this.accept());
  }

  /** The connections, when all stand between two frames and all answers have been taken; else undefined. */
  snapshot(): ConnectionState[] | undefined {
    const states: ConnectionState[] = [];
    for (const connection of this.connections) {
      const state = connection.snapshot();
      if (!state) return undefined;
      states.push(state);
    }
    return states;
  }

  /** Takes over a connection; its calls are handled anew. */
  resume(state: ConnectionState): void {
    const connection = this.connect(state.fd);
    connection.resume(state);
  }

  /** No more connections; those that are there are closed. */
  close(): void {
    this.watch.cancel();
    closeFd(this.fd);
    for (const connection of [...this.connections]) connection.close();
  }

  private accept(): void {
    const fd = sys(abi.SYS_accept4, this.fd, 0, 0, abi.SOCK_CLOEXEC | abi.SOCK_NONBLOCK);
    if (fd < 0) {
      if (fd === -abi.EMFILE || fd === -abi.ENFILE) this.pause(fd);
      return;
    }
    if (!isOurs(fd)) {
      this.warn("a connection of another user was refused");
      closeFd(fd);
      return;
    }
    this.connect(fd);
  }

  private connect(fd: number): Connection {
    const connection = new Connection(this.loop, fd, this.handler, this.warn, () =>
      this.connections.delete(connection),
    );
    this.connections.add(connection);
    return connection;
  }

  /** Without a descriptor to take it by, a connection stays where it is: asking again at once would not help. */
  private pause(result: number): void {
    this.warn(`${pathError("accept", "", result).message}; trying again in 100 ms`);
    this.watch.want(0);
    this.loop.after(100, () => this.watch.want(abi.POLLIN));
  }
}

/** Whether the peer is of the same effective user and group (unix(7), SO_PEERCRED). */
function isOurs(fd: number): boolean {
  const cred = new DataView(new ArrayBuffer(12));
  const size = new Uint8Array(4);
  size[0] = 12;
  const bytes = new Uint8Array(cred.buffer);
  if (sys(abi.SYS_getsockopt, fd, abi.SOL_SOCKET, abi.SO_PEERCRED, bytes, size) < 0) return false;
  return cred.getUint32(4, true) === sys(abi.SYS_geteuid) && cred.getUint32(8, true) === sys(abi.SYS_getegid);
}

class Connection {
  private readonly channel: Channel;
  private readonly frames = new FrameReader(({ stream, length }) => {
    const message = `message length ${length} exceed maximum message size of ${MAX_BODY}`;
    this.respond(stream, new RpcError(Code.resourceExhausted, message));
  });
  private lastStream = -1;
  private readonly calls = new Map<number, PendingCall>();

  constructor(
    loop: Loop,
    fd: number,
    private readonly handler: Handler,
    private readonly warn: (message: string) => void,
    closed: () => void,
  ) {
    this.channel = new Channel(loop, fd, { received: (bytes) => this.received(bytes), closed });
  }

  snapshot(): ConnectionState | undefined {
    if (!this.channel.idle || this.frames.partial) return undefined;
    return { fd: this.channel.fd, lastStream: this.lastStream, calls: [...this.calls.values()] };
  }

  resume({ lastStream, calls }: ConnectionState): void {
    this.lastStream = lastStream;
    for (const call of calls) this.dispatch(call);
  }

  close(): void {
    this.channel.close();
  }

  private received(bytes: Uint8Array): void {
    try {
      this.frames.push(bytes, (frame) => this.take(frame));
    } catch (error) {
      this.warn(`a connection is closed: ${error instanceof Error ? error.message : error}`);
      this.close();
    }
  }

  private take({ stream, type, flags, body }: Frame): void {
    // Data belongs to streams that a service has accepted; no service here does, and who sends it all the same has been told.
    if (type === FrameType.data) return;
    if (type !== FrameType.request) throw new Error(`a frame of type ${type} is not what a client sends`);
    if (stream % 2 !== 1) throw new Error(`stream id ${stream} of a client must be odd`);
    if (stream <= this.lastStream) throw new Error(`stream id ${stream} was used already`);
    this.lastStream = stream;
    const request = decode(readRequest, body);
    if (flags & REMOTE_OPEN) {
      this.respond(
        stream,
        new RpcError(Code.unimplemented, `streaming method ${request.service}/${request.method}`),
      );
      return;
    }
    const { service, method, payload = new Uint8Array(0) } = request;
    this.dispatch({ stream, service, method, payload });
  }

  private dispatch(call: PendingCall): void {
    const { stream, service, method, payload } = call;
    this.calls.set(stream, call);
    const answer = (result: unknown) => {
      this.calls.delete(stream);
      this.respond(stream, result);
    };
    this.handler(service, method, payload).then(answer, answer);
  }

  private respond(stream: number, answer: unknown): void {
    let body: Uint8Array;
    if (answer instanceof Uint8Array) {
      body = encode(writeResponse, { payload: answer });
      if (body.length > MAX_BODY) {
        this.respond(stream, new RpcError(Code.resourceExhausted, `the answer has ${body.length} bytes`));
        return;
      }
    } else {
      body = encode(writeResponse, { status: statusOf(answer) });
    }
    this.channel.send(encodeFrame({ stream, type: FrameType.response, flags: 0, body }));
  }
}

function statusOf(error: unknown): Status {
  if (error instanceof RpcError) return { code: error.code, message: error.message };
  return { code: Code.unknown, message: error instanceof Error ? error.message : String(error) };
}
