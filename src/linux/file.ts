/** Files through libbunc: importing node:fs would cost a command a millisecond (bun.md F12). */
import { BuncError } from "../errors.ts";
import { abi } from "./abi.gen.ts";
import { errnoName, errnoText } from "./errno.ts";
import { bytesOf, libraryLoaded, sys, text } from "./lib.ts";

/** The error of a system call on a path, in Go's form: `open /x: no such file or directory`. */
export function pathError(call: string, path: string, result: number): BuncError {
  const errno = -result;
  return new BuncError(`${path ? `${call} ${path}` : call}: ${errnoText(errno)}`, {
    code: "host",
    syscall: call,
    errno: errnoName(errno),
  });
}

/** All bytes of a file, or -errno; -EFBIG is not answered: what lies beyond `max` bytes is cut off. */
export function readBytes(path: string, max = 64 << 20, dir = abi.AT_FDCWD): Uint8Array | number {
  let size = max < 16384 ? max : 16384;
  for (;;) {
    const buffer = new Uint8Array(size);
    const n = readInto(dir, path, buffer);
    if (n < 0) return n;
    if (n < size || size >= max) return buffer.subarray(0, n);
    size = size * 4 < max ? size * 4 : max;
  }
}

/**
 * Reads a file from its beginning, until `buffer` is full or the file ends; a fifo of this name is not waited for.
 * @param dir what `path` is relative to, or AT_FDCWD
 * @returns how many bytes, or -errno
 */
export function readInto(dir: number, path: string, buffer: Uint8Array): number {
  if (libraryLoaded()) return sys(abi.BUNC_CALL_READ_FILE, dir, path, buffer, buffer.length);
  const flags = abi.O_RDONLY | abi.O_NOCTTY | abi.O_NONBLOCK | abi.O_CLOEXEC;
  const fd = sys(abi.SYS_openat, dir, path, flags, 0);
  if (fd < 0) return fd;
  let size = 0;
  let n: number;
  do {
    n = sys(abi.SYS_read, fd, buffer.subarray(size), buffer.length - size);
    if (n > 0) size += n;
  } while ((n > 0 && size < buffer.length) || n === -abi.EINTR);
  sys(abi.SYS_close, fd);
  return n < 0 ? n : size;
}

/**
 * What a file that a user names holds, as text, or -errno. It may be a pipe, which is read once and waited for; what lies
 * beyond `max` bytes is cut off.
 */
export function readInput(path: string, max: number): string | number {
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_NOCTTY | abi.O_CLOEXEC, 0);
  if (fd < 0) return fd;
  let bytes = new Uint8Array(16384);
  let size = 0;
  let n: number;
  for (;;) {
    n = sys(abi.SYS_read, fd, bytes.subarray(size), bytes.length - size);
    if (n === -abi.EINTR) continue;
    if (n === -abi.EAGAIN) {
      waitFor(fd, abi.POLLIN);
      continue;
    }
    if (n <= 0) break;
    size += n;
    if (size >= max) break;
    if (size < bytes.length) continue;
    const longer = new Uint8Array(Math.min(bytes.length * 4, max));
    longer.set(bytes);
    bytes = longer;
  }
  sys(abi.SYS_close, fd);
  return n < 0 ? n : text(bytes.subarray(0, size));
}

/** A file as text, or -errno. */
export function readText(path: string, max?: number): string | number {
  const bytes = readBytes(path, max);
  return typeof bytes === "number" ? bytes : text(bytes);
}

/** The path of a directory without symbolic links; undefined when it cannot be opened. */
export function realPath(directory: string): string | undefined {
  const flags = abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC;
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, directory, flags, 0);
  if (fd < 0) return undefined;
  const buffer = new Uint8Array(4096);
  const n = sys(abi.SYS_readlinkat, abi.AT_FDCWD, `/proc/self/fd/${fd}`, buffer, buffer.length);
  sys(abi.SYS_close, fd);
  return n > 0 ? text(buffer.subarray(0, n)) : undefined;
}

/** Writes all bytes to a descriptor, over short writes and where it is non-blocking; 0 or -errno. */
export function writeAll(fd: number, bytes: Uint8Array): number {
  let rest = bytes;
  while (rest.length) {
    const n = sys(abi.SYS_write, fd, rest, rest.length);
    if (n === -abi.EINTR) continue;
    if (n === -abi.EAGAIN) {
      waitFor(fd, abi.POLLOUT);
      continue;
    }
    if (n < 0) return n;
    rest = rest.subarray(n);
  }
  return 0;
}

function waitFor(fd: number, events: number): void {
  const set = new DataView(new ArrayBuffer(8));
  set.setInt32(0, fd, true);
  set.setInt16(4, events, true);
  sys(abi.SYS_ppoll, new Uint8Array(set.buffer), 1, 0, 0, 8);
}

/** Writes a file that did not exist; 0 or -errno (-EEXIST). */
export function writeNew(path: string, bytes: Uint8Array | string, mode: number): number {
  const fd = sys(
    abi.SYS_openat,
    abi.AT_FDCWD,
    path,
    abi.O_WRONLY | abi.O_CREAT | abi.O_EXCL | abi.O_CLOEXEC,
    mode,
  );
  if (fd < 0) return fd;
  const result = writeAll(fd, typeof bytes === "string" ? bytesOf(bytes) : bytes);
  sys(abi.SYS_close, fd);
  return result;
}

/** Writes to a file that exists already (of /proc, of a cgroup) in one write; 0 or -errno. */
export function writeExisting(path: string, value: string): number {
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_WRONLY | abi.O_CLOEXEC, 0);
  if (fd < 0) return fd;
  const bytes = bytesOf(value);
  const n = bytes.length ? sys(abi.SYS_write, fd, bytes, bytes.length) : 0;
  sys(abi.SYS_close, fd);
  return n < 0 ? n : 0;
}

/**
 * Replaces a file as a whole: readers see the old content or the new, never a part. The temporary name is
 * `.<name>` beside it, as runc does for pid files. 0 or -errno.
 */
export function writeAtomic(path: string, bytes: Uint8Array | string, mode: number): number {
  const slash = path.lastIndexOf("/");
  const temp = `${path.slice(0, slash + 1)}.${path.slice(slash + 1)}`;
  sys(abi.SYS_unlinkat, abi.AT_FDCWD, temp, 0);
  let result = writeNew(temp, bytes, mode);
  if (result === 0) result = sys(abi.SYS_renameat, abi.AT_FDCWD, temp, abi.AT_FDCWD, path);
  if (result < 0) sys(abi.SYS_unlinkat, abi.AT_FDCWD, temp, 0);
  return result;
}
