/** Errnos: their names, and the words that Go's syscall package has for them (callers match some of those). */
import { abi } from "./abi.gen.ts";

/** [number, name, words] of the errnos a runtime meets; the words are those of Go, which are strerror's in lower case. */
type Entry = readonly [number, string, string];

// A function, so that a start without an error does not build the table.
const table = (): readonly Entry[] => [
  [abi.EPERM, "EPERM", "operation not permitted"],
  [abi.ENOENT, "ENOENT", "no such file or directory"],
  [abi.ESRCH, "ESRCH", "no such process"],
  [abi.EINTR, "EINTR", "interrupted system call"],
  [abi.EIO, "EIO", "input/output error"],
  [abi.ENXIO, "ENXIO", "no such device or address"],
  [abi.E2BIG, "E2BIG", "argument list too long"],
  [abi.ENOEXEC, "ENOEXEC", "exec format error"],
  [abi.EBADF, "EBADF", "bad file descriptor"],
  [abi.ECHILD, "ECHILD", "no child processes"],
  [abi.EAGAIN, "EAGAIN", "resource temporarily unavailable"],
  [abi.ENOMEM, "ENOMEM", "cannot allocate memory"],
  [abi.EACCES, "EACCES", "permission denied"],
  [abi.EFAULT, "EFAULT", "bad address"],
  [abi.ENOTBLK, "ENOTBLK", "block device required"],
  [abi.EBUSY, "EBUSY", "device or resource busy"],
  [abi.EEXIST, "EEXIST", "file exists"],
  [abi.EXDEV, "EXDEV", "invalid cross-device link"],
  [abi.ENODEV, "ENODEV", "no such device"],
  [abi.ENOTDIR, "ENOTDIR", "not a directory"],
  [abi.EISDIR, "EISDIR", "is a directory"],
  [abi.EINVAL, "EINVAL", "invalid argument"],
  [abi.ENFILE, "ENFILE", "too many open files in system"],
  [abi.EMFILE, "EMFILE", "too many open files"],
  [abi.ENOTTY, "ENOTTY", "inappropriate ioctl for device"],
  [abi.ETXTBSY, "ETXTBSY", "text file busy"],
  [abi.EFBIG, "EFBIG", "file too large"],
  [abi.ENOSPC, "ENOSPC", "no space left on device"],
  [abi.ESPIPE, "ESPIPE", "illegal seek"],
  [abi.EROFS, "EROFS", "read-only file system"],
  [abi.EMLINK, "EMLINK", "too many links"],
  [abi.EPIPE, "EPIPE", "broken pipe"],
  [abi.EDOM, "EDOM", "numerical argument out of domain"],
  [abi.ERANGE, "ERANGE", "numerical result out of range"],
  [abi.EDEADLK, "EDEADLK", "resource deadlock avoided"],
  [abi.ENAMETOOLONG, "ENAMETOOLONG", "file name too long"],
  [abi.ENOLCK, "ENOLCK", "no locks available"],
  [abi.ENOSYS, "ENOSYS", "function not implemented"],
  [abi.ENOTEMPTY, "ENOTEMPTY", "directory not empty"],
  [abi.ELOOP, "ELOOP", "too many levels of symbolic links"],
  [abi.EBADMSG, "EBADMSG", "bad message"],
  [abi.EOVERFLOW, "EOVERFLOW", "value too large for defined data type"],
  [abi.EUSERS, "EUSERS", "too many users"],
  [abi.ENOTSOCK, "ENOTSOCK", "socket operation on non-socket"],
  [abi.EPROTO, "EPROTO", "protocol error"],
  [abi.EPROTONOSUPPORT, "EPROTONOSUPPORT", "protocol not supported"],
  [abi.EOPNOTSUPP, "EOPNOTSUPP", "operation not supported"],
  [abi.EAFNOSUPPORT, "EAFNOSUPPORT", "address family not supported by protocol"],
  [abi.EADDRINUSE, "EADDRINUSE", "address already in use"],
  [abi.EADDRNOTAVAIL, "EADDRNOTAVAIL", "cannot assign requested address"],
  [abi.ENETDOWN, "ENETDOWN", "network is down"],
  [abi.ENETUNREACH, "ENETUNREACH", "network is unreachable"],
  [abi.ECONNABORTED, "ECONNABORTED", "software caused connection abort"],
  [abi.EMSGSIZE, "EMSGSIZE", "message too long"],
  [abi.ECONNRESET, "ECONNRESET", "connection reset by peer"],
  [abi.ENOBUFS, "ENOBUFS", "no buffer space available"],
  [abi.EISCONN, "EISCONN", "transport endpoint is already connected"],
  [abi.ENOTCONN, "ENOTCONN", "transport endpoint is not connected"],
  [abi.ETIMEDOUT, "ETIMEDOUT", "connection timed out"],
  [abi.ECONNREFUSED, "ECONNREFUSED", "connection refused"],
  [abi.EALREADY, "EALREADY", "operation already in progress"],
  [abi.EINPROGRESS, "EINPROGRESS", "operation now in progress"],
  [abi.ESTALE, "ESTALE", "stale file handle"],
  [abi.EDQUOT, "EDQUOT", "disk quota exceeded"],
  [abi.ECANCELED, "ECANCELED", "operation canceled"],
  [abi.ENOKEY, "ENOKEY", "required key not available"],
  [abi.ENODATA, "ENODATA", "no data available"],
];

/** The errno's name, e.g. "ENOENT"; "errno 200" when it has none here. */
export function errnoName(errno: number): string {
  return table().find((entry) => entry[0] === errno)?.[1] ?? `errno ${errno}`;
}

/** Go's words for the errno, e.g. "no such file or directory". */
export function errnoText(errno: number): string {
  return table().find((entry) => entry[0] === errno)?.[2] ?? `errno ${errno}`;
}

/** The number of an errno given by name, or undefined. */
export function errnoNumber(name: string): number | undefined {
  return table().find((entry) => entry[1] === name)?.[0];
}
