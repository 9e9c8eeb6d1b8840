/** Starting what a task is made of: its container, a process in it, or the container from a checkpoint. */
import type { LaunchOptions } from "../../container/types.ts";
import { renderError } from "../../errors.ts";
import { abi, sizeof_, stat_ } from "../../linux/abi.gen.ts";
import { sys } from "../../linux/lib.ts";
import type { CreateTaskRequest } from "../proto/task.gen.ts";
import { Code, RpcError } from "../ttrpc/status.ts";
import { readShimOptions, type ShimOptions } from "./options.ts";
import { type Ended, type ExecProcess, ShimProcess } from "./process.ts";
import { type Record, rootOf, type StreamNames, writeRecord } from "./record.ts";
import { mountRootfs, unmountRootfs } from "./rootfs.ts";
import { Streams } from "./streams.ts";
import { type RestoreFrom, Task } from "./task.ts";
import { now } from "./time.ts";
import { inWords, type TaskContext } from "./words.ts";

/**
 * Mounts the rootfs, opens the streams and creates the container. Its end is kept back until `release`.
 * @throws RpcError; nothing is left then
 */
export async function createTask(
  context: TaskContext,
  request: CreateTaskRequest,
  onEnd: (process: ShimProcess, ended: Ended) => void,
): Promise<Task> {
  const { id, bundle, stdin, stdout, stderr, terminal } = request;
  const options = await inWords("options of the runtime: ", () =>
    readShimOptions(request.options, (message) => context.log.warn(message)),
  );
  if (options.binary_name)
    context.log.debug(`BinaryName ${options.binary_name} is ignored: bunc's shim is the runtime`);
  const root = rootOf(options.root, context.namespace);
  const names: StreamNames = { stdin, stdout, stderr, terminal };
  const record = { root, ...names, uid: options.io_uid, gid: options.io_gid };
  const rootfs = `${bundle}/rootfs`;
  const process = new ShimProcess("", names, onEnd);
  const { createContainer } = await import("../../container/create.ts");
  writeRecord(bundle, record);
  await mountRootfs(request.rootfs, rootfs);
  const task = new Task(id, bundle, rootfs, record, process);
  try {
    process.streams = await openStreams(context, id, names, record);
    if (request.checkpoint) {
      // As with containerd's shim there is a process only when it is started.
      task.restore = { ...options, checkpoint: request.checkpoint };
      return task;
    }
    const created = await inWords("OCI runtime create failed: runc create failed: ", async () => {
      const { consoleFd } = process.streams!;
      const launch = launchOptions(context, task, process.streams!, options);
      if (!isLong(bundle)) return createContainer(launch, consoleFd);
      return (await import("./apart.ts")).createApart(context, launch, consoleFd);
    });
    process.hold();
    process.adopt(context.loop, created.pid, created.pidfd);
    await process.streams.handOver();
  } catch (error) {
    if (process.pid) await discard(context, root, id);
    process.close();
    if (request.rootfs.length > 0) unmount(context, rootfs);
    throw error;
  }
  return task;
}

/**
 * What is longer takes more than a few milliseconds to read, check and compile, and so is for a process apart, which costs
 * 30 ms. A real config.json with a large seccomp profile has 0.1 MB.
 */
const LONGEST_HERE = 128 << 10;

/** Whether the config.json of a bundle is long, or a device or fifo that may be endless; one that is absent is not. */
export function isLong(bundle: string): boolean {
  const stat = new DataView(new ArrayBuffer(sizeof_.stat));
  const path = `${bundle}/config.json`;
  if (sys(abi.SYS_newfstatat, abi.AT_FDCWD, path, new Uint8Array(stat.buffer), 0) < 0) return false;
  if ((stat.getUint32(stat_.st_mode, true) & abi.S_IFMT) !== abi.S_IFREG) return true;
  return stat.getUint32(stat_.st_size, true) > LONGEST_HERE || stat.getUint32(stat_.st_size + 4, true) > 0;
}

/** What a launch is told, be it a new container's or one's from a checkpoint. */
function launchOptions(
  { log }: TaskContext,
  { id, bundle, record }: Task,
  { stdio }: Streams,
  options: Pick<ShimOptions, "no_pivot_root" | "no_new_keyring" | "systemd_cgroup">,
): LaunchOptions {
  return {
    root: record.root,
    id,
    bundle,
    pidFile: `${bundle}/init.pid`,
    noPivot: options.no_pivot_root,
    noNewKeyring: options.no_new_keyring,
    preserveFds: 0,
    systemdCgroup: options.systemd_cgroup ?? false,
    driverByPath: options.systemd_cgroup === undefined,
    stdio,
    log,
  };
}

/** Restores a container from the checkpoint that its task was created with. */
export async function restoreInit(context: TaskContext, task: Task, options: RestoreFrom): Promise<void> {
  const { init, bundle } = task;
  const { startRestore } = await import("../../container/restore.ts");
  const streams = init.streams!;
  await inWords("OCI runtime restore failed: ", async () => {
    const { pid, pidfd } = await startRestore(
      {
        ...launchOptions(context, task, streams, options),
        detach: true,
        imagePath: options.criu_image_path || options.checkpoint,
        workPath: options.criu_work_path || `${bundle}/work`,
        tcpEstablished: true,
        extUnixSk: true,
        shellJob: false,
        fileLocks: true,
        autoDedup: false,
        lazyPages: false,
        manageCgroupsMode: "",
      },
      (master) => streams.takeMaster(master),
    );
    task.restore = undefined;
    init.hold();
    init.adopt(context.loop, pid, pidfd);
    await streams.handOver();
  });
}

/**
 * Starts a process of exec. Its end is kept back until `release`.
 * @throws RpcError; the process counts as ended then
 */
export async function startProcess(context: TaskContext, task: Task, process: ExecProcess): Promise<number> {
  const { id, record } = task;
  if (process.starting) {
    throw new RpcError(
      Code.failedPrecondition,
      `process ${process.execId} is being started: failed precondition`,
    );
  }
  process.starting = true;
  const { startExec } = await import("../../container/exec.ts");
  try {
    const streams = await openStreams(context, id, process.names, record);
    process.streams = streams;
    const { stdio, consoleFd } = streams;
    const started = await inWords("OCI runtime exec failed: exec failed: ", async () => {
      const options = {
        root: record.root,
        id,
        process: { json: process.spec },
        stdio,
        preserveFds: 0,
        cgroups: [],
        ignorePaused: false,
        log: context.log,
      };
      if (process.spec.length <= LONGEST_HERE && !isLong(task.bundle))
        return startExec(options, consoleFd === undefined ? {} : { fd: consoleFd });
      return (await import("./apart.ts")).execApart(context, options, consoleFd);
    });
    process.hold();
    process.adopt(context.loop, started.pid, started.pidfd);
    await streams.handOver();
    context.publisher.publish("TaskExecStarted", {
      container_id: id,
      exec_id: process.execId,
      pid: started.pid,
    });
    return started.pid;
  } catch (error) {
    process.streams?.close();
    process.streams = undefined;
    // As one that has ended: containerd deletes it.
    if (!process.pid) process.finish({ status: 255, at: now() });
    throw error;
  } finally {
    process.starting = false;
    // It is not started twice, and may be long.
    process.spec = "";
    process.release();
  }
}

/** Unmounts a rootfs; that this fails is no reason to keep the task. */
export function unmount(context: TaskContext, rootfs: string): void {
  try {
    unmountRootfs(rootfs);
  } catch (error) {
    context.log.warn(renderError(error));
  }
}

function openStreams(
  { loop, namespace }: TaskContext,
  id: string,
  names: StreamNames,
  { uid, gid }: Record,
): Promise<Streams> {
  return Streams.open(names, { loop, namespace, id, uid, gid });
}

async function discard(context: TaskContext, root: string, id: string): Promise<void> {
  const { deleteContainer } = await import("../../container/delete.ts");
  try {
    await deleteContainer(root, id, true, { warn: (message) => context.log.warn(message) });
  } catch (error) {
    context.log.warn(renderError(error));
  }
}
