/** A runtime that is another program, called as containerd 0.2 does. */

import { hookEnvironment } from "../../container/hooks.ts";
import { Init } from "../../container/init-channel.ts";
import { Part, Struct } from "../../launch/program.ts";
import { abi } from "../../linux/abi.gen.ts";
import { readText } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import { closeFd, openPidfd, ownChildren, waitChild } from "../../linux/process.ts";
import { receiveFd } from "../../linux/socket.ts";
import { waitReady } from "../../linux/wait.ts";
import { listenAt } from "../v2/listen.ts";
import type { Streams } from "../v2/streams.ts";
import { type ProcessFile, readCheckpoint } from "./process-file.ts";
import { type Runtime, type RuntimeContext, RuntimeError, type Started } from "./runtime.ts";

const CLOSE_RANGE_CLOEXEC = 4;
/** How long the runtime may take to send the terminal. */
const CONSOLE_MILLISECONDS = 15_000;

export class ExternalRuntime implements Runtime {
  constructor(
    private readonly context: RuntimeContext,
    private readonly args: readonly string[],
  ) {}

  async start(process: ProcessFile, streams: Streams): Promise<Started> {
    const { id, bundle, folder } = this.context;
    const pidFile = `${folder}/pid`;
    const socket = `${folder}/console.sock`;
    const console = process.terminal ? ["--console-socket", socket] : [];
    const noPivot = process.noPivotRoot && !process.exec ? ["--no-pivot"] : [];
    let command: string[];
    if (process.exec) {
      command = ["exec", "-d", "--process", `${folder}/process.json`, ...console, "--pid-file", pidFile, id];
    } else if (process.checkpoint) {
      const flags = restoreFlags(process.checkpoint);
      command = [
        "restore",
        "-d",
        "--bundle",
        bundle,
        ...flags,
        ...console,
        ...noPivot,
        "--pid-file",
        pidFile,
        id,
      ];
    } else {
      command = ["create", "--bundle", bundle, ...console, ...noPivot, "--pid-file", pidFile, id];
    }
    const log = ["--log", `${folder}/log.json`, "--log-format", "json"];
    const listener = process.terminal ? listenAt(socket) : undefined;
    try {
      const master = listener === undefined ? undefined : receiveMaster(listener);
      const status = await this.run([...log, ...this.args, ...command], streams);
      if (status !== 0) throw new RuntimeError(`${this.context.runtime} ${command[0]} ended with ${status}`);
      if (master) {
        const fd = await master;
        if (fd < 0) throw new RuntimeError(`${this.context.runtime} sent no terminal`);
        await streams.takeMaster(fd);
      }
    } finally {
      closeFd(listener);
      if (listener !== undefined) sys(abi.SYS_unlinkat, abi.AT_FDCWD, socket, 0);
    }
    const pid = Number(readText(pidFile, 32));
    const pidfd = pid > 0 ? openPidfd(pid) : -1;
    if (pidfd < 0) throw new RuntimeError(`${pidFile} names no process`);
    ownChildren.add(pid);
    return { pid, pidfd };
  }

  async killAll(): Promise<void> {
    await this.run([...this.args, "kill", "--all", this.context.id, "SIGKILL"], undefined);
  }

  async delete(): Promise<void> {
    await this.run([...this.args, "delete", this.context.id], undefined);
  }

  /** Runs the runtime to its end; gives its exit code, 128 + n for a signal. */
  private async run(args: readonly string[], streams: Streams | undefined): Promise<number> {
    const { runtime, bundle } = this.context;
    const init = Init.spawn({ flags: 0, firstFd: 3, fds: [], preserve: 0, stdio: streams?.stdio });
    const part = new Part().at("start");
    part.op(abi.BUNC_OP_RESET_SIGNALS, []);
    part.op(abi.SYS_prctl, [abi.PR_SET_PDEATHSIG, abi.SIGKILL]);
    part.op(abi.SYS_close_range, [3, -1, CLOSE_RANGE_CLOEXEC]);
    part.op(abi.SYS_chdir, [bundle], { about: `cannot enter ${bundle}` });
    part.op(abi.SYS_execve, [runtime, strings([runtime, ...args]), strings(hookEnvironment())], {
      about: `cannot execute the runtime ${runtime}`,
    });
    try {
      init.send(part);
      await init.told();
      init.next();
      init.close();
      await waitReady([init.pidfd]);
      const exit = waitChild(init.pidfd);
      closeFd(init.pidfd);
      return exit ? (exit.signal ? 128 + exit.signal : exit.code) : 255;
    } catch (error) {
      init.kill();
      throw error;
    }
  }
}

function restoreFlags(directory: string): string[] {
  const { tcp, unixSockets, shell, emptyNs } = readCheckpoint(directory);
  const work = `${directory}/criu.work/restore-${new Date().toISOString()}`;
  const flags = ["--image-path", directory, "--work-path", work];
  if (shell) flags.push("--shell-job");
  if (tcp) flags.push("--tcp-established");
  if (unixSockets) flags.push("--ext-unix-sk");
  for (const name of emptyNs) flags.push("--empty-ns", name);
  return flags;
}

/** The terminal that the runtime sends; -1 when none comes in time. */
async function receiveMaster(listener: number): Promise<number> {
  if (!(await waitReady([listener], CONSOLE_MILLISECONDS))[0]) return -1;
  const fd = sys(abi.SYS_accept4, listener, 0, 0, abi.SOCK_CLOEXEC);
  if (fd < 0) return -1;
  const ready = (await waitReady([fd], CONSOLE_MILLISECONDS))[0];
  const received = ready ? receiveFd(fd) : undefined;
  closeFd(fd);
  return received?.fd ?? -1;
}

function strings(items: readonly string[]): Struct {
  const pointers = new Struct((items.length + 1) * 8, "strings");
  for (let i = 0; i < items.length; i++) pointers.pointer(i * 8, items[i]!);
  return pointers;
}
