/**
 * SCMP_ACT_NOTIFY: the descriptor of the filter's listener goes to the agent at linux.seccomp.listenerPath, in one
 * message with the ContainerProcessState (config-linux.md "The Container Process State"), one connection each.
 */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { bytesOf, sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { connectUnix, sendFd } from "../linux/socket.ts";
import type { LinuxSeccomp } from "../oci/config.ts";

/** Name of the listener in the list of descriptors, as the specification fixes it. */
const FD_NAME = "seccompFd";

/**
 * Fetches the listener from init by its number there and sends it to the agent.
 *
 * @param state the runtime-spec State of the container as JSON
 * @throws BuncError when there is no agent or the descriptor cannot be fetched
 */
export function sendSeccompListener(
  seccomp: LinuxSeccomp,
  init: { pid: number; pidfd: number },
  number: number,
  state: string,
): void {
  const listener = sys(abi.SYS_pidfd_getfd, init.pidfd, number, 0);
  if (listener < 0) {
    throw new BuncError(`cannot fetch the seccomp listener: pidfd_getfd: ${errnoText(-listener)}`, {
      code: "host",
      path: "linux.seccomp",
      errno: errnoName(-listener),
    });
  }
  let socket = -1;
  try {
    const parsed: unknown = JSON.parse(state);
    const message = bytesOf(
      JSON.stringify({
        ociVersion: (parsed as { ociVersion: string }).ociVersion,
        fds: [FD_NAME],
        pid: init.pid,
        metadata: seccomp.listenerMetadata ?? "",
        state: parsed,
      }),
    );
    socket = connectUnix(seccomp.listenerPath!);
    const sent = sendFd(socket, listener, message);
    if (sent < 0) {
      throw new BuncError(`cannot send the seccomp listener: sendmsg: ${errnoText(-sent)}`, {
        code: "host",
        errno: errnoName(-sent),
      });
    }
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    const connected = socket >= 0 ? "" : "failed to connect with seccomp agent: ";
    throw new BuncError(`unable to send seccomp listener: ${connected}${error.message}`, {
      ...error.fields,
      path: "linux.seccomp.listenerPath",
      hint: "the seccomp agent must listen there",
    });
  } finally {
    closeFd(socket);
    closeFd(listener);
  }
}
