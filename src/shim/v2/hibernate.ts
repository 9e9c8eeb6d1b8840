/**
 * A shim with nothing to do gives its memory back: the process becomes bunc-init, which waits with ppoll(2) for anything
 * at any of the shim's descriptors and then executes the shim again. The pid, the children, the connections and the
 * descriptors stay; what else there is to know is kept in a memfd. So an idle shim has a few pages instead of a heap.
 */
import { BuncError } from "../../errors.ts";
import { encodePart } from "../../launch/encode.ts";
import { Part, Struct } from "../../launch/program.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError, readBytes, writeAll } from "../../linux/file.ts";
import { bytesOf, sys, text } from "../../linux/lib.ts";
import { closeFd } from "../../linux/process.ts";
import { runPart } from "../../linux/run-part.ts";
import type { ConnectionState } from "../ttrpc/server.ts";
import type { TaskState } from "./task.ts";

/** Everything that a shim in between is. */
export interface ShimState {
  version: 1;
  listener: number;
  log: number;
  signals: number;
  /** An O_PATH descriptor of the executable: what continues is the same program, whatever lies at its path by then. */
  executable: number;
  connections: ConnectionState[];
  tasks: TaskState[];
}

const POLLFD = 8;
const MAX_STATE = 64 << 20;
/** Characters of processes that are still to be started: with more there is little to be given back. */
const MAX_SPECS = 4 << 20;
/** Pauses in seconds after an execve that failed, for want of memory: what sleeps must wake up some time. */
const RETRIES = [0.1, 1, 5, 30, 60, 300];

/**
 * Becomes the waiting program; does not return, unless that is not possible.
 * @param watched the descriptors that end the waiting
 * @param args the command line of the shim
 * @throws BuncError; then all is as before
 */
export function hibernate(
  state: ShimState,
  watched: readonly { fd: number; events: number }[],
  name: string,
  args: readonly string[],
): void {
  const opened: number[] = [];
  const keep = (fd: number) => {
    if (fd < 0) throw pathError("memfd_create", "", fd);
    opened.push(fd);
    return fd;
  };
  const kept: number[] = [];
  try {
    let specs = 0;
    for (const { execs } of state.tasks) for (const { spec } of execs) specs += spec.length;
    if (specs > MAX_SPECS) throw tooLong();
    const bytes = bytesOf(JSON.stringify(state, asBase64));
    // What continues it must read the whole.
    if (bytes.length >= MAX_STATE) throw tooLong();
    const stored = keep(sys(abi.SYS_memfd_create, "bunc-shim", abi.MFD_CLOEXEC));
    write(stored, bytes);
    const program = keep(sys(abi.SYS_memfd_create, "bunc-wait", abi.MFD_CLOEXEC));
    const again = [name, "-resume", String(stored), ...args];
    write(program, encodePart(waitingPart(watched, program, state.executable, again).ops, { first: 0 }));
    const image = keep(sys(abi.BUNC_CALL_INIT_IMAGE));
    for (const fd of [...descriptorsOf(state), stored, program]) {
      if (sys(abi.SYS_fcntl, fd, abi.F_SETFD, 0) === 0) kept.push(fd);
    }
    // Nothing may end it while it waits but what ends everything; SIGTERM is seen at the signalfd.
    const old = setMask(new Uint8Array(8).fill(0xff));
    const part = new Part().at("start");
    const argv = stringArray([name, String(program), ...args]);
    part.op(abi.SYS_execveat, [image, "", argv, stringArray([]), abi.AT_EMPTY_PATH], {
      about: "cannot execute bunc-init",
    });
    try {
      runPart(part);
    } finally {
      setMask(old);
    }
  } catch (error) {
    for (const fd of kept) sys(abi.SYS_fcntl, fd, abi.F_SETFD, abi.FD_CLOEXEC);
    for (const fd of opened) closeFd(fd);
    throw error;
  }
}

function tooLong(): BuncError {
  return new BuncError("there is too much to remember, of processes that were not started yet", {
    code: "host",
  });
}

/** The launch program of the waiting: ppoll, then the shim again. */
function waitingPart(
  watched: readonly { fd: number; events: number }[],
  program: number,
  executable: number,
  again: readonly string[],
): Part {
  const fds = new Uint8Array(POLLFD * watched.length);
  const view = new DataView(fds.buffer);
  for (let i = 0; i < watched.length; i++) {
    view.setInt32(i * POLLFD, watched[i]!.fd, true);
    view.setInt16(i * POLLFD + 4, watched[i]!.events, true);
  }
  const part = new Part().at("start");
  part.op(abi.SYS_prctl, [abi.PR_SET_NAME, "containerd-shim"]);
  part.op(abi.SYS_close, [program]);
  part.op(abi.SYS_ppoll, [fds, watched.length, 0, 0, 8], { tolerate: [[abi.BUNC_ERR_ANY, 0]] });
  const argv = stringArray(again);
  const envp = stringArray(environment());
  for (const seconds of [...RETRIES, 0]) {
    const execute = [executable, "", argv, envp, abi.AT_EMPTY_PATH];
    part.op(abi.SYS_execveat, execute, seconds ? { tolerate: [[abi.BUNC_ERR_ANY, 0]] } : {});
    const time = new Struct(16, "timespec").u64(0, seconds | 0).u64(8, (seconds % 1) * 1e9);
    part.op(abi.SYS_nanosleep, [time, 0], { tolerate: [[abi.BUNC_ERR_ANY, 0]] });
  }
  return part;
}

/**
 * The state that was left, if this process continues one.
 * @param fd of the option -resume
 * @throws BuncError when there is nothing, or of another version
 */
export function readState(fd: number): ShimState {
  // It has done what it is for, and is not for hooks.
  delete process.env[SMALL];
  const bytes = readBytes(`/proc/self/fd/${fd}`, MAX_STATE);
  if (typeof bytes === "number") throw pathError("open", `/proc/self/fd/${fd}`, bytes);
  closeFd(fd);
  const state = JSON.parse(text(bytes), fromBase64) as ShimState;
  if (state.version !== 1)
    throw new BuncError(`descriptor ${fd} has no state of a shim`, { code: "internal" });
  for (const kept of descriptorsOf(state)) sys(abi.SYS_fcntl, kept, abi.F_SETFD, abi.FD_CLOEXEC);
  return state;
}

/** All descriptors that a state names. */
export function descriptorsOf(state: ShimState): number[] {
  const fds = [state.listener, state.log, state.signals, state.executable];
  for (const { fd } of state.connections) fds.push(fd);
  for (const { init, execs, oom } of state.tasks) {
    if (oom) fds.push(oom.fd);
    for (const { pidfd, streams } of [init, ...execs]) {
      fds.push(pidfd);
      if (!streams) continue;
      fds.push(...streams.holds, streams.inputHold, streams.logger);
      if (streams.relay) fds.push(streams.relay.master, streams.relay.from, streams.relay.to);
    }
  }
  return fds.filter((fd) => fd >= 0);
}

/** Sets the signal mask of this thread; gives the old one. */
export function setMask(mask: Uint8Array): Uint8Array {
  const old = new Uint8Array(8);
  sys(abi.SYS_rt_sigprocmask, abi.SIG_SETMASK, mask, old, 8);
  return old;
}

function write(fd: number, bytes: Uint8Array): void {
  const result = writeAll(fd, bytes);
  if (result < 0) throw pathError("write", "memfd", result);
  sys(abi.SYS_lseek, fd, 0, 0);
}

/** JavaScriptCore's mode for little memory: half of it, and no slower at what a shim does. A first start has no say in it. */
const SMALL = "BUN_JSC_forceMiniVMMode";

/** What this process was given, for the next one. */
function environment(): string[] {
  const list: string[] = [];
  for (const key in process.env) {
    if (process.env[key] !== undefined) list.push(`${key}=${process.env[key]}`);
  }
  list.push(`${SMALL}=1`);
  return list;
}

/** JSON has no bytes: the payloads of calls that wait. */
function asBase64(_key: string, value: unknown): unknown {
  return value instanceof Uint8Array ? { base64: value.toBase64() } : value;
}

function fromBase64(_key: string, value: unknown): unknown {
  const base64 = (value as { base64?: unknown } | null)?.base64;
  return typeof base64 === "string" ? Uint8Array.fromBase64(base64) : value;
}

function stringArray(items: readonly string[]): Struct {
  const array = new Struct((items.length + 1) * 8, "strings");
  for (let i = 0; i < items.length; i++) array.pointer(i * 8, items[i]!);
  return array;
}
