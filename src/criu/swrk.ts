/**
 * criu as a child of this process: `criu swrk FD` and the socket by which it is told what to do (criu.org/RPC). Each
 * message is one packet of protobuf. bunc-init executes criu, so that it is born in a cgroup of our choice.
 */
import { PbfReader, PbfWriter } from "pbf";
import { Init, type Stdio } from "../container/init-channel.ts";
import { BuncError } from "../errors.ts";
import { Part, Slot, Struct } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { pathError } from "../linux/file.ts";
import { bytesOf, sys } from "../linux/lib.ts";
import { closeFd, type Exit, waitChild } from "../linux/process.ts";
import { signalName } from "../linux/signals.ts";
import { servesOthers, waitReady } from "../linux/wait.ts";
import { type Request, type Response, readResponse, writeRequest } from "./rpc.gen.ts";

/** Number of bunc-init's own socket in it; execve closes it. */
const SYNC_FD = 3;
/** Number of the RPC socket in criu. */
const RPC_FD = 4;
/** Number in criu of the first descriptor that is given to it. */
export const FIRST_FD = 5;

/** The longest answer that is taken, as in runc. */
const LONGEST = 10 * 4096;

/** How long criu may take to end after it has closed its socket. */
const END_MILLISECONDS = 10_000;

/** How criu is started. */
export interface SwrkOptions {
  /** Descriptors that it gets as FIRST_FD and on; they stay the caller's. */
  fds?: readonly number[];
  /** Environment: $PATH says where criu is. */
  env: readonly string[];
  /** What becomes its standard streams, and those of what it restores; without it they are this process's own. */
  stdio?: Stdio | undefined;
  /** It gets the null device instead of this process's standard streams. */
  quiet?: boolean;
  /**
   * It is killed when this process ends. Not for what is soon over: criu notices by its socket, and a dump that it gives
   * up itself leaves the container as it was, whatever it was just doing to it.
   */
  dieWithParent?: boolean;
  /** The soft limit of open files is to be this again (Bun raises its own). */
  nofile?: { soft: bigint; hard: bigint } | undefined;
  /** Descriptor of the directory of cgroup2 to be born in. */
  cgroup?: number;
  /** Called when the process is there, and criu not yet. */
  adopt?: (pid: number) => void;
  /** Appends operations by which the process enters its other cgroups. */
  enter?: ((part: Part) => void) | undefined;
}

/** A message of criu's, with the descriptor that came with it, or -1. */
export interface Received {
  response: Response;
  fd: number;
}

/** A running criu that does one thing and ends. */
export class Swrk {
  private constructor(
    private readonly init: Init,
    private sock: number,
  ) {}

  /**
   * Starts it.
   * @throws BuncError `exec: "criu": executable file not found in $PATH`
   */
  static async start(options: SwrkOptions): Promise<Swrk> {
    const pair = new Int32Array(2);
    const type = abi.SOCK_SEQPACKET | abi.SOCK_CLOEXEC;
    const result = sys(abi.SYS_socketpair, abi.AF_UNIX, type, 0, new Uint8Array(pair.buffer));
    if (result < 0) throw pathError("socketpair", "", result);
    let init: Init;
    try {
      init = Init.spawn({
        flags: 0,
        firstFd: SYNC_FD,
        fds: [pair[1]!, ...(options.fds ?? [])],
        preserve: 0,
        stdio: options.stdio,
        ...(options.cgroup === undefined || options.cgroup < 0 ? {} : { cgroup: options.cgroup }),
      });
    } catch (error) {
      closeFd(pair[0]);
      throw error;
    } finally {
      closeFd(pair[1]);
    }
    const swrk = new Swrk(init, pair[0]!);
    try {
      options.adopt?.(init.pid);
      init.send(compileSwrk(options));
      if (servesOthers()) await init.told();
      // The end of the socket: criu is executed.
      if (init.next() !== undefined) throw new BuncError("criu was not executed", { code: "internal" });
      init.close();
    } catch (error) {
      swrk.kill();
      throw error;
    }
    return swrk;
  }

  /** criu's pid. */
  get pid(): number {
    return this.init.pid;
  }

  /** Sends a request. A criu that is gone is noticed when its answer is read. */
  send(request: Partial<Request>): void {
    const pbf = new PbfWriter();
    writeRequest(request, pbf);
    const bytes = pbf.finish();
    const sent = sys(abi.SYS_sendto, this.sock, bytes, bytes.length, abi.MSG_NOSIGNAL);
    if (sent >= 0 || sent === -abi.EPIPE || sent === -abi.ECONNRESET) return;
    throw new BuncError(`cannot send a request to criu: ${errnoText(-sent)}`, {
      code: "host",
      syscall: "sendto",
      errno: errnoName(-sent),
      ...(sent === -abi.EMSGSIZE ? { hint: "the container has too many mounts for one request" } : {}),
    });
  }

  /**
   * The next message.
   * @throws BuncError when criu has ended without one, or says what cannot be understood
   */
  async receive(): Promise<Received> {
    await waitReady([this.sock]);
    const buffer = new Uint8Array(LONGEST);
    const fds = new Int32Array(16);
    const n = sys(
      abi.BUNC_CALL_RECV,
      this.sock,
      buffer,
      buffer.length,
      new Uint8Array(fds.buffer),
      abi.MSG_TRUNC,
    );
    for (let i = 2; i <= fds[0]!; i++) closeFd(fds[i]);
    const fd = fds[0]! > 0 ? fds[1]! : -1;
    try {
      if (n <= 0) throw await this.gone(n);
      if (n > buffer.length) throw garbage(`${n} bytes`);
      return { response: parseResponse(buffer.subarray(0, n)), fd };
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  private async gone(result: number): Promise<BuncError> {
    const how = result < 0 && result !== -abi.ECONNRESET ? errnoText(-result) : ending(await this.exited());
    return new BuncError(`criu failed: it closed its socket without an answer (${how})`, { code: "host" });
  }

  private async exited(): Promise<Exit | undefined> {
    const { pidfd } = this.init;
    if (pidfd < 0) return undefined;
    const until = performance.now() + END_MILLISECONDS;
    // A signal, which is for the container, may end the wait early.
    for (let left = END_MILLISECONDS; left >= 0; left = until - performance.now())
      if ((await waitReady([pidfd], left))[0]) return waitChild(pidfd);
    return undefined;
  }

  /**
   * Tells criu that there is nothing more to do, and waits for its end.
   * @param anyhow its exit code does not matter
   * @throws BuncError when it fails
   */
  async end(anyhow = false): Promise<void> {
    // The end of the requests.
    closeFd(this.sock);
    this.sock = -1;
    const exit = await this.exited();
    if (exit) {
      closeFd(this.init.pidfd);
      this.init.pidfd = -1;
    } else {
      this.kill();
    }
    if (anyhow || (exit && exit.code === 0 && exit.signal === 0)) return;
    throw new BuncError(`criu failed: ${ending(exit)}`, { code: "host" });
  }

  /** Ends it, whatever it does; harmless when it has ended. */
  kill(): void {
    closeFd(this.sock);
    this.sock = -1;
    this.init.kill();
  }
}

function ending(exit: Exit | undefined): string {
  if (!exit) return "it does not end";
  return exit.signal ? `signal: ${signalName(exit.signal)}` : `exit status ${exit.code}`;
}

/** Decodes a message. */
export function parseResponse(bytes: Uint8Array): Response {
  let response: Response;
  try {
    response = readResponse(new PbfReader(bytes));
  } catch {
    throw garbage("no message of its protocol");
  }
  const { type, cr_errno, notify } = response;
  // Bytes that happen to be protobuf have anything in these fields.
  if (!Number.isInteger(type) || !Number.isInteger(cr_errno)) throw garbage("no message of its protocol");
  if (notify && (typeof notify.script !== "string" || !Number.isInteger(notify.pid))) {
    throw garbage("no message of its protocol");
  }
  return response;
}

function garbage(what: string): BuncError {
  return new BuncError(`criu failed: cannot understand its answer (${what})`, {
    code: "host",
    hint: "is the program criu in $PATH the one of criu.org?",
  });
}

const encoder = new TextEncoder();

/** What bunc-init does to become criu. */
function compileSwrk({ env, quiet, dieWithParent, nofile, enter }: SwrkOptions): Part {
  const part = new Part().at("process");
  part.op(abi.BUNC_OP_RESET_SIGNALS, []);
  if (dieWithParent) {
    const parent = new Slot(2, "parent");
    part.op(abi.SYS_prctl, [abi.PR_SET_PDEATHSIG, abi.SIGKILL]);
    // It may have ended before.
    part.op(abi.SYS_getppid, [], { slot: parent });
    part.op(abi.BUNC_OP_EXPECT, [parent, -1, sys(abi.SYS_getpid), abi.ESRCH], { about: "start criu" });
  }
  enter?.(part.at("cgroup"));
  part.at("process");
  if (nofile) {
    const value = new Struct(16, "rlimit64").u64(0, nofile.soft).u64(8, nofile.hard);
    part.op(abi.SYS_prlimit64, [0, abi.RLIMIT_NOFILE, value, 0], {
      about: "cannot lower RLIMIT_NOFILE again",
    });
  }
  if (quiet) {
    const open = new Slot(0, "null device");
    part.op(abi.SYS_openat, [abi.AT_FDCWD, "/dev/null", abi.O_RDWR | abi.O_CLOEXEC, 0], { slot: open });
    for (const fd of [0, 1, 2]) part.op(abi.SYS_dup3, [open, fd, 0], { about: "cannot redirect criu" });
  }
  const path = env.find((entry) => entry.startsWith("PATH="))?.slice(5) ?? "";
  const places = path
    .split(":")
    .filter((dir) => dir.startsWith("/"))
    .map((dir) => `${dir}/criu\0`);
  const found = new Slot(1, "path of criu");
  part.op(abi.BUNC_OP_LOOKPATH, [encoder.encode(`${places.join("")}\0`)], {
    slot: found,
    about: 'exec: "criu"',
    hint: "install the package criu, 3.0 or newer",
  });
  part.op(abi.SYS_fcntl, [SYNC_FD, abi.F_SETFD, abi.FD_CLOEXEC]);
  part.op(
    abi.SYS_execve,
    [found, pointers(["criu", "swrk", String(RPC_FD)], "argv"), pointers(env, "envp")],
    {
      about: "exec criu",
    },
  );
  return part;
}

function pointers(items: readonly string[], name: string): Struct {
  const array = new Struct((items.length + 1) * 8, name);
  for (let i = 0; i < items.length; i++) array.pointer(i * 8, bytesOf(`${items[i]}\0`));
  return array;
}
