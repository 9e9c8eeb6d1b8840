/**
 * The terminal of a foreground container: the caller's terminal in raw mode, its bytes copied to the container's pty
 * and back, and its size followed. The settings are restored however `run` ends.
 */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { writeAll } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";

const TERMIOS_SIZE = 64;
const CHUNK = 65536;
/** Offsets in the kernel's struct termios (asm-generic/termbits.h). */
const TERMIOS = { iflag: 0, oflag: 4, cflag: 8, lflag: 12, cc: 17 } as const;

/** Copies between this process's streams and the master of the container's pty. */
export class TerminalRelay {
  private readonly host: number;
  private readonly saved = new Uint8Array(TERMIOS_SIZE);
  private readonly ownHost: boolean;
  private inputOpen = true;
  private outputOpen = true;
  /** What could not be written to the pty yet: its reader is slow, and it must not stop the other direction. */
  private pending: Uint8Array = new Uint8Array(0);
  private readonly buffer = new Uint8Array(CHUNK);

  /**
   * Finds the caller's terminal and puts it into raw mode.
   *
   * @throws BuncError when there is none.
   */
  constructor(private readonly master: number) {
    const found = [2, 1, 0].find((fd) => sys(abi.SYS_ioctl, fd, abi.TCGETS, this.saved) === 0);
    if (found !== undefined) {
      this.host = found;
      this.ownHost = false;
    } else {
      this.host = sys(abi.SYS_openat, abi.AT_FDCWD, "/dev/tty", abi.O_RDWR | abi.O_CLOEXEC | abi.O_NOCTTY, 0);
      this.ownHost = true;
      if (this.host < 0 || sys(abi.SYS_ioctl, this.host, abi.TCGETS, this.saved) < 0) {
        throw new BuncError("provided file is not a console", {
          code: "host",
          path: "process.terminal",
          hint: "run without a terminal needs process.terminal false, or --detach with --console-socket",
        });
      }
    }
    sys(abi.SYS_fcntl, this.master, abi.F_SETFL, abi.O_RDWR | abi.O_NONBLOCK);
    this.resize();
    this.passLineFeeds();
    this.makeRaw();
  }

  /** The container's terminal leaves LF as it is (ONLCR off): one of the two has to. */
  private passLineFeeds(): void {
    const settings = new Uint8Array(TERMIOS_SIZE);
    if (sys(abi.SYS_ioctl, this.master, abi.TCGETS, settings) < 0) return;
    const view = new DataView(settings.buffer);
    view.setUint32(TERMIOS.oflag, view.getUint32(TERMIOS.oflag, true) & ~abi.ONLCR, true);
    sys(abi.SYS_ioctl, this.master, abi.TCSETS, settings);
  }

  /** cfmakeraw(3), but output goes on being processed: the caller's terminal turns LF into CR LF, as with runc. */
  private makeRaw(): void {
    const raw = this.saved.slice();
    const view = new DataView(raw.buffer);
    const clear = (at: number, bits: number) => view.setUint32(at, view.getUint32(at, true) & ~bits, true);
    clear(
      TERMIOS.iflag,
      abi.IGNBRK | abi.BRKINT | abi.PARMRK | abi.ISTRIP | abi.INLCR | abi.IGNCR | abi.ICRNL | abi.IXON,
    );
    clear(TERMIOS.lflag, abi.ECHO | abi.ECHONL | abi.ICANON | abi.ISIG | abi.IEXTEN);
    clear(TERMIOS.cflag, abi.CSIZE | abi.PARENB);
    view.setUint32(TERMIOS.cflag, view.getUint32(TERMIOS.cflag, true) | abi.CS8, true);
    raw[TERMIOS.cc + abi.VMIN] = 1;
    raw[TERMIOS.cc + abi.VTIME] = 0;
    sys(abi.SYS_ioctl, this.host, abi.TCSETS, raw);
  }

  /** Gives the pty the size of the caller's terminal. */
  resize(): void {
    const size = new Uint8Array(8);
    if (sys(abi.SYS_ioctl, this.host, abi.TIOCGWINSZ, size) < 0) return;
    if (size.some((byte) => byte !== 0)) sys(abi.SYS_ioctl, this.master, abi.TIOCSWINSZ, size);
  }

  /** What the loop has to poll: the caller's input, and the pty. */
  pollEntries(): { fd: number; events: number }[] {
    const wantsInput = this.inputOpen && this.pending.length === 0;
    const pty = abi.POLLIN | (this.pending.length ? abi.POLLOUT : 0);
    return [
      { fd: wantsInput ? 0 : -1, events: abi.POLLIN },
      { fd: this.outputOpen ? this.master : -1, events: pty },
    ];
  }

  /** Copies what is ready; `ready` gives the events of entry i of pollEntries. */
  serve(ready: (i: number) => number): void {
    if (ready(1) & abi.POLLOUT) this.flush();
    if (ready(1) & ~abi.POLLOUT) this.copyOutput();
    if (ready(0)) this.copyInput();
  }

  private copyInput(): void {
    const n = sys(abi.SYS_read, 0, this.buffer, CHUNK);
    if (n === -abi.EAGAIN || n === -abi.EINTR) return;
    if (n <= 0) {
      this.inputOpen = false;
      return;
    }
    this.pending = this.buffer.slice(0, n);
    this.flush();
  }

  private flush(): void {
    while (this.pending.length) {
      const n = sys(abi.SYS_write, this.master, this.pending, this.pending.length);
      if (n === -abi.EINTR) continue;
      if (n === -abi.EAGAIN) return;
      if (n < 0) {
        this.pending = new Uint8Array(0);
        return;
      }
      this.pending = this.pending.subarray(n);
    }
  }

  /** Copies one chunk from the pty; false when there is none. EIO means that its last user is gone. */
  private copyOutput(): boolean {
    const n = sys(abi.SYS_read, this.master, this.buffer, CHUNK);
    if (n === -abi.EINTR) return true;
    if (n === -abi.EAGAIN) return false;
    if (n <= 0) {
      this.outputOpen = false;
      return false;
    }
    // When nobody reads any more the container goes on all the same.
    writeAll(1, this.buffer.subarray(0, n));
    return true;
  }

  /** After the container's end: what is left in the pty. */
  drain(): void {
    while (this.outputOpen && this.copyOutput()) {
      // copies
    }
  }

  /** Puts the caller's terminal back as it was. */
  close(): void {
    sys(abi.SYS_ioctl, this.host, abi.TCSETSW, this.saved);
    closeFd(this.master);
    if (this.ownHost) closeFd(this.host);
  }
}
