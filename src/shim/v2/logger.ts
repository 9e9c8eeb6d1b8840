/** binary:// and binary-v2://: a program that reads a process's output from pipes (containerd's docs/content of logging). */

import { Init } from "../../container/init-channel.ts";
import { BuncError } from "../../errors.ts";
import { Part, Struct } from "../../launch/program.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import { closeFd, waitChild } from "../../linux/process.ts";
import { waitReady } from "../../linux/wait.ts";
import type { Loop } from "../loop.ts";

/** How long it may take until it is ready. */
const READY_MILLISECONDS = 30_000;
/** How long it may take to write down the rest after the end of its process. */
const END_MILLISECONDS = 12_000;

const CLOSE_RANGE_CLOEXEC = 4;

/** Its descriptors: the two pipes, and the one it closes when it is ready. */
const FIRST = 3;
/** Where they arrive before they are put there. */
const SPARE = 6;

export class Logger {
  private constructor(
    private readonly loop: Loop,
    /** The ends for the process; whoever takes them closes them. */
    readonly stdout: number,
    readonly stderr: number,
    readonly pidfd: number,
  ) {}

  /** One that was started by an earlier process of this shim. */
  static resume(loop: Loop, pidfd: number): Logger {
    return new Logger(loop, -1, -1, pidfd);
  }

  /**
   * Starts the program of a URI and waits until it is ready.
   * @throws BuncError when it cannot be executed, ends, or does not become ready
   */
  static async start(loop: Loop, uri: string, namespace: string, id: string): Promise<Logger> {
    const { path, args, confirms } = parseUri(uri);
    const open: number[] = [];
    const makePipe = () => {
      const ends = pipe();
      open.push(...ends);
      return ends;
    };
    let init: Init | undefined;
    try {
      const out = makePipe();
      const err = makePipe();
      const ready = makePipe();
      init = Init.spawn({ flags: 0, firstFd: SPARE, fds: [out[0], err[0], ready[1]], preserve: 0 });
      const part = new Part().at("start", "stdout");
      part.op(abi.BUNC_OP_RESET_SIGNALS, []);
      part.op(abi.SYS_close_range, [FIRST, -1, CLOSE_RANGE_CLOEXEC]);
      for (let i = 0; i < 3; i++) part.op(abi.SYS_dup3, [SPARE + 1 + i, FIRST + i, 0]);
      const env = [`CONTAINER_ID=${id}`, `CONTAINER_NAMESPACE=${namespace}`];
      part.op(abi.SYS_execve, [path, strings([path, ...args]), strings(env)], {
        about: `cannot execute the logging binary ${path}`,
      });
      init.send(part);
      await init.told();
      init.next();
      init.close();
      for (const fd of [out[0], err[0], ready[1]]) {
        closeFd(fd);
        open.splice(open.indexOf(fd), 1);
      }
      await becomeReady(ready[0], path, confirms);
      closeFd(ready[0]);
      return new Logger(loop, out[1], err[1], init.pidfd);
    } catch (error) {
      for (const fd of open) closeFd(fd);
      init?.kill();
      throw error;
    }
  }

  /** Asks it to end, and ends it when it does not. */
  stop(): void {
    const { pidfd } = this;
    sys(abi.SYS_pidfd_send_signal, pidfd, abi.SIGTERM, 0, 0);
    const watch = this.loop.watch(pidfd, abi.POLLIN, () => {
      watch.cancel();
      timer.cancel();
      waitChild(pidfd);
      closeFd(pidfd);
    });
    const timer = this.loop.after(END_MILLISECONDS, () =>
      sys(abi.SYS_pidfd_send_signal, pidfd, abi.SIGKILL, 0, 0),
    );
  }
}

async function becomeReady(fd: number, path: string, confirms: boolean): Promise<void> {
  const byte = new Uint8Array(1);
  let said = 0;
  for (;;) {
    if (!(await waitReady([fd], READY_MILLISECONDS))[0]) {
      throw new BuncError(
        `the logging binary ${path} did not become ready in ${READY_MILLISECONDS / 1000} s`,
        {
          code: "host",
          hint: "it must close descriptor 5",
        },
      );
    }
    const n = sys(abi.SYS_read, fd, byte, 1);
    if (n <= 0) break;
    said++;
  }
  if (confirms && said === 0) {
    throw new BuncError(`the logging binary ${path} ended, or closed descriptor 5, before it was ready`, {
      code: "host",
    });
  }
}

/**
 * The program and its arguments: the names and values of the query, in their order.
 * @throws BuncError for a URI without an absolute path
 */
export function parseUri(uri: string): { path: string; args: string[]; confirms: boolean } {
  const separator = uri.indexOf("://");
  const rest = uri.slice(separator + 3);
  const question = rest.indexOf("?");
  const path = decode(question < 0 ? rest : rest.slice(0, question));
  if (!path.startsWith("/")) {
    throw new BuncError(`absolute path required for logging binary: ${JSON.stringify(uri)}`, {
      code: "config",
    });
  }
  const args: string[] = [];
  for (const pair of question < 0 ? [] : rest.slice(question + 1).split("&")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    const name = decode(equals < 0 ? pair : pair.slice(0, equals));
    const value = equals < 0 ? "" : decode(pair.slice(equals + 1));
    args.push(name);
    if (value !== "") args.push(value);
  }
  return { path, args, confirms: uri.slice(0, separator) === "binary-v2" };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text;
  }
}

function pipe(): [number, number] {
  const ends = new Int32Array(2);
  const result = sys(abi.SYS_pipe2, new Uint8Array(ends.buffer), abi.O_CLOEXEC);
  if (result < 0) throw pathError("pipe2", "", result);
  return [ends[0]!, ends[1]!];
}

function strings(items: readonly string[]): Struct {
  const pointers = new Struct((items.length + 1) * 8, "strings");
  for (let i = 0; i < items.length; i++) pointers.pointer(i * 8, items[i]!);
  return pointers;
}
