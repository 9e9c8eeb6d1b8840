/** `create`: a container whose init waits at the exec fifo for `start`. */
import { Launcher } from "./launcher.ts";
import type { Created, LaunchOptions } from "./types.ts";

/**
 * Makes a container up to the point where its program would be executed.
 *
 * @param consoleFd a socket that gets the terminal's master, for a caller that relays it; stays the caller's
 * @throws BuncError; nothing is left of the container then.
 */
export async function createContainer(options: LaunchOptions, consoleFd?: number): Promise<Created> {
  const launcher = await Launcher.prepare(options, {
    waitForStart: true,
    detach: true,
    ...(consoleFd === undefined ? {} : { consoleFd }),
  });
  await launcher.start();
  try {
    launcher.writePidFile();
  } catch (error) {
    await launcher.undo();
    throw error;
  }
  launcher.dir.close();
  const { pid, pidfd } = launcher.init!;
  return { id: options.id, pid, pidfd };
}
