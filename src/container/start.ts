/**
 * `start`: lets a created container's init go on to execute its program.
 *
 * The protocol is runc's: init waits in opening the exec fifo for writing; when somebody opens it for reading, init
 * writes "0" and goes on. bunc's init keeps the fifo open until execve closes it, and tells a failure after the "0" (struct
 * bunc_event); runc's closes it at once and tells nothing.
 */

import * as live from "../cgroup/live.ts";
import { BuncError } from "../errors.ts";
import { opFailure } from "../launch/failure.ts";
import type { Op, Phase } from "../launch/program.ts";
import { abi, bunc_event_, sizeof_ } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { tracer } from "../linux/trace.ts";
import { waitReady } from "../linux/wait.ts";
import type { CgroupOps } from "./cgroups.ts";
import { signalContainer } from "./kill.ts";
import type { NotifySocket } from "./notify.ts";
import type { StartOp, Summary } from "./state.ts";
import { openProcess, statusOf } from "./status.ts";
import { exists, openStateDir, type StateDir } from "./store.ts";

/** How long a container that is being stopped may take to end. */
const STOP_MILLISECONDS = 10_000;

/**
 * Starts a created container: returns when its program has been executed, the poststart hooks have run, and, with
 * $NOTIFY_SOCKET, the container has said that it is ready.
 * @throws BuncError in runc's words when it is not in the state "created"; the reason when the program cannot be
 * executed or a hook fails, and then the container is stopped
 */
export async function startContainer(root: string, id: string, cgroups: CgroupOps = live): Promise<void> {
  tracer?.step("read the state of the container");
  const dir = openStateDir(root, id);
  let notify: NotifySocket | undefined;
  try {
    let summary: Summary;
    try {
      await dir.lock();
      summary = dir.summary();
      checkCreated(summary, dir, cgroups);
      notify = await listen(dir.path);
      await releaseInit(summary, dir.fifo);
    } finally {
      // The hooks may call commands that want the lock.
      dir.close();
    }
    await runPoststart(summary, cgroups);
    if (notify) waitNotified(notify, summary);
  } finally {
    notify?.close();
  }
}

/** The socket that the container says it is ready on, if it has got one at create and somebody wants to know. */
async function listen(path: string): Promise<NotifySocket | undefined> {
  const host = process.env.NOTIFY_SOCKET;
  if (!host || !exists(`${path}/notify`)) return undefined;
  return (await import("./notify.ts")).NotifySocket.open(path, host);
}

/** Waits until the container is ready, or has ended. */
function waitNotified(notify: NotifySocket, summary: Summary): void {
  const init = openProcess(summary);
  if (init < 0) {
    notify.handle(summary.pid);
    return;
  }
  try {
    notify.waitReady(init, summary.pid);
  } finally {
    closeFd(init);
  }
}

function checkCreated(summary: Summary, dir: StateDir, cgroups: CgroupOps): void {
  const status = statusOf(summary, dir.path, cgroups);
  if (status === "created") return;
  const words =
    status === "stopped"
      ? "cannot start a container that has stopped"
      : status === "running"
        ? "cannot start an already running container"
        : `cannot start a container in the ${status} state`;
  throw new BuncError(words, { code: "state" });
}

/**
 * Opens the exec fifo and follows init until it has executed the program.
 * @param fifo path of the exec fifo; removed as soon as init goes on
 * @throws BuncError with the operation that failed; init has ended then
 */
export async function releaseInit(summary: Summary, fifo: string): Promise<void> {
  // Before the fifo is opened: once it is, a short program may be over before its process could be.
  const init = openProcess(summary);
  if (init < 0) throw init === -abi.ESRCH ? dead() : pathError("pidfd_open", String(summary.pid), init);
  try {
    const ops = summary.own?.startOps ?? [];
    const trace = tracer?.resumed(summary.pid, fifo.slice(0, fifo.lastIndexOf("/")), ops);
    tracer?.step("let bunc-init go on, until the program runs");
    await follow(init, fifo, ops);
    trace?.ended();
  } finally {
    closeFd(init);
  }
}

async function follow(init: number, fifo: string, ops: readonly StartOp[]): Promise<void> {
  // O_NONBLOCK: init may have died, and then nobody would ever open the other end.
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, fifo, abi.O_RDONLY | abi.O_NONBLOCK | abi.O_CLOEXEC, 0);
  if (fd < 0) throw pathError("open", fifo, fd);
  try {
    await waitReady([fd, init]);
    const said = readAvailable(fd);
    if (said.length === 0) throw dead();
    sys(abi.SYS_unlinkat, abi.AT_FDCWD, fifo, 0);
    const event = await readRest(fd, said);
    if (event.length === 0) return;
    // Init ends by itself now; who asks next shall see it stopped.
    await waitReady([init], STOP_MILLISECONDS);
    throw await startFailure(event, ops);
  } finally {
    closeFd(fd);
  }
}

function dead(): BuncError {
  return new BuncError("container process is already dead", {
    code: "state",
    phase: "start",
    hint: "it was killed while it waited for start, perhaps for lack of memory; dmesg may tell",
  });
}

const BUFFER_SIZE = 4096;
const ZERO = 0x30;

/** What can be read now; nothing at the end, or when nobody has opened the other end. */
function readAvailable(fd: number): Uint8Array {
  const buffer = new Uint8Array(BUFFER_SIZE);
  for (;;) {
    const n = sys(abi.SYS_read, fd, buffer, BUFFER_SIZE);
    if (n === -abi.EINTR) continue;
    return buffer.slice(0, n < 0 ? 0 : n);
  }
}

/** What comes besides the "0", until init closes the fifo: nothing, or why it could not go on (or not write the "0"). */
async function readRest(fd: number, first: Uint8Array): Promise<Uint8Array> {
  const parts = [first[0] === ZERO ? first.subarray(1) : first];
  let size = parts[0]!.length;
  const buffer = new Uint8Array(BUFFER_SIZE);
  // More than an event is nothing bunc has written.
  while (size <= sizeof_.bunc_event + abi.BUNC_TEXT_MAX) {
    const n = sys(abi.SYS_read, fd, buffer, BUFFER_SIZE);
    if (n === 0) break;
    if (n === -abi.EAGAIN) await waitReady([fd]);
    else if (n < 0 && n !== -abi.EINTR) throw pathError("read", "exec fifo", n);
    else if (n > 0) {
      parts.push(buffer.slice(0, n));
      size += n;
    }
  }
  return concat(parts, size);
}

function concat(parts: readonly Uint8Array[], size: number): Uint8Array {
  const all = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/**
 * The error that init has told through the fifo (struct bunc_event of c/bunc.h).
 * @param ops the operations after the wait for `start`, as `create` kept them
 */
export async function startFailure(event: Uint8Array, ops: readonly StartOp[]): Promise<BuncError> {
  const at = bunc_event_;
  const view = new DataView(event.buffer, event.byteOffset, event.length);
  if (
    event.length < sizeof_.bunc_event ||
    view.getUint32(at.kind, true) !== abi.BUNC_EVENT_ERROR ||
    view.getUint32(at.text_size, true) !== event.length - sizeof_.bunc_event
  ) {
    return new BuncError(`container init failed to start: it told ${event.length} bytes that are no reason`, {
      code: "internal",
      phase: "start",
    });
  }
  const index = view.getUint32(at.index, true);
  const errno = Number(view.getBigInt64(at.value, true));
  const text = event.slice(sizeof_.bunc_event);
  const op = ops.find((candidate) => candidate.index === index);
  if (op?.hook) {
    const { hookFailure } = await import("../launch/hook-failure.ts");
    return hookFailure(op.path, op.hook, errno, text, op.hint);
  }
  return opFailure(
    asOp(op ?? { ...UNKNOWN, about: `container init failed at operation ${index}` }),
    errno,
    text,
  );
}

/** For a container whose state has lost bunc's own part: runc drops it when it changes a state. */
const UNKNOWN = { call: abi.SYS_execve, phase: "start", path: "" };

/** The operation as a launch program has it. */
function asOp(op: Omit<StartOp, "index">): Op {
  return {
    call: op.call,
    args: [],
    options: { ...(op.about ? { about: op.about } : {}), ...(op.hint ? { hint: op.hint } : {}) },
    phase: op.phase as Phase,
    path: op.path,
  };
}

/**
 * Runs the poststart hooks; the program has been executed. As the runtime-spec demands (runtime.md, lifecycle step 9) a
 * failing one stops the container.
 * @throws BuncError with the hook's error
 */
export async function runPoststart(summary: Summary, cgroups: CgroupOps = live): Promise<void> {
  if (summary.poststart.length === 0) return;
  tracer?.step("run the hooks", "hooks.poststart");
  const { hookStateJson } = await import("./hook-state.ts");
  const { fromLibcontainer, hookFiles, runHooks } = await import("./hooks.ts");
  const { id, pid, bundle, annotations } = summary;
  try {
    const state = hookStateJson({ id, status: "running", pid, bundle, annotations });
    await runHooks("poststart", summary.poststart.map(fromLibcontainer), state, {
      files: hookFiles(summary, bundle),
    });
  } catch (error) {
    await stop(summary, cgroups);
    throw error;
  }
}

/** Kills a container and waits until its init has ended. What goes wrong is not worth hiding the first error. */
async function stop(summary: Summary, cgroups: CgroupOps): Promise<void> {
  const init = openProcess(summary);
  if (init < 0) return;
  try {
    await signalContainer(summary, abi.SIGKILL, cgroups);
    await waitReady([init], STOP_MILLISECONDS);
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
  } finally {
    closeFd(init);
  }
}
