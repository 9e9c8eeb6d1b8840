/**
 * What would keep the shim's event loop for longer than a few milliseconds, the launches of containers with a long
 * config.json: it is done by this executable in a process of its own (apart-worker.ts), and the loop goes on meanwhile. What that
 * process has started becomes a child of the shim, which is a subreaper, when it ends.
 */
import type { ExecOptions, Started } from "../../container/exec.ts";
import type { Stdio } from "../../container/init-channel.ts";
import type { Created, LaunchOptions } from "../../container/types.ts";
import { BuncError, type ErrorFields } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError, writeAll } from "../../linux/file.ts";
import { bytesOf, sys, text } from "../../linux/lib.ts";
import { closeFd, launches, openPidfd, ownChildren, waitChild } from "../../linux/process.ts";
import { waitReady } from "../../linux/wait.ts";
import { execute, FIRST_FD } from "./spawn.ts";
import type { TaskContext } from "./words.ts";

/** Where the process finds its descriptors; without streams it has only the first two. */
export const APART_FDS = {
  request: FIRST_FD,
  answers: FIRST_FD + 1,
  stdio: FIRST_FD + 2,
  console: FIRST_FD + 5,
};

type Sent<T> = Omit<T, "log" | "stdio">;

/** What is to be done. */
export type Job =
  | { kind: "create"; options: Sent<LaunchOptions> }
  | { kind: "exec"; options: Sent<ExecOptions> }
  | { kind: "update"; root: string; id: string; resources: string };

/** All that the process is told, as JSON. */
export interface Request {
  job: Job;
  /** The shim's parent: limits that Bun changes are taken from it. */
  caller: number;
  debugging: boolean;
  /** Whether there is a descriptor for a terminal. */
  console: boolean;
}

/** A line that the process says, as JSON: an entry of the log, or, once, what has become of the job. */
export type Answer =
  | { log: "debug" | "warn" | "error"; message: string }
  | { done: { pid?: number } }
  | { failed: { message: string; fields?: ErrorFields } };

/** createContainer of src/container. @throws BuncError as that */
export async function createApart(
  context: TaskContext,
  { log, stdio, ...options }: LaunchOptions,
  consoleFd: number | undefined,
): Promise<Created> {
  return { id: options.id, ...(await launch(context, { kind: "create", options }, stdio!, consoleFd)) };
}

/** startExec of src/container. @throws BuncError as that */
export function execApart(
  context: TaskContext,
  { log, stdio, ...options }: ExecOptions,
  consoleFd: number | undefined,
): Promise<Started> {
  return launch(context, { kind: "exec", options }, stdio!, consoleFd);
}

/**
 * updateContainer of src/container.
 * @param resources valid JSON of LinuxResources: as a value it may have integers that JSON cannot write
 * @throws BuncError as that
 */
export async function updateApart(
  context: TaskContext,
  root: string,
  id: string,
  resources: string,
): Promise<void> {
  await workApart(context, { kind: "update", root, id, resources }, []);
}

async function launch(
  context: TaskContext,
  job: Job,
  stdio: Stdio,
  consoleFd: number | undefined,
): Promise<Started> {
  // What it has started is no orphan to be reaped before it is known.
  launches.count++;
  try {
    const fds = consoleFd === undefined ? stdio : [...stdio, consoleFd];
    const { pid } = await workApart(context, job, fds);
    const pidfd = pid ? openPidfd(pid) : -abi.ESRCH;
    if (!pid || pidfd < 0) throw pathError("pidfd_open", String(pid), pidfd);
    ownChildren.add(pid);
    return { pid, pidfd };
  } finally {
    launches.count--;
  }
}

/** @param fds the streams, and the socket for a terminal */
async function workApart(
  { log, name, executable }: TaskContext,
  job: Job,
  fds: readonly number[],
): Promise<{ pid?: number }> {
  const opened: number[] = [];
  const close = () => {
    for (const fd of opened.splice(0)) closeFd(fd);
  };
  try {
    const caller = sys(abi.SYS_getppid);
    const console = fds.length > 3;
    const request: Request = { job, caller, debugging: log.debugging, console };
    const file = memfd(bytesOf(JSON.stringify(request)));
    opened.push(file);
    const [from, to] = answerPipe();
    opened.push(from, to);
    const passed = [file, to, ...fds];
    const args = [name, "-apart", String(APART_FDS.request)];
    // The executable comes last, and is gone once it has been executed.
    const own = FIRST_FD + passed.length;
    const init = await execute(args, process.env, [...passed, executable], (part, argv, envp) => {
      // As all that the shim has not finished, it ends with the shim.
      part.op(abi.SYS_prctl, [abi.PR_SET_PDEATHSIG, abi.SIGKILL]);
      part.op(abi.SYS_fcntl, [own, abi.F_SETFD, abi.FD_CLOEXEC]);
      part.op(abi.SYS_execveat, [own, "", argv, envp, abi.AT_EMPTY_PATH], {
        about: "cannot execute the shim once more",
      });
    });
    closeFd(file);
    closeFd(to);
    opened.splice(0, 3, from);
    const said = await readAll(from);
    // Not before it has ended is what it has started a child of this process.
    await waitReady([init.pidfd]);
    const exit = waitChild(init.pidfd);
    closeFd(init.pidfd);
    return outcome(said, log, exit?.signal ?? 0);
  } finally {
    close();
  }
}

function outcome(said: string, log: TaskContext["log"], signal: number): { pid?: number } {
  for (const line of said.split("\n")) {
    if (line === "") continue;
    const answer = JSON.parse(line) as Answer;
    if ("log" in answer) log[answer.log](answer.message);
    else if ("failed" in answer) throw new BuncError(answer.failed.message, answer.failed.fields);
    else return answer.done;
  }
  const how = signal ? `was killed by signal ${signal}` : "ended";
  throw new BuncError(`the process that works on a long config.json ${how}`, {
    code: "host",
    ...(signal === abi.SIGKILL ? { hint: "perhaps for lack of memory; dmesg may tell" } : {}),
  });
}

function memfd(bytes: Uint8Array): number {
  const fd = sys(abi.SYS_memfd_create, "bunc-apart", abi.MFD_CLOEXEC);
  if (fd < 0) throw pathError("memfd_create", "", fd);
  const result = writeAll(fd, bytes);
  if (result === 0) return fd;
  closeFd(fd);
  throw pathError("write", "memfd", result);
}

/** Only the end that is read here does not block. */
function answerPipe(): [number, number] {
  const ends = new Int32Array(2);
  const result = sys(abi.SYS_pipe2, new Uint8Array(ends.buffer), abi.O_CLOEXEC);
  if (result < 0) throw pathError("pipe2", "", result);
  sys(abi.SYS_fcntl, ends[0]!, abi.F_SETFL, abi.O_NONBLOCK);
  return [ends[0]!, ends[1]!];
}

async function readAll(fd: number): Promise<string> {
  const buffer = new Uint8Array(16384);
  let bytes = new Uint8Array(0);
  for (;;) {
    const n = sys(abi.SYS_read, fd, buffer, buffer.length);
    if (n === -abi.EAGAIN) await waitReady([fd]);
    else if (n === 0) return text(bytes);
    else if (n < 0 && n !== -abi.EINTR) throw pathError("read", "the answer of a process apart", n);
    else if (n > 0) {
      const joined = new Uint8Array(bytes.length + n);
      joined.set(bytes);
      joined.set(buffer.subarray(0, n), bytes.length);
      bytes = joined;
    }
  }
}
