/** `run`: create and start in one; in the foreground it stays until the program has ended. */
import { BuncError, renderError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { receiveFd, socketPair } from "../linux/socket.ts";
import { tracer } from "../linux/trace.ts";
import { poll } from "../linux/wait.ts";
import { Launcher } from "./launcher.ts";
import type { NotifySocket } from "./notify.ts";
import { Signals, supervise } from "./supervise.ts";
import type { TerminalRelay } from "./terminal-relay.ts";
import type { RunOptions } from "./types.ts";

/** How long a program may run before what is kept on disk for other commands is complete. */
const SHORT_MILLISECONDS = 1;

/**
 * Runs a container; gives the exit code for the caller: the program's, 128+n for a signal, 0 when detached.
 *
 * @throws BuncError; nothing is left of the container then.
 */
export async function runContainer(options: RunOptions): Promise<number> {
  if (!options.noSubreaper) sys(abi.SYS_prctl, abi.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  const signals = options.detach ? undefined : new Signals();
  const pair = !options.detach && !options.consoleSocket ? socketPair() : undefined;
  let relay: TerminalRelay | undefined;
  const launcher = await Launcher.prepare(options, {
    waitForStart: false,
    detach: options.detach,
    beforeExec: async () => {
      if (pair && launcher.spec.process?.terminal) relay = await openRelay(pair[0]);
    },
    ...(pair ? { consoleFd: pair[1] } : {}),
  });
  const notify = await openNotify(launcher);
  try {
    await launcher.start();
  } catch (error) {
    relay?.close();
    throw error;
  }
  closeFd(pair?.[1]);
  launcher.dir.unlock();
  try {
    launcher.writePidFile();
    await runPoststart(launcher);
    if (signals) return await foreground(launcher, options, signals, relay, notify);
    launcher.saveState();
    if (notify) waitNotified(notify, launcher);
    return 0;
  } catch (error) {
    relay?.close();
    await launcher.undo();
    throw error;
  }
}

async function foreground(
  launcher: Launcher,
  options: RunOptions,
  signals: Signals,
  relay: TerminalRelay | undefined,
  notify: NotifySocket | undefined,
): Promise<number> {
  let exit: { code: number; signal: number };
  const removeAll = launcher.prepareRemoval();
  // The short record will do for a program that is over by now.
  if (options.keep || !poll([launcher.init!.pidfd], SHORT_MILLISECONDS)[0]) launcher.saveState();
  try {
    const watched = notify?.watch(process.pid, (error) => options.log.error(renderError(error)));
    tracer?.step("wait for the program's end");
    exit = supervise(launcher.init!.pidfd, signals, relay, watched);
    // What the container said just before its end.
    watched?.handle();
  } finally {
    relay?.close();
  }
  tracer?.step("remove the container");
  if (!options.keep && !removeAll()) await launcher.remove();
  notify?.close();
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

/** --detach returns when the container is ready, or has ended; that the host cannot be told does not stop it. */
function waitNotified(notify: NotifySocket, { init, options }: Launcher): void {
  try {
    notify.waitReady(init!.pidfd, init!.pid);
  } catch (error) {
    options.log.warn(renderError(error));
  }
  notify.close();
}

/** The caller's terminal and the container's, connected; before the program could write to it. */
async function openRelay(console: number): Promise<TerminalRelay> {
  const { TerminalRelay } = await import("./terminal-relay.ts");
  const received = receiveFd(console);
  closeFd(console);
  if (!received || received.fd < 0)
    throw new BuncError("the container sent no terminal", { code: "internal" });
  return new TerminalRelay(received.fd);
}

async function runPoststart(launcher: Launcher): Promise<void> {
  const hooks = launcher.spec.hooks?.poststart;
  if (!hooks?.length) return;
  tracer?.step("run the hooks", "hooks.poststart");
  const { runHooks } = await import("./hooks.ts");
  await runHooks("poststart", hooks, launcher.hookState("running"), { files: launcher.extras.hookFiles });
}
