/** The Task service, containerd.task.v2 and v3 (the same messages): from requests to `Tasks`, and back. */
import type { PbfReader, PbfWriter } from "pbf";
import { abi } from "../../linux/abi.gen.ts";
import { sys } from "../../linux/lib.ts";
import { decode, encode } from "../proto/codec.ts";
import * as proto from "../proto/task.gen.ts";
import { Code, RpcError } from "../ttrpc/status.ts";
import * as calls from "./calls.ts";
import type { Tasks } from "./tasks.ts";

/** What the service needs besides the tasks. */
export interface ServiceContext {
  tasks: Tasks;
  /** Whether the service is to end: asked for by Shutdown, and there are no tasks. */
  shutdown(): void;
}

interface Method {
  read: (pbf: PbfReader) => never;
  run: (context: ServiceContext, request: never) => unknown;
  write: (message: never, pbf: PbfWriter) => void;
}

function method<Q, A>(
  read: (pbf: PbfReader) => Q,
  write: (message: Partial<A>, pbf: PbfWriter) => void,
  run: (context: ServiceContext, request: Q) => Partial<A> | Promise<Partial<A>>,
): Method {
  return { read, run, write } as unknown as Method;
}

const PROCESS_DETAILS = "containerd.runc.v1.ProcessDetails";
const { readProcessRequest, readTaskRequest, writeEmpty } = proto;

const METHODS: Readonly<Record<string, Method>> = {
  State: method(readProcessRequest, proto.writeStateResponse, ({ tasks }, request) => tasks.state(request)),
  Create: method(proto.readCreateTaskRequest, proto.writeCreateTaskResponse, async ({ tasks }, request) => ({
    pid: await tasks.create(request),
  })),
  Start: method(readProcessRequest, proto.writeStartResponse, async ({ tasks }, request) => ({
    pid: await tasks.start(request),
  })),
  Delete: method(readProcessRequest, proto.writeDeleteResponse, ({ tasks }, request) =>
    tasks.delete(request),
  ),
  Pids: method(readTaskRequest, proto.writePidsResponse, async ({ tasks }, { id }) => {
    const processes = (await calls.pids(tasks.get(id))).map(({ pid, execId }) => ({
      pid,
      info: details(execId),
    }));
    return { processes: processes as proto.ProcessInfo[] };
  }),
  Pause: method(readTaskRequest, writeEmpty, async ({ tasks }, { id }) => {
    await calls.pause(tasks.context, tasks.get(id));
    return {};
  }),
  Resume: method(readTaskRequest, writeEmpty, async ({ tasks }, { id }) => {
    await calls.resume(tasks.context, tasks.get(id));
    return {};
  }),
  Kill: method(proto.readKillRequest, writeEmpty, async ({ tasks }, request) => {
    await tasks.kill(request);
    return {};
  }),
  Exec: method(proto.readExecProcessRequest, writeEmpty, ({ tasks }, request) => {
    tasks.exec(request);
    return {};
  }),
  ResizePty: method(proto.readResizePtyRequest, writeEmpty, ({ tasks }, { id, exec_id, width, height }) => {
    tasks.resize(id, exec_id, width, height);
    return {};
  }),
  CloseIO: method(proto.readCloseIORequest, writeEmpty, ({ tasks }, { id, exec_id, stdin }) => {
    if (stdin) tasks.closeInput(id, exec_id);
    return {};
  }),
  Update: method(proto.readUpdateTaskRequest, writeEmpty, async ({ tasks }, { id, resources }) => {
    await calls.update(tasks.context, tasks.get(id), resources);
    return {};
  }),
  Wait: method(readProcessRequest, proto.writeWaitResponse, async ({ tasks }, { id, exec_id }) => {
    const { status, at } = await tasks.process(id, exec_id).wait();
    return { exit_status: status, exited_at: at };
  }),
  Checkpoint: method(proto.readCheckpointTaskRequest, writeEmpty, async ({ tasks }, request) => {
    await calls.checkpoint(tasks.context, tasks.get(request.id), request);
    return {};
  }),
  Stats: method(readTaskRequest, proto.writeStatsResponse, async ({ tasks }, { id }) => ({
    stats: await calls.stats(tasks.get(id)),
  })),
  Connect: method(readTaskRequest, proto.writeConnectResponse, ({ tasks }, { id }) => ({
    shim_pid: sys(abi.SYS_getpid),
    task_pid: tasks.find(id)?.init.pid ?? 0,
    version: "",
  })),
  Shutdown: method(proto.readShutdownRequest, writeEmpty, ({ tasks, shutdown }) => {
    if (tasks.empty) shutdown();
    return {};
  }),
};

const SERVICES = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/** Answers one call. @throws RpcError and others */
export async function answerCall(
  context: ServiceContext,
  service: string,
  name: string,
  payload: Uint8Array,
): Promise<Uint8Array> {
  if (!SERVICES.includes(service)) throw new RpcError(Code.unimplemented, `service ${service}`);
  const found = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined;
  if (!found) throw new RpcError(Code.unimplemented, `method ${name}`);
  let request: never;
  try {
    request = decode(found.read, payload);
  } catch (error) {
    throw new RpcError(Code.invalidArgument, `${name}: ${error instanceof Error ? error.message : error}`);
  }
  const response = await found.run(context, request);
  return encode(found.write as never, response as object);
}

function details(execId: string): proto.Any | undefined {
  if (execId === "") return undefined;
  return { type_url: PROCESS_DETAILS, value: encode(proto.writeProcessDetails, { exec_id: execId }) };
}
