/** The command line's view of the operating system, through libbunc. */
import {
  AT_FDCWD,
  EEXIST,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_SYNC,
  O_WRONLY,
  SYS_fchmodat,
  SYS_geteuid,
  SYS_ioctl,
  SYS_mkdirat,
  SYS_openat,
  TCGETS,
} from "../linux/abi.gen.ts";
import { pathError, readText, writeAll } from "../linux/file.ts";
import { bytesOf, sys } from "../linux/lib.ts";
import type { Host } from "./host.ts";

/** More than any architecture's struct termios. */
const TERMIOS_SIZE = 256;

/** The real thing. */
export const system: Host = {
  openLog(path) {
    const fd = sys(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_SYNC | O_CLOEXEC, 0o644);
    if (fd < 0) throw pathError("open", path, fd);
    return fd;
  },

  writeAll(fd, text) {
    const result = writeAll(fd, bytesOf(text));
    if (result < 0) throw pathError("write", `/proc/self/fd/${fd}`, result);
  },

  isTerminal(fd) {
    return sys(SYS_ioctl, fd, TCGETS, new Uint8Array(TERMIOS_SIZE)) === 0;
  },

  variable(name) {
    return process.env[name];
  },

  effectiveUid() {
    return sys(SYS_geteuid);
  },

  inUserNamespace() {
    const map = readText("/proc/self/uid_map");
    // The initial namespace maps every id, from 0 to 2^32-2, to itself (user_namespaces(7)).
    return typeof map === "string" && !/^\s*0\s+0\s+4294967295\s*$/.test(map);
  },

  makeDirectories(path, mode) {
    for (let end = path.indexOf("/", 1); ; end = path.indexOf("/", end + 1)) {
      const part = end === -1 ? path : path.slice(0, end);
      const result = sys(SYS_mkdirat, AT_FDCWD, part, mode);
      // A parent on a read-only file system fails with EROFS although it is there; only the last one tells.
      if (end === -1) {
        if (result < 0 && result !== -EEXIST) throw pathError("mkdir", part, result);
        return;
      }
    }
  },

  changeMode(path, mode) {
    const result = sys(SYS_fchmodat, AT_FDCWD, path, mode);
    if (result < 0) throw pathError("chmod", path, result);
  },
};
