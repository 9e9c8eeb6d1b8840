/**
 * `restore`: criu makes a container's processes again from images, in cgroups and below a root that are made as for a
 * launch. criu itself runs in the container's cgroups; the container's init becomes a child of this process.
 */
import { renderError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError, writeAtomic } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd, killChild } from "../linux/process.ts";
import { deleteContainer } from "./delete.ts";
import { Restore, type RestoreOptions } from "./restorer.ts";
import { Signals, supervise } from "./supervise.ts";
import type { TerminalRelay } from "./terminal-relay.ts";

export type { RestoreOptions } from "./restorer.ts";

/** A restored container; its init is a child of this process. */
export interface Restored {
  pid: number;
  /** The caller's to close. */
  pidfd: number;
}

/**
 * Restores a container, and returns when its processes go on.
 * @param terminal takes the master of the container's terminal (its to close) where options.consoleSocket is absent
 * @throws BuncError, for one of criu's with its log quoted; nothing is left of the container then
 */
export async function startRestore(
  options: RestoreOptions,
  terminal?: (master: number) => void | Promise<void>,
): Promise<Restored> {
  const restored = await new Restore(options, terminal).start();
  const { pidFile } = options;
  if (pidFile) {
    const result = writeAtomic(pidFile, String(restored.pid), 0o666);
    if (result < 0) {
      killChild(restored.pidfd);
      closeFd(restored.pidfd);
      await remove(options);
      throw pathError("open", pidFile, result);
    }
  }
  return restored;
}

/**
 * `restore` as the command has it.
 * @returns the exit code for the caller: the program's, 128+n for a signal, 0 when detached
 */
export async function restoreContainer(options: RestoreOptions & { noSubreaper: boolean }): Promise<number> {
  if (!options.noSubreaper) sys(abi.SYS_prctl, abi.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  if (options.detach) {
    closeFd((await startRestore(options)).pidfd);
    return 0;
  }
  const signals = new Signals();
  let relay: TerminalRelay | undefined;
  try {
    const { pidfd } = await startRestore(options, async (master) => {
      const { TerminalRelay } = await import("./terminal-relay.ts");
      relay = new TerminalRelay(master);
    });
    const exit = supervise(pidfd, signals, relay, undefined);
    relay?.close();
    relay = undefined;
    closeFd(pidfd);
    await remove(options);
    return exit.signal ? 128 + exit.signal : exit.code;
  } finally {
    relay?.close();
  }
}

/** After its end; failures are only warned about. */
async function remove({ root, id, log }: RestoreOptions): Promise<void> {
  try {
    await deleteContainer(root, id, true, { warn: (message) => log.warn(message) });
  } catch (error) {
    log.warn(renderError(error));
  }
}
