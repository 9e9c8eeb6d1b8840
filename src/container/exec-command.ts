/** `exec` as the command has it: the process is started and, unless it is to be left alone, waited for. */
import { BuncError } from "../errors.ts";
import { pathError, writeAtomic } from "../linux/file.ts";
import { closeFd, killChild } from "../linux/process.ts";
import { receiveFd, socketPair } from "../linux/socket.ts";
import { tracer } from "../linux/trace.ts";
import { type Console, type ExecOptions, needsSocket, type Started, startExec } from "./exec.ts";
import { Signals, supervise } from "./supervise.ts";
import type { TerminalRelay } from "./terminal-relay.ts";

/**
 * Executes a process in a container.
 * @returns the exit code for the caller: the program's, 128+n for a signal, 0 when detached
 */
export async function execContainer(options: ExecOptions & { detach: boolean }): Promise<number> {
  const { detach, consoleSocket } = options;
  const wantsTerminal = "changes" in options.process && options.process.changes.terminal;
  if (detach && wantsTerminal && !consoleSocket) throw needsSocket();
  const signals = detach ? undefined : new Signals();
  let relay: TerminalRelay | undefined;
  let pair: [number, number] | undefined;
  const console: Console = {};
  if (!detach && !consoleSocket) {
    console.open = () => {
      pair = socketPair();
      return pair[1];
    };
    console.ready = async () => {
      relay = await openRelay(pair![0]);
    };
  }
  try {
    const process = await startExec(options, console);
    writePidFile(options.pidFile, process);
    if (!signals) return 0;
    if (pair) closeFd(pair[1]);
    tracer?.step("wait for the program's end");
    const exit = supervise(process.pidfd, signals, relay, undefined);
    return exit.signal ? 128 + exit.signal : exit.code;
  } finally {
    relay?.close();
  }
}

function writePidFile(path: string | undefined, { pid, pidfd }: Started): void {
  if (!path) return;
  const result = writeAtomic(path, String(pid), 0o666);
  if (result === 0) return;
  killChild(pidfd);
  throw pathError("open", path, result);
}

/** The caller's terminal and the process's, connected; before the program could write to it. */
async function openRelay(socket: number): Promise<TerminalRelay> {
  const { TerminalRelay } = await import("./terminal-relay.ts");
  const received = receiveFd(socket);
  closeFd(socket);
  if (!received || received.fd < 0) throw new BuncError("the process sent no terminal", { code: "internal" });
  return new TerminalRelay(received.fd);
}
