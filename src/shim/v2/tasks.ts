/**
 * The tasks of a shim: what the methods of the Task service do. The runtime's own modules are called in process, each
 * imported when it is first needed.
 */

import { BuncError, renderError } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { text } from "../../linux/lib.ts";
import type {
  CreateTaskRequest,
  DeleteResponse,
  ExecProcessRequest,
  KillRequest,
  ProcessRequest,
  StateResponse,
} from "../proto/task.gen.ts";
import { Code, RpcError } from "../ttrpc/status.ts";
import { createTask, restoreInit, startProcess, unmount } from "./launch.ts";
import { type Ended, ExecProcess, type ShimProcess } from "./process.ts";
import type { Task, TaskState } from "./task.ts";
import { inWords, type TaskContext } from "./words.ts";

/** containerd.task.Status */
const Status = { created: 1, running: 2, stopped: 3, paused: 4 } as const;

/** How long Delete waits for the output of a process that has ended. */
const DRAIN_MILLISECONDS = 10_000;

/** Killed, as containerd says of what it did not see end. */
export const KILLED = 137;

export class Tasks {
  private readonly tasks = new Map<string, Task>();
  /** Ids whose Create is on its way. */
  private readonly creating = new Set<string>();
  /** What is being done without a call that waits for it. */
  private background = 0;

  constructor(readonly context: TaskContext) {}

  /** All tasks, when nothing is being done with any; else undefined. */
  snapshot(): TaskState[] | undefined {
    if (this.creating.size > 0 || this.background > 0) return undefined;
    const states: TaskState[] = [];
    for (const {
      id,
      bundle,
      record,
      state,
      paused,
      init,
      execs,
      initEnded,
      oom,
      restore,
    } of this.tasks.values()) {
      const initState = init.snapshot();
      const execStates: TaskState["execs"] = [];
      for (const process of execs.values() as Iterable<ExecProcess>) {
        const execState = process.snapshot();
        if (!execState || process.starting) return undefined;
        execStates.push({ ...execState, spec: process.spec });
      }
      if (!initState || initEnded || restore) return undefined;
      const oomState = oom?.state();
      states.push({ id, bundle, record, state, paused, init: initState, execs: execStates, oom: oomState });
    }
    return states;
  }

  /** Adds a task that another shim has made (take-over.ts). */
  add(task: Task): void {
    this.tasks.set(task.id, task);
  }

  get empty(): boolean {
    return this.tasks.size === 0 && this.creating.size === 0;
  }

  /** @throws RpcError NotFound */
  get(id: string): Task {
    const task = this.tasks.get(id);
    if (!task) throw new RpcError(Code.notFound, "container not created: not found");
    return task;
  }

  find(id: string): Task | undefined {
    return this.tasks.get(id);
  }

  /** @throws RpcError NotFound */
  process(id: string, execId: string): ShimProcess {
    const task = this.get(id);
    if (execId === "") return task.init;
    const process = task.execs.get(execId);
    if (!process) throw new RpcError(Code.notFound, `process does not exist ${execId}: not found`);
    return process;
  }

  /** @returns the pid of init */
  async create(request: CreateTaskRequest): Promise<number> {
    const { id } = request;
    if (this.tasks.has(id) || this.creating.has(id)) {
      throw new RpcError(Code.alreadyExists, `container ${id}: already exists`);
    }
    this.creating.add(id);
    try {
      const task = await createTask(this.context, request, this.endOf(id));
      this.tasks.set(id, task);
      this.told(task, request);
      return task.init.pid;
    } finally {
      this.creating.delete(id);
    }
  }

  /** Everything that containerd is to know of a new task, in its order. */
  private told(task: Task, { rootfs, checkpoint }: CreateTaskRequest): void {
    const { id, bundle, init } = task;
    const { stdin, stdout, stderr, terminal } = init.names;
    const io = { stdin, stdout, stderr, terminal };
    this.context.publisher.publish("TaskCreate", {
      container_id: id,
      bundle,
      rootfs,
      io,
      checkpoint,
      pid: init.pid,
    });
    init.release();
  }

  /** @returns the pid */
  async start({ id, exec_id }: ProcessRequest): Promise<number> {
    const task = this.get(id);
    const process = this.process(id, exec_id);
    if (exec_id === "") return task.inOrder(() => this.startInit(task));
    if (process.pid || process.ended) {
      throw new RpcError(
        Code.failedPrecondition,
        `process ${exec_id} was started already: failed precondition`,
      );
    }
    return startProcess(this.context, task, process as ExecProcess);
  }

  private async startInit(task: Task): Promise<number> {
    const { id, init, record } = task;
    const { restore } = task;
    if (!restore) init.hold();
    try {
      if (restore) {
        await restoreInit(this.context, task, restore);
      } else {
        const { startContainer } = await import("../../container/start.ts");
        await inWords("OCI runtime start failed: ", () => startContainer(record.root, id));
      }
      this.started(task);
      this.context.publisher.publish("TaskStart", { container_id: id, pid: init.pid });
      return init.pid;
    } finally {
      init.release();
    }
  }

  private started(task: Task): void {
    task.state = "running";
    void this.watchOom(task);
  }

  async watchOom(task: Task): Promise<void> {
    const { id, record, init } = task;
    this.background++;
    try {
      const { watchOom } = await import("../../cgroup/oom.ts");
      const { readSummary } = await import("../../container/store.ts");
      if (init.ended) return;
      task.watchOom(this.context.loop, watchOom(readSummary(record.root, id).cgroupPaths), () =>
        this.tellOom(id),
      );
    } catch (error) {
      // Without a cgroup of its own, or when it has ended already.
      this.context.log.debug(renderError(error));
    } finally {
      this.background--;
    }
  }

  tellOom(id: string): void {
    this.context.publisher.publish("TaskOOM", { container_id: id });
  }

  exec({ id, exec_id, terminal, stdin, stdout, stderr, spec }: ExecProcessRequest): void {
    const task = this.get(id);
    if (exec_id === "") throw new RpcError(Code.invalidArgument, "exec id cannot be empty: invalid argument");
    if (task.execs.has(exec_id)) throw new RpcError(Code.alreadyExists, `id ${exec_id}: already exists`);
    if (!spec?.value)
      throw new RpcError(Code.invalidArgument, "the request has no process: invalid argument");
    const names = { stdin, stdout, stderr, terminal };
    const process = new ExecProcess(exec_id, names, this.endOf(id));
    process.spec = text(spec.value);
    task.execs.set(exec_id, process);
    this.context.publisher.publish("TaskExecAdded", { container_id: id, exec_id });
  }

  /** What is told of the end of a process of the container. */
  endOf(id: string): (process: ShimProcess, ended: Ended) => void {
    return (process, ended) => this.processEnded(id, process, ended);
  }

  /** What becomes of the end of a process: init's is told after those of exec, each after its start. */
  private processEnded(id: string, process: ShimProcess, ended: Ended): void {
    const task = this.tasks.get(id);
    const tell = () => {
      process.finish(ended);
      this.context.publisher.publish("TaskExit", {
        container_id: id,
        id: process.execId || id,
        pid: process.pid,
        exit_status: ended.status,
        exited_at: ended.at,
      });
    };
    if (!task) {
      process.finish(ended);
      return;
    }
    if (process.execId !== "") {
      tell();
      if (!task.busy) this.tellInit(task);
      return;
    }
    // The kernel may have told of what killed it, and this loop not have read it yet.
    if (task.oom && task.oom.take() > 0) this.tellOom(id);
    task.stopOom();
    task.initEnded = tell;
    this.background++;
    void this.endRest(task).then(() => {
      this.background--;
      if (!task.busy) this.tellInit(task);
      // Something that cannot be killed must not hide that the container has ended.
      else this.context.loop.after(DRAIN_MILLISECONDS, () => this.tellInit(task));
    });
  }

  private tellInit(task: Task): void {
    const tell = task.initEnded;
    task.initEnded = undefined;
    tell?.();
  }

  /** Without a pid namespace of its own the processes of a container survive its init. */
  private async endRest(task: Task): Promise<void> {
    try {
      const { readSummary } = await import("../../container/store.ts");
      const summary = readSummary(task.record.root, task.id);
      if (!summary.sharedPid) return;
      const { killAll } = await import("../../cgroup/live.ts");
      await killAll(summary.cgroupPaths);
    } catch (error) {
      if (!(error instanceof BuncError) || error.fields.code !== "not-found")
        this.context.log.warn(renderError(error));
    }
  }

  async kill({ id, exec_id, signal, all }: KillRequest): Promise<void> {
    const process = this.process(id, exec_id);
    const task = this.get(id);
    if (exec_id !== "") {
      if (!process.pid && !process.ended) {
        throw new RpcError(Code.failedPrecondition, "process not created: failed precondition");
      }
      if (!process.signal(signal)) throw finished();
      return;
    }
    if (!all && process.ended) throw finished();
    const { signalContainer } = await import("../../container/kill.ts");
    const { readSummary } = await import("../../container/store.ts");
    const live = await import("../../cgroup/live.ts");
    try {
      const summary = readSummary(task.record.root, id);
      if (all && live.killAll && signal === abi.SIGKILL) await live.killAll(summary.cgroupPaths);
      else await signalContainer(summary, signal, live);
    } catch (error) {
      if (
        error instanceof BuncError &&
        (error.fields.code === "state" || error.fields.code === "not-found")
      ) {
        throw finished();
      }
      throw error;
    }
  }

  async delete({ id, exec_id }: ProcessRequest): Promise<DeleteResponse> {
    const task = this.get(id);
    if (exec_id === "") return task.inOrder(() => this.deleteTask(task));
    const process = this.process(id, exec_id);
    if (process.running || (process as ExecProcess).starting)
      throw new RpcError(Code.unknown, "cannot delete a running process");
    await process.streams?.drained(DRAIN_MILLISECONDS);
    process.close();
    task.execs.delete(exec_id);
    return { pid: process.pid, exit_status: process.ended?.status ?? 0, exited_at: process.ended?.at };
  }

  private async deleteTask(task: Task): Promise<DeleteResponse> {
    const { id, init, record } = task;
    if (this.tasks.get(id) !== task) throw new RpcError(Code.notFound, "container not created: not found");
    if (task.state === "running" && !init.ended)
      throw new RpcError(Code.unknown, "cannot delete a running process");
    const { deleteContainer } = await import("../../container/delete.ts");
    await inWords("OCI runtime delete failed: ", async () => {
      try {
        await deleteContainer(record.root, id, false, { warn: (message) => this.context.log.warn(message) });
      } catch (error) {
        // Somebody may have deleted it by hand.
        if (!(error instanceof BuncError) || error.fields.code !== "not-found") throw error;
      }
    });
    // One that was never started ends only now.
    const ended = init.ended ?? (init.pid ? await init.wait() : undefined);
    await init.streams?.drained(DRAIN_MILLISECONDS);
    for (const process of task.execs.values()) process.close();
    init.close();
    unmount(this.context, task.rootfs);
    // Deleting has kept this process busy. Who asked meanwhile is told that the task has stopped: containerd's cri plugin
    // takes one that is not found for stopped long ago, and refuses to remove the container that to it still runs.
    await this.context.loop.caughtUp();
    this.tasks.delete(id);
    const status = ended?.status ?? KILLED;
    const result = { pid: init.pid, exit_status: status, exited_at: ended?.at };
    this.context.publisher.publish("TaskDelete", { container_id: id, ...result });
    return result;
  }

  /** State of a process, as containerd shows it. */
  state({ id, exec_id }: ProcessRequest): Partial<StateResponse> {
    const task = this.get(id);
    const process = this.process(id, exec_id);
    return {
      id: exec_id || id,
      bundle: task.bundle,
      pid: process.pid,
      status: statusOf(task, process),
      ...process.names,
      exit_status: process.ended?.status ?? 0,
      exited_at: process.ended?.at,
      exec_id,
    };
  }

  resize(id: string, execId: string, width: number, height: number): void {
    this.process(id, execId).streams?.resize(width, height);
  }

  closeInput(id: string, execId: string): void {
    this.process(id, execId).streams?.closeInput();
  }
}

function statusOf(task: Task, process: ShimProcess): number {
  if (process.ended) return Status.stopped;
  if (process !== task.init) return process.pid ? Status.running : Status.created;
  if (task.paused) return Status.paused;
  return task.state === "running" ? Status.running : Status.created;
}

function finished(): RpcError {
  return new RpcError(Code.notFound, "process already finished: not found");
}
