/** `create`: a container whose init waits at the exec fifo for `start`. */
import { Launcher } from "./launcher.ts";
import type { Created, LaunchOptions } from "./types.ts";

/**
 * Makes a container up to the point where its program would be executed.
 *
 * @throws BuncError; nothing is left of the container then.
 */
export async function createContainer(options: LaunchOptions): Promise<Created> {
  const launcher = await Launcher.prepare(options, { waitForStart: true, detach: true });
  await launcher.start();
  try {
    launcher.writePidFile();
  } catch (error) {
    await launcher.undo();
    throw error;
  }
  launcher.dir.close();
  return { id: options.id, pid: launcher.init!.pid };
}
