/** The listening socket of a shim: one per group, and only one process serves it. */

import { BuncError } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import { closeFd } from "../../linux/process.ts";
import { connectUnix, UNIX_PATH_MAX, unixAddress } from "../../linux/socket.ts";

const BACKLOG = 128;

/**
 * Binds a socket and listens.
 * @returns the descriptor (CLOEXEC, non-blocking); undefined when somebody serves there already
 * @throws BuncError with the path
 */
export function listenAt(path: string): number | undefined {
  if (path.length >= UNIX_PATH_MAX) {
    throw new BuncError(`socket path ${path} has more than ${UNIX_PATH_MAX - 1} characters`, {
      code: "host",
      hint: "give containerd a shorter socket_dir",
    });
  }
  makeDirectory(path.slice(0, path.lastIndexOf("/")));
  const fd = sys(abi.SYS_socket, abi.AF_UNIX, abi.SOCK_STREAM | abi.SOCK_CLOEXEC | abi.SOCK_NONBLOCK, 0);
  if (fd < 0) throw pathError("socket", path, fd);
  try {
    // Nobody else may ever connect: the mode of the inode is that of the descriptor (less the umask).
    sys(abi.SYS_fchmod, fd, 0o600);
    let bound = bind(fd, path);
    if (bound === -abi.EADDRINUSE) {
      if (isServed(path)) {
        closeFd(fd);
        return undefined;
      }
      // Of a shim that was killed.
      sys(abi.SYS_unlinkat, abi.AT_FDCWD, path, 0);
      bound = bind(fd, path);
      // Another `start` of the group was quicker.
      if (bound === -abi.EADDRINUSE) {
        closeFd(fd);
        return undefined;
      }
    }
    if (bound < 0) throw pathError("bind", path, bound);
    const result = sys(abi.SYS_listen, fd, BACKLOG);
    if (result < 0) throw pathError("listen", path, result);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

function bind(fd: number, path: string): number {
  const address = unixAddress(path);
  return sys(abi.SYS_bind, fd, address, address.length);
}

/** Whether somebody listens at a path. */
export function isServed(path: string): boolean {
  try {
    closeFd(connectUnix(path, abi.SOCK_NONBLOCK));
    return true;
  } catch (error) {
    // EAGAIN: it is there, and busy.
    return error instanceof BuncError && error.fields.errno === "EAGAIN";
  }
}

/** As containerd does: 0700, with its parents. */
function makeDirectory(path: string): void {
  const result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path, 0o700);
  if (result === 0 || result === -abi.EEXIST) return;
  const slash = path.lastIndexOf("/");
  if (result !== -abi.ENOENT || slash <= 0) throw pathError("mkdir", path, result);
  makeDirectory(path.slice(0, slash));
  const again = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path, 0o700);
  if (again < 0 && again !== -abi.EEXIST) throw pathError("mkdir", path, again);
}
