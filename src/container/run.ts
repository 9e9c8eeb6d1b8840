/** `run`: create and start in one; in the foreground it stays until the program has ended. */
import { renderError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { receiveFd, socketPair } from "../linux/socket.ts";
import { Launcher } from "./launcher.ts";
import type { NotifySocket } from "./notify.ts";
import { Signals, supervise } from "./supervise.ts";
import type { RunOptions } from "./types.ts";

/**
 * Runs a container; gives the exit code for the caller: the program's, 128+n for a signal, 0 when detached.
 *
 * @throws BuncError; nothing is left of the container then.
 */
export async function runContainer(options: RunOptions): Promise<number> {
  if (!options.noSubreaper) sys(abi.SYS_prctl, abi.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  const signals = options.detach ? undefined : new Signals();
  const pair = !options.detach && !options.consoleSocket ? socketPair() : undefined;
  const launcher = await Launcher.prepare(options, {
    waitForStart: false,
    detach: options.detach,
    ...(pair ? { consoleFd: pair[1] } : {}),
  });
  const notify = await openNotify(launcher);
  await launcher.start();
  closeFd(pair?.[1]);
  try {
    launcher.writePidFile();
    await runPoststart(launcher);
    if (signals) return await foreground(launcher, options, signals, pair?.[0], notify);
    notify?.waitReady(launcher.init!.pidfd, launcher.init!.pid);
    return 0;
  } catch (error) {
    await launcher.undo();
    throw error;
  }
}

async function foreground(
  launcher: Launcher,
  options: RunOptions,
  signals: Signals,
  console: number | undefined,
  notify: NotifySocket | undefined,
): Promise<number> {
  const relay = launcher.spec.process?.terminal ? await openRelay(console!) : undefined;
  let exit: { code: number; signal: number };
  try {
    const watched = notify?.watch(process.pid, (error) => options.log.error(renderError(error)));
    exit = supervise(launcher.init!.pidfd, signals, relay, watched);
  } finally {
    relay?.close();
  }
  if (!options.keep) await launcher.remove();
  return exit.signal ? 128 + exit.signal : exit.code;
}

/** The container's notify socket, when the caller has one: bound before the program could look for it. */
async function openNotify(launcher: Launcher): Promise<NotifySocket | undefined> {
  const host = launcher.extras.notifySocket;
  if (!host) return undefined;
  try {
    return (await import("./notify.ts")).NotifySocket.open(launcher.dir.path, host);
  } catch (error) {
    await launcher.undo();
    throw error;
  }
}

async function openRelay(console: number): Promise<import("./terminal-relay.ts").TerminalRelay> {
  const { TerminalRelay } = await import("./terminal-relay.ts");
  const received = receiveFd(console);
  closeFd(console);
  if (!received || received.fd < 0) throw new Error("the container sent no terminal");
  return new TerminalRelay(received.fd);
}

async function runPoststart(launcher: Launcher): Promise<void> {
  const hooks = launcher.spec.hooks?.poststart;
  if (!hooks?.length) return;
  const { runHooks } = await import("./hooks.ts");
  runHooks("poststart", hooks, launcher.hookState("running"));
}
