/** Unix sockets: connecting by path, pairs, and descriptors sent and received over them. */
import { abi } from "./abi.gen.ts";
import { pathError } from "./file.ts";
import { bytesOf, sys } from "./lib.ts";
import { closeFd } from "./process.ts";

/** Bytes of sun_path, its final NUL included (unix(7)). */
export const UNIX_PATH_MAX = 108;

/** A struct sockaddr_un; the path must be shorter than UNIX_PATH_MAX. */
export function unixAddress(path: string): Uint8Array {
  const bytes = bytesOf(path);
  const out = new Uint8Array(2 + UNIX_PATH_MAX);
  new DataView(out.buffer).setUint16(0, abi.AF_UNIX, true);
  out.set(bytes, 2);
  return out.subarray(0, 2 + bytes.length + 1);
}

/**
 * Connects to a stream socket. A path that is longer than an address may be is reached through a descriptor of its
 * directory.
 *
 * @param flags SOCK_NONBLOCK: for the socket, and the call does not wait for a server that is busy (EAGAIN)
 * @throws BuncError `connect <path>: ...`
 */
export function connectUnix(path: string, flags = 0): number {
  const sock = sys(abi.SYS_socket, abi.AF_UNIX, abi.SOCK_STREAM | abi.SOCK_CLOEXEC | flags, 0);
  if (sock < 0) throw pathError("socket", path, sock);
  let dir = -1;
  let reachable = path;
  if (bytesOf(path).length >= UNIX_PATH_MAX) {
    const slash = path.lastIndexOf("/");
    const flags = abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC;
    dir = sys(abi.SYS_openat, abi.AT_FDCWD, path.slice(0, slash) || "/", flags, 0);
    reachable = `/proc/self/fd/${dir}/${path.slice(slash + 1)}`;
  }
  let result: number;
  if (reachable !== path && dir < 0) {
    result = dir;
  } else if (bytesOf(reachable).length >= UNIX_PATH_MAX) {
    result = -abi.ENAMETOOLONG;
  } else {
    const where = unixAddress(reachable);
    result = sys(abi.SYS_connect, sock, where, where.length);
  }
  closeFd(dir);
  if (result < 0) {
    closeFd(sock);
    throw pathError("connect", path, result);
  }
  return sock;
}

/** A pair of connected stream sockets (CLOEXEC). */
export function socketPair(): [number, number] {
  const pair = new Int32Array(2);
  const type = abi.SOCK_STREAM | abi.SOCK_CLOEXEC;
  const result = sys(abi.SYS_socketpair, abi.AF_UNIX, type, 0, new Uint8Array(pair.buffer));
  if (result < 0) throw pathError("socketpair", "", result);
  return [pair[0]!, pair[1]!];
}

/** Receives a message and at most one descriptor (-1: none); undefined at the end of the stream or on failure. */
export function receiveFd(sock: number): { fd: number; bytes: Uint8Array } | undefined {
  const buffer = new Uint8Array(4096);
  const fds = new Int32Array(16);
  const n = sys(abi.BUNC_CALL_RECV, sock, buffer, buffer.length, new Uint8Array(fds.buffer), 0);
  for (let i = 2; i <= fds[0]!; i++) closeFd(fds[i]!);
  if (n <= 0 && fds[0] === 0) return undefined;
  return { fd: fds[0]! > 0 ? fds[1]! : -1, bytes: buffer.subarray(0, n < 0 ? 0 : n) };
}

/** Sends bytes with a descriptor (-1: none); 0 or -errno. */
export function sendFd(sock: number, fd: number, bytes: Uint8Array): number {
  return sys(abi.BUNC_CALL_SEND_FD, sock, fd, bytes, bytes.length);
}
