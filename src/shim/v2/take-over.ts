/**
 * Tasks that this shim has not made itself: those it had before it went to sleep (hibernate.ts), and the container of a shim
 * that was killed.
 */

import { ExecProcess, type ProcessState, ShimProcess } from "./process.ts";
import { readRecord } from "./record.ts";
import { Streams } from "./streams.ts";
import { Task, type TaskState } from "./task.ts";
import { KILLED, type Tasks } from "./tasks.ts";
import { now } from "./time.ts";

/** Takes over a task. */
export async function takeOver(tasks: Tasks, state: TaskState): Promise<void> {
  const { id, bundle, record } = state;
  const { loop } = tasks.context;
  const init = new ShimProcess("", state.init.names, tasks.endOf(id));
  const task = new Task(id, bundle, `${bundle}/rootfs`, record, init);
  task.state = state.state;
  task.paused = state.paused;
  tasks.add(task);
  init.resume(loop, state.init, await resumeStreams(tasks, id, state.init));
  if (state.oom) {
    const { resumeOom } = await import("../../cgroup/oom.ts");
    task.watchOom(loop, resumeOom(state.oom), () => tasks.tellOom(id));
  }
  for (const execState of state.execs) {
    const process = new ExecProcess(execState.execId, execState.names, tasks.endOf(id));
    process.spec = execState.spec;
    task.execs.set(execState.execId, process);
    process.resume(loop, execState, await resumeStreams(tasks, id, execState));
  }
}

async function resumeStreams(
  { context: { loop, namespace } }: Tasks,
  id: string,
  { names, streams }: ProcessState,
): Promise<Streams | undefined> {
  return streams && Streams.resume(names, { loop, namespace, id, uid: 0, gid: 0 }, streams);
}

/**
 * Takes over the container in a bundle from a shim that was killed: its end will be seen, and it can be managed as
 * before. Processes of exec that the other shim has started are not known any more.
 * @throws BuncError when there is no such container
 */
export async function adopt(tasks: Tasks, id: string, bundle: string): Promise<void> {
  const { loop, namespace, log } = tasks.context;
  const record = readRecord(bundle, namespace);
  const { readSummary, statePath } = await import("../../container/store.ts");
  const { openProcess, statusOf } = await import("../../container/status.ts");
  const live = await import("../../cgroup/live.ts");
  const summary = readSummary(record.root, id);
  const { stdin, stdout, stderr, terminal } = record;
  const names = { stdin, stdout, stderr, terminal };
  const init = new ShimProcess("", names, tasks.endOf(id));
  const task = new Task(id, bundle, `${bundle}/rootfs`, record, init);
  const pidfd = openProcess(summary);
  init.pid = summary.pid;
  if (pidfd < 0) {
    task.state = "running";
    init.finish({ status: KILLED, at: now() });
  } else {
    const status = statusOf(summary, statePath(record.root, id), live);
    task.state = status === "created" ? "created" : "running";
    task.paused = status === "paused";
    init.streams = Streams.reopen(names, { loop, namespace, id, uid: 0, gid: 0 });
    init.adopt(loop, summary.pid, pidfd);
  }
  tasks.add(task);
  if (task.state === "running" && init.running) void tasks.watchOom(task);
  log.warn(`took over container ${id}, process ${summary.pid}`);
}
