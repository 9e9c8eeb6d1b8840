/** The serving process of a shim: an event loop on one thread, the Task service, and its containers' events. */
import { renderError } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { sys } from "../../linux/lib.ts";
import { waitBy } from "../../linux/wait.ts";
import { Loop } from "../loop.ts";
import { Server } from "../ttrpc/server.ts";
import type { Arguments } from "./arguments.ts";
import { Publisher } from "./events.ts";
import { socketPath } from "./group.ts";
import { listenAt } from "./listen.ts";
import { ShimLog } from "./log.ts";
import { answerCall } from "./service.ts";
import { watchSignals } from "./signals.ts";
import { LISTEN_FD } from "./spawn.ts";
import { checkNames, workingDirectory } from "./start.ts";
import { Tasks } from "./tasks.ts";

/** How long the last events, and the last answer, may take on their way at the end. */
const FLUSH_MILLISECONDS = 5000;

/**
 * Serves until the last task is gone and containerd says Shutdown, or on SIGTERM.
 * @throws BuncError when it cannot begin
 */
export async function serve(given: Arguments): Promise<void> {
  checkNames(given);
  const { namespace, id, address, publishBinary } = given;
  sys(abi.SYS_prctl, abi.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  const bundle = given.bundle || workingDirectory();
  const socket = given.socket || socketPath("", address, namespace, id);
  const log = new ShimLog(`${bundle}/log`, given.debug);
  const loop = new Loop((error) => log.error(renderError(error)));
  waitBy((fds, milliseconds) => loop.ready(fds, milliseconds));
  const ttrpcAddress = process.env.TTRPC_ADDRESS ?? "";
  const target = { ttrpcAddress, publishBinary, address, namespace };
  const publisher = new Publisher(loop, target, (message) => log.warn(message));
  const tasks = new Tasks(loop, namespace, publisher, log);
  const listener = inherited() ?? listenAt(socket);
  if (listener === undefined) throw new Error(`${socket} is served already`);
  let ending = false;
  const end = async () => {
    if (ending) return;
    ending = true;
    await publisher.flushed(FLUSH_MILLISECONDS);
    // The socket is not removed before: a new shim of the group would take its place.
    sys(abi.SYS_unlinkat, abi.AT_FDCWD, socket, 0);
    loop.after(0, () => loop.stop());
  };
  const context = { tasks, shutdown: () => void end() };
  const handler = (service: string, method: string, payload: Uint8Array) =>
    answerCall(context, service, method, payload);
  const server = new Server(loop, listener, handler, (message) => log.warn(message));
  watchSignals(loop, () => void end(), log);
  loop.run();
  server.close();
}

/** The listening socket that `start` has passed on. */
function inherited(): number | undefined {
  const value = new Uint8Array(4);
  const size = new Uint8Array([4, 0, 0, 0]);
  const result = sys(abi.SYS_getsockopt, LISTEN_FD, abi.SOL_SOCKET, abi.SO_ACCEPTCONN, value, size);
  if (result < 0 || value[0] !== 1) return undefined;
  sys(abi.SYS_fcntl, LISTEN_FD, abi.F_SETFD, abi.FD_CLOEXEC);
  return LISTEN_FD;
}
