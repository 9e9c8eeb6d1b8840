/** The shim's log: lines of logrus in the fifo `log` of the bundle, which containerd copies to its own. */
import { formatEntry, type Level } from "../../cli/log.ts";
import type { Log } from "../../container/types.ts";
import { abi } from "../../linux/abi.gen.ts";
import { bytesOf, sys } from "../../linux/lib.ts";

export class ShimLog implements Log {
  /** @param fd of the fifo, non-blocking; -1: nothing is logged */
  constructor(
    readonly fd: number,
    readonly debugging: boolean,
  ) {}

  /**
   * Opens the fifo, so that it can be written to while containerd is away; what does not fit then is lost.
   * @returns the descriptor, or -errno
   */
  static open(path: string): number {
    const flags = abi.O_RDWR | abi.O_NONBLOCK | abi.O_CLOEXEC | abi.O_APPEND;
    return sys(abi.SYS_openat, abi.AT_FDCWD, path, flags, 0);
  }

  debug(message: string): void {
    if (this.debugging) this.write("debug", message);
  }

  warn(message: string): void {
    this.write("warning", message);
  }

  error(message: string): void {
    this.write("error", message);
  }

  private write(level: Level, message: string): void {
    if (this.fd < 0) return;
    const bytes = bytesOf(formatEntry("text", level, message, new Date()));
    sys(abi.SYS_write, this.fd, bytes, bytes.length);
  }
}
