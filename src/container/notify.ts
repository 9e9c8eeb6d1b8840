/**
 * $NOTIFY_SOCKET (sd_notify(3)): the container gets a socket of its own, and what it says of being ready is passed on to
 * the host's, as runc does. Nothing else a container says reaches the host: systemd would take it as the runtime's words.
 *
 * Who waits for what: `create` only makes the directory; `start` listens, and returns when the container is ready or has
 * ended; so does `run --detach`; `run` in the foreground listens beside its other work as long as the container runs.
 */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { bytesOf, sys, text } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { poll } from "../linux/wait.ts";
import type { Spec } from "../oci/config.ts";

const DIRECTORY = "notify";
const SOCKET = "notify.sock";
const INSIDE = "/run/notify";
/** sd_notify(3) sends no longer messages (NOTIFY_BUFFER_MAX of systemd). */
const MESSAGE_SIZE = 4096;
/** More descriptors than BUNC_CALL_RECV has room for. */
const FDS_SIZE = 32;
/** Datagrams taken at once: a container that sends without end must not keep the loop from its other work. */
const AT_ONCE = 64;
/** Bytes of sun_path, its final NUL included (unix(7)). */
const PATH_MAX = 108;
/** How long the host may take to have read what was sent, in seconds; as runc. */
const BARRIER_SECONDS = 30;

/**
 * Makes the directory that the container gets to see, in its state directory.
 * @returns its path
 */
export function makeNotifyDirectory(stateDir: string): string {
  const path = `${stateDir}/${DIRECTORY}`;
  const result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path, 0o755);
  if (result < 0 && result !== -abi.EEXIST) throw notifyError(`mkdir ${path}`, -result);
  // The caller's umask must not keep the container's user out.
  const changed = sys(abi.SYS_fchmodat, abi.AT_FDCWD, path, 0o755);
  if (changed < 0) throw notifyError(`chmod ${path}`, -changed);
  return path;
}

/** Adds the mount of the directory and the variable that tells the program of it; before the program is compiled. */
export function addNotifyMount(spec: Spec, stateDir: string): void {
  spec.mounts ??= [];
  spec.mounts.push({
    destination: INSIDE,
    source: `${stateDir}/${DIRECTORY}`,
    options: ["bind", "nosuid", "noexec", "nodev", "ro"],
  });
  const process = spec.process!;
  process.env = [...(process.env ?? []), `NOTIFY_SOCKET=${INSIDE}/${SOCKET}`];
}

/** The container's socket, and what was told to the host. */
export class NotifySocket {
  private isReady = false;
  /** Read end of the pipe whose other end the host closes when it has read everything. */
  private barrier = -1;
  private barrierEnd = 0;

  private constructor(
    /** Readable when the container has said something. */
    readonly fd: number,
    private readonly host: string,
  ) {}

  /**
   * Listens in the directory that `makeNotifyDirectory` made.
   * @param host the host's socket: a path, or "@name" for an abstract one
   * @throws BuncError with the call that failed
   */
  static open(stateDir: string, host: string): NotifySocket {
    const path = `${stateDir}/${DIRECTORY}`;
    const flags = abi.O_PATH | abi.O_DIRECTORY | abi.O_NOFOLLOW | abi.O_CLOEXEC;
    const dir = sys(abi.SYS_openat, abi.AT_FDCWD, path, flags, 0);
    if (dir < 0) throw notifyError(`open ${path}`, -dir);
    const fd = newSocket(abi.SOCK_NONBLOCK);
    // What an earlier attempt left; the container can write to nothing here.
    sys(abi.SYS_unlinkat, dir, SOCKET, 0);
    // Through the descriptor, because the whole path may be longer than an address can be.
    const address = unixAddress(`/proc/self/fd/${dir}/${SOCKET}`);
    let failed = sys(abi.SYS_bind, fd, address, address.length);
    if (failed >= 0) failed = sys(abi.SYS_fchmodat, dir, SOCKET, 0o777);
    closeFd(dir);
    if (failed >= 0) return new NotifySocket(fd, host);
    closeFd(fd);
    throw notifyError(`bind ${path}/${SOCKET}`, -failed);
  }

  /**
   * Takes what the container has said up to now, without waiting. At READY=1 tells the host, with the pid it is to watch.
   * @param mainPid pid of the container's init where the caller does not stay, else the caller's own
   * @returns "ready" once the container is
   * @throws BuncError when the host cannot be told; it is not tried again
   */
  handle(mainPid: number): "ready" | "more" {
    for (let i = 0; i < AT_ONCE; i++) {
      const message = this.receive();
      if (message === undefined) break;
      const ready = this.isReady ? undefined : readyLine(message);
      if (ready === undefined) continue;
      this.isReady = true;
      this.tellHost(ready, mainPid);
    }
    return this.isReady ? "ready" : "more";
  }

  /**
   * For the loop of a caller that stays (supervise.ts): also after READY the socket is emptied, lest the container's own
   * barriers hang.
   * @param failed takes the error when the host cannot be told
   */
  watch(mainPid: number, failed: (error: unknown) => void): { fd: number; handle(): boolean } {
    const handle = () => {
      try {
        this.handle(mainPid);
      } catch (error) {
        failed(error);
      }
      return true;
    };
    return { fd: this.fd, handle };
  }

  /**
   * Waits until the container is ready or its init has ended.
   * @param pidfd of its init; negative when that has ended already
   */
  waitReady(pidfd: number, mainPid: number): "ready" | "gone" {
    for (;;) {
      if (pidfd < 0) return this.drain(mainPid);
      const [, ended] = poll([this.fd, pidfd], Number.POSITIVE_INFINITY);
      // What it said before its end counts.
      if (this.handle(mainPid) === "ready") return "ready";
      if (ended) return this.drain(mainPid);
    }
  }

  /** Init has ended: takes all that is left, though others in its namespaces might still send. */
  private drain(mainPid: number): "ready" | "gone" {
    for (let i = 0; i < AT_ONCE && poll([this.fd], 0)[0]; i++) {
      if (this.handle(mainPid) === "ready") return "ready";
    }
    return "gone";
  }

  /**
   * Closes the socket, after the host has read what it was sent or had 30 seconds for it: systemd finds out whose message
   * it is by the sender's pid, and would not know a process that is gone.
   */
  close(): void {
    closeFd(this.fd);
    if (this.barrier < 0) return;
    // A signal may end the wait before its time.
    for (let left = 1; left > 0; ) {
      left = this.barrierEnd - performance.now();
      if (poll([this.barrier], Math.max(left, 0))[0]) break;
    }
    closeFd(this.barrier);
    this.barrier = -1;
  }

  /** One datagram as text; undefined when there is none. */
  private receive(): string | undefined {
    const buffer = new Uint8Array(MESSAGE_SIZE);
    const fds = new Int32Array(FDS_SIZE);
    const bytes = new Uint8Array(fds.buffer);
    const n = sys(abi.BUNC_CALL_RECV, this.fd, buffer, MESSAGE_SIZE, bytes, abi.MSG_DONTWAIT);
    // Closing them answers a barrier of the container's own, and nothing may be stored here.
    for (let i = 1; i <= fds[0]! && i < FDS_SIZE; i++) closeFd(fds[i]);
    return n < 0 ? undefined : text(buffer.subarray(0, n));
  }

  private tellHost(ready: string, mainPid: number): void {
    const client = newSocket(0);
    let pipe: [number, number] | undefined;
    try {
      connect(client, this.host);
      send(client, `${ready}\n`, this.host);
      send(client, `MAINPID=${mainPid}\n`, this.host);
      pipe = newPipe();
      send(client, "BARRIER=1", this.host, pipe[1]);
      this.barrier = pipe[0];
      this.barrierEnd = performance.now() + BARRIER_SECONDS * 1000;
    } finally {
      closeFd(client);
      closeFd(pipe?.[1]);
      if (this.barrier < 0) closeFd(pipe?.[0]);
    }
  }
}

/** The line of a notification that says READY; values other than 1 mean nothing, but are passed on as runc does. */
function readyLine(message: string): string | undefined {
  for (const line of message.split("\n")) if (line.startsWith("READY=")) return line;
  return undefined;
}

function newSocket(flags: number): number {
  const fd = sys(abi.SYS_socket, abi.AF_UNIX, abi.SOCK_DGRAM | abi.SOCK_CLOEXEC | flags, 0);
  if (fd < 0) throw notifyError("socket", -fd);
  return fd;
}

function newPipe(): [number, number] {
  const ends = new Int32Array(2);
  const result = sys(abi.SYS_pipe2, new Uint8Array(ends.buffer), abi.O_CLOEXEC);
  if (result < 0) throw notifyError("pipe2", -result);
  return [ends[0]!, ends[1]!];
}

function connect(socket: number, host: string): void {
  const address = unixAddress(host);
  const result = sys(abi.SYS_connect, socket, address, address.length);
  if (result < 0) throw notifyError(`connect ${host}`, -result);
}

function send(socket: number, message: string, host: string, fd = -1): void {
  const bytes = bytesOf(message);
  const result = sys(abi.BUNC_CALL_SEND_FD, socket, fd, bytes, bytes.length);
  if (result < 0) throw notifyError(`send to ${host}`, -result);
}

/** struct sockaddr_un; "@" begins the name of an abstract socket, which has no final NUL. */
function unixAddress(path: string): Uint8Array {
  const name = bytesOf(path);
  if (name.length >= PATH_MAX) throw notifyError(`the path ${path}`, abi.ENAMETOOLONG);
  const isAbstract = path.startsWith("@");
  const address = new Uint8Array(2 + name.length + (isAbstract ? 0 : 1));
  new DataView(address.buffer).setUint16(0, abi.AF_UNIX, true);
  address.set(name, 2);
  if (isAbstract) address[2] = 0;
  return address;
}

function notifyError(what: string, errno: number): BuncError {
  return new BuncError(`NOTIFY_SOCKET: ${what}: ${errnoText(errno)}`, {
    code: "host",
    phase: "start",
    errno: errnoName(errno),
    hint: "unset NOTIFY_SOCKET if nobody waits for the container to be ready",
  });
}
