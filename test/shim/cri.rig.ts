// A client of the Container Runtime Interface: gRPC over HTTP/2 on containerd's socket, and the websockets of `Exec` and
// `Attach`, as the kubelet has them.
import { type ClientHttp2Session, connect, constants } from "node:http2";
import { connect as connectSocket } from "node:net";
import { decode, encode } from "../../src/shim/proto/codec.ts";
import { eventually } from "../rig/client.ts";
import * as proto from "./cri.gen.ts";

type Pbf = Parameters<typeof proto.readEmpty>[0];
type Writer = Parameters<typeof proto.writeEmpty>[1];

/** Length-prefixed message of gRPC: a byte that says it is not compressed, and four of length. */
const PREFIX = 5;

/** A call that was refused: gRPC's status code, and the words. */
export class CriError extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

export class Cri {
  private readonly session: ClientHttp2Session;

  private constructor(socket: string) {
    this.session = connect("http://localhost", { createConnection: () => connectSocket(socket) });
    this.session.on("error", () => {});
  }

  /** A client of a plugin that answers: it comes up after containerd itself. */
  static async open(socket: string): Promise<Cri> {
    const cri = new Cri(socket);
    const answers = () =>
      cri.tell("ListPodSandbox", "").then(
        () => true,
        () => false,
      );
    await eventually("the cri plugin answers", answers);
    return cri;
  }

  close(): void {
    this.session.close();
  }

  /** Calls a method of the RuntimeService. */
  call<Q, A>(
    method: string,
    write: (message: Partial<Q>, pbf: Writer) => void,
    request: Partial<Q>,
    read: (pbf: Pbf) => A,
  ): Promise<A> {
    const body = encode(write, request);
    const framed = Buffer.alloc(PREFIX + body.length);
    framed.writeUInt32BE(body.length, 1);
    framed.set(body, PREFIX);
    return new Promise((resolve, reject) => {
      const stream = this.session.request({
        [constants.HTTP2_HEADER_METHOD]: "POST",
        [constants.HTTP2_HEADER_PATH]: `/runtime.v1.RuntimeService/${method}`,
        [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
        [constants.HTTP2_HEADER_TE]: "trailers",
      });
      const chunks: Buffer[] = [];
      let status: Record<string, unknown> = {};
      const take = (headers: Record<string, unknown>) => {
        if (headers["grpc-status"] !== undefined) status = headers;
      };
      stream.on("response", take);
      stream.on("trailers", take);
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", reject);
      stream.on("end", () => {
        const code = Number(status["grpc-status"] ?? -1);
        const words = decodeURIComponent(String(status["grpc-message"] ?? "the connection ended"));
        if (code !== 0) reject(new CriError(code, `${method}: ${words}`));
        else resolve(decode(read, Buffer.concat(chunks).subarray(PREFIX)));
      });
      stream.end(framed);
    });
  }

  /** A method whose request is one string, and whose answer nobody reads. */
  async tell(method: string, text: string): Promise<void> {
    await this.call(method, proto.writeText, { text }, proto.readEmpty);
  }

  async runSandbox(config: Partial<proto.SandboxConfig>, runtime_handler: string): Promise<string> {
    const request = { config: config as proto.SandboxConfig, runtime_handler };
    return (await this.call("RunPodSandbox", proto.writeSandboxRequest, request, proto.readText)).text;
  }

  /** Creates a container and starts it; its id. */
  async run(
    pod_sandbox_id: string,
    config: Partial<proto.ContainerConfig>,
    sandbox: Partial<proto.SandboxConfig>,
  ): Promise<string> {
    const request = {
      pod_sandbox_id,
      config: config as proto.ContainerConfig,
      sandbox_config: sandbox as proto.SandboxConfig,
    };
    const { text } = await this.call("CreateContainer", proto.writeContainerRequest, request, proto.readText);
    await this.tell("StartContainer", text);
    return text;
  }

  async sandbox(text: string): Promise<proto.SandboxStatus> {
    const read = proto.readSandboxStatusResponse;
    return (await this.call("PodSandboxStatus", proto.writeText, { text }, read)).status!;
  }

  async container(text: string): Promise<proto.ContainerStatus> {
    const read = proto.readContainerStatusResponse;
    return (await this.call("ContainerStatus", proto.writeText, { text }, read)).status!;
  }

  async stats(text: string): Promise<proto.Stats> {
    return (await this.call("ContainerStats", proto.writeText, { text }, proto.readStatsResponse)).stats!;
  }

  async execSync(container_id: string, cmd: string[], timeout = 0) {
    const request = { container_id, cmd, timeout };
    const read = proto.readExecSyncResponse;
    const { stdout, stderr, exit_code } = await this.call(
      "ExecSync",
      proto.writeExecSyncRequest,
      request,
      read,
    );
    const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);
    return { stdout: text(stdout), stderr: text(stderr), code: exit_code };
  }

  async stop(container_id: string, timeout: number): Promise<void> {
    const request = { container_id, timeout };
    await this.call("StopContainer", proto.writeStopRequest, request, proto.readEmpty);
  }

  /** Starts a process on streams. */
  async exec(request: Partial<proto.ExecRequest>): Promise<Stream> {
    const { text } = await this.call("Exec", proto.writeExecRequest, request, proto.readText);
    return Stream.open(text);
  }

  /** Attaches to the streams of a container. */
  async attach(request: Partial<proto.AttachRequest>): Promise<Stream> {
    const { text } = await this.call("Attach", proto.writeAttachRequest, request, proto.readText);
    return Stream.open(text);
  }
}

/** Channels of v4.channel.k8s.io: the first byte of each message. */
const Channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const;

/** The streams of a process by a websocket. */
export class Stream {
  stdout = "";
  stderr = "";
  /** How it ended, JSON. */
  end = "";

  private constructor(
    private readonly socket: WebSocket,
    readonly closed: Promise<void>,
  ) {}

  static async open(url: string): Promise<Stream> {
    const socket = new WebSocket(url.replace(/^http/, "ws"), ["v4.channel.k8s.io"]);
    socket.binaryType = "arraybuffer";
    const closed = new Promise<void>((resolve) => socket.addEventListener("close", () => resolve()));
    const stream = new Stream(socket, closed);
    socket.addEventListener("message", ({ data }) => stream.take(new Uint8Array(data as ArrayBuffer)));
    await new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve);
      socket.addEventListener("error", () => reject(new Error(`${url} cannot be opened`)));
    });
    return stream;
  }

  type(text: string): void {
    this.send(Channel.stdin, text);
  }

  resize(columns: number, rows: number): void {
    this.send(Channel.resize, JSON.stringify({ Width: columns, Height: rows }));
  }

  /** Waits until its output has some text. */
  async until(text: string): Promise<void> {
    const deadline = Date.now() + 10_000;
    while (!this.stdout.includes(text)) {
      if (Date.now() > deadline) throw new Error(`no ${text} in ${JSON.stringify(this.stdout)}`);
      await Bun.sleep(20);
    }
  }

  close(): void {
    this.socket.close();
  }

  private send(channel: number, text: string): void {
    this.socket.send(Buffer.concat([Buffer.from([channel]), Buffer.from(text)]));
  }

  private take(message: Uint8Array): void {
    const text = new TextDecoder().decode(message.subarray(1));
    if (message[0] === Channel.stdout) this.stdout += text;
    if (message[0] === Channel.stderr) this.stderr += text;
    if (message[0] === Channel.error) this.end += text;
  }
}
