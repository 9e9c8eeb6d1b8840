/** The shim's log: lines of logrus in the fifo `log` of the bundle, which containerd copies to its own. */
import { formatEntry, type Level } from "../../cli/log.ts";
import type { Log } from "../../container/types.ts";
import { abi } from "../../linux/abi.gen.ts";
import { bytesOf, sys } from "../../linux/lib.ts";

export class ShimLog implements Log {
  private readonly fd: number;

  /**
   * @param path of the fifo; without one nothing is logged
   */
  constructor(
    path: string,
    readonly debugging: boolean,
  ) {
    // O_RDWR: it can be opened, and written to, while containerd is away; what does not fit then is lost.
    this.fd = sys(
      abi.SYS_openat,
      abi.AT_FDCWD,
      path,
      abi.O_RDWR | abi.O_NONBLOCK | abi.O_CLOEXEC | abi.O_APPEND,
      0,
    );
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
