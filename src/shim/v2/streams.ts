/**
 * The standard streams of a process. containerd's fifos, files and the pipes of a logger are given to the process itself:
 * nothing is copied, and a shim that is killed takes no output with it. Only a terminal is relayed.
 */

import type { Stdio } from "../../container/init-channel.ts";
import { BuncError } from "../../errors.ts";
import { abi, sizeof_, stat_ } from "../../linux/abi.gen.ts";
import { pathError } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import { closeFd } from "../../linux/process.ts";
import { receiveFd, socketPair } from "../../linux/socket.ts";
import { sleep } from "../../linux/wait.ts";
import type { Loop } from "../loop.ts";
import type { Logger } from "./logger.ts";
import type { StreamNames } from "./record.ts";
import type { RelayState, TerminalRelay } from "./relay.ts";

/** What opening streams needs to know besides their names. */
export interface StreamContext {
  loop: Loop;
  namespace: string;
  id: string;
  /** Who shall own the fifos; 0 leaves them. */
  uid: number;
  gid: number;
}

/** The streams of a process that has them, as another process can take them over. */
export interface StreamsState {
  holds: number[];
  inputHold: number;
  relay: RelayState | undefined;
  /** A pidfd; -1: none. */
  logger: number;
}

/** How long a reader of the output may take to come before the process is started all the same. */
const READER_MILLISECONDS = 10_000;

export class Streams {
  /** With a terminal: the null device, until init has put the terminal there. */
  private placeholder = -1;
  /** What the process gets, or the relay; empty after `handOver`. */
  private readonly own: number[] = [];
  /** The other ends of fifos: as long as these are open, a client may go away and come back. */
  private readonly holds: number[] = [];
  /** The writer of the stdin fifo that keeps it from ending before CloseIO. */
  private inputHold = -1;
  private logger: Logger | undefined;
  private relay: TerminalRelay | undefined;
  /** Where the terminal's master arrives, and the end that init sends it to. */
  private console: [number, number] | undefined;

  private constructor(
    readonly names: StreamNames,
    private readonly context: StreamContext,
  ) {}

  /**
   * Opens what the process reads and writes. Waits for a reader of the output, as containerd's shim does.
   * @throws BuncError naming the stream; nothing stays open then
   */
  static async open(names: StreamNames, context: StreamContext): Promise<Streams> {
    const streams = new Streams(names, context);
    try {
      await streams.openAll();
      return streams;
    } catch (error) {
      streams.close();
      throw error;
    }
  }

  /** Its state, when the process has its streams and nothing is on its way; else undefined. */
  snapshot(): StreamsState | undefined {
    if (this.own.length > 0 || this.console) return undefined;
    const relay = this.relay?.snapshot();
    if (this.relay && !relay) return undefined;
    const { holds, inputHold } = this;
    return { holds, inputHold, relay, logger: this.logger?.pidfd ?? -1 };
  }

  /** Takes over the streams of a process. */
  static async resume(names: StreamNames, context: StreamContext, state: StreamsState): Promise<Streams> {
    const streams = new Streams(names, context);
    streams.holds.push(...state.holds);
    streams.inputHold = state.inputHold;
    if (state.relay)
      streams.relay = (await import("./relay.ts")).TerminalRelay.resume(context.loop, state.relay);
    if (state.logger >= 0) {
      streams.logger = (await import("./logger.ts")).Logger.resume(context.loop, state.logger);
    }
    return streams;
  }

  /**
   * The shim's own ends for a process that another shim has started: from now on clients may come and go again. A
   * terminal went with that shim.
   */
  static reopen(names: StreamNames, context: StreamContext): Streams {
    const streams = new Streams(names, context);
    if (names.terminal) return streams;
    const open = (name: string, flags: number) => {
      if (name === "" || schemeOf(name) !== "") return -1;
      const fd = sys(
        abi.SYS_openat,
        abi.AT_FDCWD,
        plainPath(name),
        flags | abi.O_CLOEXEC | abi.O_NONBLOCK,
        0,
      );
      if (fd < 0 || isFifo(fd)) return fd;
      closeFd(fd);
      return -1;
    };
    for (const name of [names.stdout, names.stderr]) {
      const hold = open(name, abi.O_RDONLY);
      if (hold >= 0) streams.holds.push(hold);
    }
    streams.inputHold = open(names.stdin, abi.O_WRONLY);
    return streams;
  }

  /** Descriptors for the process that is started; with a terminal they are replaced by it. */
  get stdio(): Stdio {
    const { placeholder } = this;
    if (this.names.terminal) return [placeholder, placeholder, placeholder];
    return this.own as unknown as Stdio;
  }

  /** The socket that init sends the terminal's master to; undefined without a terminal. */
  get consoleFd(): number | undefined {
    return this.console?.[1];
  }

  /** The process has its streams; takes the terminal's master. @throws BuncError when there is none */
  async handOver(): Promise<void> {
    if (this.console) {
      const [socket, sent] = this.console;
      this.console = undefined;
      closeFd(sent);
      const received = receiveFd(socket);
      closeFd(socket);
      if (!received || received.fd < 0) {
        throw new BuncError("the process sent no terminal", { code: "internal" });
      }
      await this.takeMaster(received.fd);
    }
    closeFd(this.placeholder);
    this.placeholder = -1;
    if (this.relay) return;
    for (const fd of this.own) closeFd(fd);
    this.own.length = 0;
  }

  /** Relays a terminal, whose master is this object's from now on. */
  async takeMaster(master: number): Promise<void> {
    if (this.console) for (const fd of this.console) closeFd(fd);
    this.console = undefined;
    const { TerminalRelay } = await import("./relay.ts");
    const [input, output] = this.own as [number, number];
    this.own.length = 0;
    this.relay = new TerminalRelay(this.context.loop, master, input, output);
  }

  /** CloseIO: what has been written to stdin is still read, then it ends. */
  closeInput(): void {
    closeFd(this.inputHold);
    this.inputHold = -1;
  }

  /** @throws BuncError where there is no terminal to resize */
  resize(width: number, height: number): void {
    if (this.relay) this.relay.resize(width, height);
  }

  /** After the process has ended: resolves once all it wrote is where it belongs, or the time is over. */
  async drained(milliseconds: number): Promise<void> {
    await this.relay?.finished(milliseconds);
  }

  /** Closes everything; a logger may take its time to write down what it has got. */
  close(): void {
    this.relay?.close();
    this.relay = undefined;
    if (this.console) for (const fd of this.console) closeFd(fd);
    this.console = undefined;
    this.closeInput();
    for (const fd of [...this.own, ...this.holds, this.placeholder]) closeFd(fd);
    this.placeholder = -1;
    this.own.length = 0;
    this.holds.length = 0;
    this.logger?.stop();
    this.logger = undefined;
  }

  private async openAll(): Promise<void> {
    const { names, own } = this;
    if (names.terminal) {
      this.console = socketPair();
      this.placeholder = this.nothing();
    }
    own.push(await this.openInput(names.stdin));
    const scheme = schemeOf(names.stdout) || schemeOf(names.stderr);
    const uri = schemeOf(names.stdout) ? names.stdout : names.stderr;
    if (scheme === "binary" || scheme === "binary-v2") {
      const { Logger } = await import("./logger.ts");
      const { namespace, id, loop } = this.context;
      this.logger = await Logger.start(loop, uri, namespace, id);
      own.push(this.logger.stdout, this.logger.stderr);
    } else if (scheme === "file") {
      const path = uri.slice("file://".length);
      makeParents(path);
      own.push(openFile(path, abi.O_CREAT), openFile(path, abi.O_CREAT));
    } else {
      own.push(await this.openOutput(names.stdout));
      own.push(names.terminal ? this.nothing() : await this.openOutput(names.stderr));
    }
    if (names.terminal) {
      // Only stdout is written to; the relay does not block.
      closeFd(own.pop());
      sys(abi.SYS_fcntl, own[1]!, abi.F_SETFL, abi.O_WRONLY | abi.O_NONBLOCK | appendOf(own[1]!));
    }
    this.changeOwner();
  }

  private nothing(): number {
    const fd = sys(abi.SYS_openat, abi.AT_FDCWD, "/dev/null", abi.O_RDWR | abi.O_CLOEXEC, 0);
    if (fd < 0) throw pathError("open", "/dev/null", fd);
    return fd;
  }

  private async openInput(name: string): Promise<number> {
    const path = plainPath(name);
    if (path === "") return this.nothing();
    const flags = abi.O_RDONLY | abi.O_CLOEXEC | abi.O_NONBLOCK;
    const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, flags, 0);
    if (fd < 0) throw streamError("stdin", path, fd);
    if (!isFifo(fd)) return fd;
    // There is a reader now, so this does not wait. It is gone when the process is, or at CloseIO.
    this.inputHold = sys(
      abi.SYS_openat,
      abi.AT_FDCWD,
      path,
      abi.O_WRONLY | abi.O_CLOEXEC | abi.O_NONBLOCK,
      0,
    );
    if (this.inputHold < 0) throw streamError("stdin", path, this.inputHold);
    if (!this.names.terminal) sys(abi.SYS_fcntl, fd, abi.F_SETFL, abi.O_RDONLY);
    return fd;
  }

  private async openOutput(name: string): Promise<number> {
    const path = plainPath(name);
    if (path === "") return this.nothing();
    const flags = abi.O_WRONLY | abi.O_CLOEXEC | abi.O_NONBLOCK | abi.O_APPEND;
    let fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, flags, 0);
    for (let waited = 0, step = 1; fd === -abi.ENXIO && waited < READER_MILLISECONDS; waited += step) {
      await sleep(step);
      step = step < 25 ? step * 2 : 50;
      fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, flags, 0);
    }
    const reader = abi.O_RDONLY | abi.O_CLOEXEC | abi.O_NONBLOCK;
    if (fd >= 0 && !isFifo(fd)) {
      sys(abi.SYS_fcntl, fd, abi.F_SETFL, abi.O_WRONLY | abi.O_APPEND);
      return fd;
    }
    if (fd >= 0 || fd === -abi.ENXIO) {
      const hold = sys(abi.SYS_openat, abi.AT_FDCWD, path, reader, 0);
      if (hold >= 0) this.holds.push(hold);
      if (fd === -abi.ENXIO) fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, flags, 0);
    }
    if (fd < 0) throw streamError("output", path, fd);
    sys(abi.SYS_fcntl, fd, abi.F_SETFL, abi.O_WRONLY);
    return fd;
  }

  /** So that the process, which may be another's, can open /dev/stdout and the like once more. A terminal is its own. */
  private changeOwner(): void {
    const { uid, gid } = this.context;
    if ((uid === 0 && gid === 0) || this.names.terminal) return;
    for (const fd of this.own) if (isFifo(fd)) sys(abi.SYS_fchown, fd, uid, gid);
  }
}

/** "binary", "file", ...; "" for a plain path and for fifo:// */
function schemeOf(name: string): string {
  const end = name.indexOf("://");
  const scheme = end < 0 ? "" : name.slice(0, end);
  return scheme === "fifo" ? "" : scheme;
}

/** @throws BuncError for a scheme that is not for this stream */
function plainPath(name: string): string {
  const scheme = schemeOf(name);
  if (scheme !== "") {
    throw new BuncError(`unknown STDIO scheme ${scheme}`, {
      code: "config",
      hint: "a stream is a path, or fifo://, file://, binary://, binary-v2://",
    });
  }
  return name.startsWith("fifo://") ? name.slice("fifo://".length) : name;
}

function streamError(what: string, path: string, result: number): BuncError {
  const error = pathError("open", path, result);
  return new BuncError(`${what}: ${error.message}`, error.fields);
}

const stat = new DataView(new ArrayBuffer(sizeof_.stat));

/** Whether a descriptor is a fifo or a pipe. */
export function isFifo(fd: number): boolean {
  const result = sys(abi.SYS_newfstatat, fd, "", new Uint8Array(stat.buffer), abi.AT_EMPTY_PATH);
  return result === 0 && (stat.getUint32(stat_.st_mode, true) & abi.S_IFMT) === abi.S_IFIFO;
}

function appendOf(fd: number): number {
  return isFifo(fd) ? 0 : abi.O_APPEND;
}

function openFile(path: string, flags: number): number {
  const mode = abi.O_WRONLY | abi.O_APPEND | abi.O_CLOEXEC | flags;
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, mode, 0o644);
  if (fd < 0) throw streamError("output", path, fd);
  return fd;
}

function makeParents(path: string): void {
  for (let end = path.indexOf("/", 1); end > 0; end = path.indexOf("/", end + 1)) {
    const result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path.slice(0, end), 0o755);
    if (result < 0 && result !== -abi.EEXIST) throw streamError("output", path.slice(0, end), result);
  }
}
