/** What is done to a task that is there: the methods of the Task service beside its start and its end. */

import { text } from "../../linux/lib.ts";
import { decode } from "../proto/codec.ts";
import type { Any, CheckpointTaskRequest } from "../proto/task.gen.ts";
import { readCheckpointOptions } from "../proto/task.gen.ts";
import { Code, RpcError } from "../ttrpc/status.ts";
import { isLong } from "./launch.ts";
import type { Task } from "./task.ts";
import { inWords, type TaskContext } from "./words.ts";

/** Freezes the container. */
export async function pause(context: TaskContext, task: Task): Promise<void> {
  await task.inOrder(async () => {
    const { pauseContainer } = await import("../../container/pause.ts");
    await inWords("OCI runtime pause failed: ", () => pauseContainer(task.record.root, task.id));
    task.paused = true;
    context.publisher.publish("TaskPaused", { container_id: task.id });
  });
}

/** Lets it go on. */
export async function resume(context: TaskContext, task: Task): Promise<void> {
  await task.inOrder(async () => {
    const { resumeContainer } = await import("../../container/pause.ts");
    await inWords("OCI runtime resume failed: ", () => resumeContainer(task.record.root, task.id));
    task.paused = false;
    context.publisher.publish("TaskResumed", { container_id: task.id });
  });
}

/** Other limits: JSON of LinuxResources. */
export async function update(context: TaskContext, task: Task, resources: Any | undefined): Promise<void> {
  if (!resources?.value)
    throw new RpcError(Code.invalidArgument, "the request has no resources: invalid argument");
  const json = text(resources.value);
  await task.inOrder(async () => {
    const { problemsError, validateResources } = await import("../../bundle/validate.ts");
    const { value, problems } = validateResources(json);
    if (value === undefined) throw problemsError(problems, "the resources");
    const { updateContainer } = await import("../../container/update.ts");
    const warn = (message: string) => context.log.warn(message);
    const { root } = task.record;
    await inWords("OCI runtime update failed: ", async () => {
      if (!isLong(task.bundle)) return updateContainer(root, task.id, value, { warn });
      return (await import("./apart.ts")).updateApart(context, root, task.id, json);
    });
  });
}

/** Pids in the container's cgroups, with the exec ids of those that containerd started. */
export async function pids(task: Task): Promise<{ pid: number; execId: string }[]> {
  const { containerProcesses } = await import("../../container/processes.ts");
  const execs = new Map([...task.execs.values()].map(({ pid, execId }) => [pid, execId]));
  return containerProcesses(task.record.root, task.id).map((pid) => ({ pid, execId: execs.get(pid) ?? "" }));
}

/** What the container uses. */
export async function stats(task: Task): Promise<Any> {
  const { metricsOf } = await import("./metrics.ts");
  const { readSummary } = await import("../../container/store.ts");
  return metricsOf(readSummary(task.record.root, task.id).cgroupPaths);
}

/** Saves the container's processes, which end when that is asked for. */
export async function checkpoint(
  context: TaskContext,
  task: Task,
  { path, options: any }: CheckpointTaskRequest,
): Promise<void> {
  const options = decode(readCheckpointOptions, any?.value ?? new Uint8Array(0));
  await task.inOrder(async () => {
    const { checkpointContainer } = await import("../../container/checkpoint.ts");
    await inWords("OCI runtime checkpoint failed: ", () =>
      checkpointContainer({
        root: task.record.root,
        id: task.id,
        log: context.log,
        imagePath: options.image_path || path,
        workPath: options.work_path || `${task.bundle}/work`,
        ...(options.parent_path ? { parentPath: options.parent_path } : {}),
        leaveRunning: !options.exit,
        preDump: false,
        tcpEstablished: options.open_tcp,
        tcpSkipInFlight: false,
        linkRemap: false,
        extUnixSk: options.external_unix_sockets,
        shellJob: options.terminal,
        fileLocks: options.file_locks,
        autoDedup: false,
        lazyPages: false,
        manageCgroupsMode: options.cgroups_mode,
        statusFd: -1,
      }),
    );
    context.publisher.publish("TaskCheckpointed", { container_id: task.id, checkpoint: path });
  });
}
