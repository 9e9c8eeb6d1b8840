// What a shim's tests talk with: the command line as containerd calls it, a ttrpc client, and a containerd that takes
// the events. The client and the server here are Bun's sockets with the shim's own frames; frames have tests of their own.
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Socket } from "bun";
import { decode, encode } from "../../src/shim/proto/codec.ts";
import * as proto from "../../src/shim/proto/task.gen.ts";
import { readRequest, readResponse, writeRequest, writeResponse } from "../../src/shim/proto/ttrpc.gen.ts";
import { encodeFrame, FrameReader, FrameType } from "../../src/shim/ttrpc/frame.ts";
import type { Container } from "../rig/container.ts";
import type { Rig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { runtime } from "../rig/runtime.ts";

/** The namespace of containerd; also the last part of the runtime's root, so that the rig looks after it. */
export const NAMESPACE = "root";

type Pbf = Parameters<typeof proto.readEmpty>[0];
type Writer = Parameters<typeof proto.writeEmpty>[1];

/** A status that is not OK. */
export class CallError extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** A connection to a shim. */
export class Connection {
  private readonly pending = new Map<
    number,
    { resolve(bytes: Uint8Array): void; reject(error: Error): void }
  >();
  private stream = 1;
  private readonly waiting: Uint8Array[] = [];
  private readonly frames = new FrameReader(() => {});
  closed = false;

  private constructor(private socket: Socket) {}

  static async open(path: string): Promise<Connection> {
    let connection: Connection | undefined;
    const socket = await Bun.connect({
      unix: path,
      socket: {
        data: (_, bytes) => connection!.received(bytes),
        drain: () => connection!.flush(),
        close: () => connection?.gone(),
        error: () => connection?.gone(),
      },
    });
    connection = new Connection(socket);
    return connection;
  }

  /** Sends bytes as they stand. */
  raw(bytes: Uint8Array): void {
    this.waiting.push(bytes);
    this.flush();
  }

  private flush(): void {
    while (this.waiting.length > 0) {
      const bytes = this.waiting[0]!;
      const n = this.socket.write(bytes);
      if (n < bytes.length) {
        this.waiting[0] = bytes.subarray(Math.max(n, 0));
        return;
      }
      this.waiting.shift();
    }
  }

  call(service: string, method: string, payload: Uint8Array): Promise<Uint8Array> {
    const stream = this.stream;
    this.stream += 2;
    const body = encode(writeRequest, { service, method, payload });
    this.raw(encodeFrame({ stream, type: FrameType.request, flags: 0, body }));
    return new Promise((resolve, reject) => this.pending.set(stream, { resolve, reject }));
  }

  close(): void {
    this.socket.end();
  }

  private received(bytes: Uint8Array): void {
    this.frames.push(bytes, ({ stream, body }) => {
      const call = this.pending.get(stream);
      this.pending.delete(stream);
      const { status, payload } = decode(readResponse, body);
      if (status?.code) call?.reject(new CallError(status.code, status.message));
      else call?.resolve(payload ?? new Uint8Array(0));
    });
  }

  private gone(): void {
    this.closed = true;
    for (const { reject } of this.pending.values()) reject(new CallError(-1, "closed"));
    this.pending.clear();
  }
}

/** An event, as it arrived. */
export interface Event {
  topic: string;
  fields: Record<string, unknown>;
}

const EVENTS: Record<string, (pbf: Pbf) => unknown> = {
  TaskCreate: proto.readTaskCreate,
  TaskStart: proto.readTaskStart,
  TaskExit: proto.readTaskExit,
  TaskDelete: proto.readTaskDelete,
  TaskExecAdded: proto.readTaskExecAdded,
  TaskExecStarted: proto.readTaskExecStarted,
  TaskOOM: proto.readTaskId,
  TaskPaused: proto.readTaskId,
  TaskResumed: proto.readTaskId,
  TaskCheckpointed: proto.readTaskCheckpointed,
};

/** containerd's event service, in this process. */
export class Events {
  readonly all: Event[] = [];
  private server: { stop(close?: boolean): void } | undefined;

  constructor(readonly path: string) {
    this.open();
  }

  open(): void {
    this.server = Bun.listen<FrameReader>({
      unix: this.path,
      socket: {
        open: (socket) => {
          socket.data = new FrameReader(() => {});
        },
        data: (socket, bytes) => {
          socket.data.push(bytes, ({ stream, body }) => {
            this.take(decode(readRequest, body).payload ?? new Uint8Array(0));
            const answer = encode(writeResponse, { payload: new Uint8Array(0) });
            socket.write(encodeFrame({ stream, type: FrameType.response, flags: 0, body: answer }));
          });
        },
      },
    });
  }

  /** Closes the socket and all connections: containerd is away. */
  close(): void {
    this.server?.stop(true);
    output(["rm", "-f", this.path]);
  }

  /** Topics without their beginning, with the process in brackets: "exit[e1]". */
  topics(): string[] {
    return this.all.map(({ topic, fields }) => {
      const exec = fields.exec_id ?? (topic === "/tasks/exit" ? fields.id : undefined);
      const name = topic.slice("/tasks/".length);
      return exec && exec !== fields.container_id ? `${name}[${exec}]` : name;
    });
  }

  /** Waits until a topic has been told so often. */
  async until(topic: string, count = 1): Promise<Event> {
    const deadline = Date.now() + 20_000;
    for (;;) {
      const found = this.all.filter((event) => event.topic === topic);
      if (found.length >= count) return found[count - 1]!;
      if (Date.now() > deadline) throw new Error(`no ${topic} among ${this.topics().join(" ")}`);
      await Bun.sleep(10);
    }
  }

  private take(payload: Uint8Array): void {
    const { envelope } = decode(proto.readForwardRequest, payload);
    const name = envelope!.event!.type_url.replace("containerd.events.", "");
    const fields = decode(EVENTS[name]!, envelope!.event!.value ?? new Uint8Array(0)) as Record<
      string,
      unknown
    >;
    this.all.push({ topic: envelope!.topic, fields });
  }
}

/** One shim and the calls of containerd. */
export class Shim {
  readonly events: Events;
  readonly socket: string;
  readonly binary: string;
  connection!: Connection;

  constructor(
    readonly rig: Rig,
    readonly container: Container,
    private readonly env: Record<string, string> = {},
  ) {
    const places = join(rig.scratch.bundles, `${container.id}-s`);
    mkdirSync(places);
    // A socket's path holds 107 bytes.
    this.socket = join(rig.scratch.bundles, `${container.id.slice(-6)}.s`);
    this.events = new Events(join(rig.scratch.bundles, `${container.id.slice(-6)}.e`));
    this.binary = join(places, "containerd-shim-bunc-v2");
    symlinkSync(runtime, this.binary);
    rig.defer(() => this.stop());
  }

  /** Runs the shim's command line in the bundle. */
  async command(args: string[], stdin: Uint8Array = new Uint8Array(0), env: Record<string, string> = {}) {
    const { container, rig } = this;
    const flags = ["-namespace", NAMESPACE, "-id", container.id, "-address", "/nonexistent/containerd.sock"];
    const process = Bun.spawn([this.binary, ...flags, ...args], {
      cwd: container.bundle,
      env: { ...rig.env, TTRPC_ADDRESS: this.events.path, ...this.env, ...env },
      stdin,
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr, code] = await Promise.all([
      process.stdout.bytes(),
      process.stderr.text(),
      process.exited,
    ]);
    return { stdout, stderr, code };
  }

  /** `start`, and a connection to what it has started. */
  async start(): Promise<this> {
    this.container.write();
    const { stdout, stderr, code } = await this.command(["-socket", this.socket, "start"]);
    if (code !== 0 || stderr !== "") throw new Error(`start: ${code} ${stderr}`);
    const address = new TextDecoder().decode(stdout);
    if (address !== `unix://${this.socket}`) throw new Error(`start said ${address}`);
    this.connection = await Connection.open(this.socket);
    return this;
  }

  /** Calls a method of the Task service. */
  async task<Q, A>(
    method: string,
    write: (message: Partial<Q>, pbf: Writer) => void,
    request: Partial<Q>,
    read: (pbf: Pbf) => A,
    version = 2,
  ): Promise<A> {
    const answer = await this.connection.call(
      `containerd.task.v${version}.Task`,
      method,
      encode(write, request),
    );
    return decode(read, answer);
  }

  create(request: Partial<proto.CreateTaskRequest> = {}, options: Partial<proto.Options> = {}) {
    const { container, rig } = this;
    const value = encode(proto.writeOptions, { root: dirname(rig.scratch.root), ...options });
    const all = {
      id: container.id,
      bundle: container.bundle,
      options: { type_url: "containerd.runc.v1.Options", value },
      ...request,
    };
    return this.task("Create", proto.writeCreateTaskRequest, all, proto.readCreateTaskResponse);
  }

  /** A method that names a process: of the container, or of exec. */
  process<A>(method: string, read: (pbf: Pbf) => A, exec_id = ""): Promise<A> {
    return this.task(method, proto.writeProcessRequest, { id: this.container.id, exec_id }, read);
  }

  begin(exec = "") {
    return this.process("Start", proto.readStartResponse, exec);
  }

  wait(exec = "") {
    return this.process("Wait", proto.readWaitResponse, exec);
  }

  state(exec = "") {
    return this.process("State", proto.readStateResponse, exec);
  }

  delete(exec = "") {
    return this.process("Delete", proto.readDeleteResponse, exec);
  }

  kill(signal: number, exec_id = "", all = false) {
    const request = { id: this.container.id, exec_id, signal, all };
    return this.task("Kill", proto.writeKillRequest, request, proto.readEmpty);
  }

  /** Registers a process of exec: the container's own with other arguments. */
  exec(exec_id: string, args: string[], more: Partial<proto.ExecProcessRequest> = {}) {
    const process = { ...this.container.config.process, args, terminal: more.terminal ?? false };
    const value = new TextEncoder().encode(JSON.stringify(process));
    const spec = { type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process", value };
    const request = { id: this.container.id, exec_id, spec, ...more };
    return this.task("Exec", proto.writeExecProcessRequest, request, proto.readEmpty);
  }

  /** A method that names the container and has an empty answer. */
  simple(method: string) {
    return this.task(method, proto.writeTaskRequest, { id: this.container.id }, proto.readEmpty);
  }

  async shutdown(): Promise<void> {
    await this.task("Shutdown", proto.writeShutdownRequest, { id: this.container.id }, proto.readEmpty);
  }

  async connect() {
    return this.task("Connect", proto.writeTaskRequest, { id: this.container.id }, proto.readConnectResponse);
  }

  /** A fifo in the bundle's neighbourhood, and what is read from it, as containerd does. */
  fifo(name: string): { path: string; text(): Promise<string> } {
    const path = join(this.rig.scratch.bundles, `${this.container.id}-${name}`);
    output(["mkfifo", path]);
    const reader = Bun.spawn(["cat", path], { stdin: "ignore", stdout: "pipe", env: this.rig.env });
    this.rig.defer(async () => {
      reader.kill("SIGKILL");
      await reader.exited;
    });
    const text = reader.stdout.text();
    return { path, text: () => text };
  }

  /** A fifo that the test writes to. */
  inputFifo(name: string): string {
    const path = join(this.rig.scratch.bundles, `${this.container.id}-${name}`);
    output(["mkfifo", path]);
    return path;
  }

  /** Writes to a fifo as a client that comes and goes. */
  async type(path: string, text: string): Promise<void> {
    const file = join(this.rig.scratch.bundles, `${this.container.id}-typed`);
    writeFileSync(file, text);
    const writer = Bun.spawn(["sh", "-c", `cat ${file} > ${path}`], { env: this.rig.env });
    await writer.exited;
  }

  /** Pid of the serving process, 0 when there is none. */
  async pid(): Promise<number> {
    return (await this.connect()).shim_pid;
  }

  /** Ends whatever is left, as containerd does with a dead shim. */
  private async stop(): Promise<void> {
    this.connection?.close();
    const found = Bun.spawnSync(["pgrep", "-f", `containerd-shim-bunc-v2.*${this.container.id}`]);
    for (const pid of found.stdout.toString().split("\n").filter(Boolean)) {
      try {
        process.kill(Number(pid), "SIGKILL");
      } catch {
        // It has ended.
      }
    }
    await this.command(["-bundle", this.container.bundle, "delete"]);
    this.events.close();
  }
}

/** A container of its own with a shim that serves it. */
export async function shimOf(
  rig: Rig,
  args: string[],
  env: Record<string, string> = {},
  edit: (container: Container) => void = () => {},
): Promise<Shim> {
  const container = rig.container((config, made) => {
    config.process.args = args;
    edit(made);
  });
  return new Shim(rig, container, env).start();
}

/** The error of a call that is refused. */
export async function refusal(call: Promise<unknown>): Promise<[number, string]> {
  try {
    await call;
  } catch (error) {
    if (error instanceof CallError) return [error.code, error.message];
    throw error;
  }
  throw new Error("it was not refused");
}
