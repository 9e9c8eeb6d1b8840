/** The command line's view of the operating system, through libbunc. */
import { abi } from "../linux/abi.gen.ts";
import { pathError, writeAll } from "../linux/file.ts";
import { bytesOf, sys } from "../linux/lib.ts";
import { inUserNamespace } from "../linux/user-namespace.ts";
import type { Host } from "./host.ts";

/** More than any architecture's struct termios. */
const TERMIOS_SIZE = 256;

/** The real thing. */
export const system: Host = {
  openLog(path) {
    const fd = sys(
      abi.SYS_openat,
      abi.AT_FDCWD,
      path,
      abi.O_WRONLY | abi.O_CREAT | abi.O_APPEND | abi.O_SYNC | abi.O_CLOEXEC,
      0o644,
    );
    if (fd < 0) throw pathError("open", path, fd);
    return fd;
  },

  daemonLog(target, level) {
    return import("./daemon-log.ts").then((daemon) => daemon.daemonLog(target, level));
  },

  writeAll(fd, text) {
    const result = writeAll(fd, bytesOf(text));
    if (result < 0) throw pathError("write", `/proc/self/fd/${fd}`, result);
  },

  isTerminal(fd) {
    return sys(abi.SYS_ioctl, fd, abi.TCGETS, new Uint8Array(TERMIOS_SIZE)) === 0;
  },

  variable(name) {
    return process.env[name];
  },

  effectiveUid() {
    return sys(abi.SYS_geteuid);
  },

  inUserNamespace,

  makeDirectories(path, mode) {
    for (let end = path.indexOf("/", 1); ; end = path.indexOf("/", end + 1)) {
      const part = end === -1 ? path : path.slice(0, end);
      const result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, part, mode);
      // A parent on a read-only file system fails with EROFS although it is there; only the last one tells.
      if (end === -1) {
        if (result < 0 && result !== -abi.EEXIST) throw pathError("mkdir", part, result);
        return;
      }
    }
  },

  changeMode(path, mode) {
    const result = sys(abi.SYS_fchmodat, abi.AT_FDCWD, path, mode);
    if (result < 0) throw pathError("chmod", path, result);
  },
};
