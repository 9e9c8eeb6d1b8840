/**
 * Hooks of a process that serves others meanwhile (the shim): each is run by a bunc-init of its own, in the namespaces of
 * this process, while the event loop goes on. It is the same operation as in hooks.ts.
 */
import type { Part } from "../launch/program.ts";
import { Init } from "./init-channel.ts";

/**
 * Executes a part in a process of its own, and waits until that is over.
 * @param firstFd number of the first descriptor there, its socket; `fds` follow
 * @throws BuncError of the operation that failed
 */
export async function runPartApart(part: Part, firstFd = 3, fds: readonly number[] = []): Promise<void> {
  const init = Init.spawn({ flags: 0, firstFd, fds, preserve: firstFd - 3 });
  try {
    init.send(part);
    await init.told();
    init.next();
  } finally {
    init.kill();
  }
}
