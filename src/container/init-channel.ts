/** The parent's side of the talk with bunc-init: starting it, sending it parts, and reading what it tells. */
import { BuncError } from "../errors.ts";
import { encodePart } from "../launch/encode.ts";
import { opFailure } from "../launch/failure.ts";
import type { Op, Part } from "../launch/program.ts";
import { abi, bunc_event_, bunc_spawn_, sizeof_ } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { faultOf } from "../linux/faults.ts";
import { pathError, readText, writeAll, writeExisting } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd, isChild, killChild, launches, ownChildren, waitChild } from "../linux/process.ts";
import { tracer } from "../linux/trace.ts";
import { servesOthers, waitReady } from "../linux/wait.ts";

const SPAWN = bunc_spawn_;
const EVENT = bunc_event_;

/** How init is started. */
export interface SpawnOptions {
  /** Flags of clone3. */
  flags: number;
  /** Directory of the cgroup (v2) to be born in, with CLONE_INTO_CGROUP in the flags. */
  cgroup?: number;
  /** Descriptor of the pid namespace to be born in. */
  pidns?: number;
  /** Number of the first inherited descriptor in init. */
  firstFd: number;
  /** The parent's numbers of the inherited descriptors after the socket. */
  fds: readonly number[];
  /** Descriptors 3 .. 3 + preserve - 1 stay as they are. */
  preserve: number;
  /** What becomes its standard streams; without it they are this process's own. */
  stdio?: Stdio | undefined;
  /** It executes its image anew (src/launch/renew.ts): a trace needs its memory twice. */
  renews?: boolean;
}

/** Descriptors for stdin, stdout and stderr; they stay the caller's. */
export type Stdio = readonly [stdin: number, stdout: number, stderr: number];

/** What init told: a stage it waits at, the pid of the process that goes on, or the end of the socket. */
export interface InitEvent {
  kind: number;
  event: number;
  value: number;
}

const OOM_SCORE = "/proc/self/oom_score_adj";

/**
 * Keeps a process that serves others alive while it starts something in a cgroup that may run out of memory meanwhile.
 * Until that executes bunc-init it shares this process's memory (CLONE_VM), and with memory.oom.group, which the kubelet
 * sets, the kernel kills all in the cgroup and whoever shares their memory: a shim, and with it all its containers. It
 * spares what has the score -1000 (cgroup-v2.rst), which takes CAP_SYS_RESOURCE.
 * @returns the score to go back to; undefined: it could not be changed
 */
function shield(): string | undefined {
  const score = readText(OOM_SCORE, 16);
  return typeof score === "string" && writeExisting(OOM_SCORE, "-1000") === 0 ? score : undefined;
}

/** bunc-init as a child of this process. */
export class Init {
  pid = -1;
  pidfd = -1;
  private sock = -1;
  private readonly ops: Op[] = [];
  private pending = new Uint8Array(0);
  private readonly trace = tracer?.init();

  /**
   * Starts init, in the namespaces of `flags`. It reads its program from the socket.
   *
   * @throws BuncError when clone3 or the start of init fails.
   */
  static spawn(options: SpawnOptions): Init {
    const init = new Init();
    const traced = init.trace ? (options.renews ? 2 : 1) : 0;
    if (options.fds.length + 1 + traced > abi.BUNC_MAX_FDS) {
      throw new BuncError(`more than ${abi.BUNC_MAX_FDS - 1} namespaces and mounts need a descriptor`, {
        code: "host",
      });
    }
    const pair = new Int32Array(2);
    const result = sys(
      abi.SYS_socketpair,
      abi.AF_UNIX,
      abi.SOCK_STREAM | abi.SOCK_CLOEXEC,
      0,
      new Uint8Array(pair.buffer),
    );
    if (result < 0) throw spawnError("socketpair", result);
    init.sock = pair[0]!;
    const request = new DataView(new ArrayBuffer(sizeof_.bunc_spawn));
    const fds = [pair[1]!, ...options.fds];
    for (let i = 0; i < traced; i++) fds.push(init.trace!.fd);
    request.setUint32(SPAWN.flags, options.flags, true);
    request.setInt32(SPAWN.cgroup, options.cgroup ?? -1, true);
    if (options.cgroup !== undefined) request.setUint32(SPAWN.flags + 4, INTO_CGROUP_HIGH, true);
    request.setInt32(SPAWN.pidns, options.pidns ?? -1, true);
    request.setInt32(SPAWN.first_fd, options.firstFd, true);
    request.setInt32(SPAWN.nfds, fds.length, true);
    for (let i = 0; i < fds.length; i++) request.setInt32(SPAWN.fds + i * 4, fds[i]!, true);
    request.setInt32(SPAWN.preserve, options.preserve, true);
    for (let i = 0; i < 3; i++) request.setInt32(SPAWN.stdio + i * 4, options.stdio?.[i] ?? -1, true);
    const score = options.cgroup !== undefined && servesOthers() ? shield() : undefined;
    const spawned = sys(abi.BUNC_CALL_SPAWN, new Uint8Array(request.buffer));
    if (score !== undefined) writeExisting(OOM_SCORE, score);
    closeFd(pair[1]);
    if (spawned < 0) {
      closeFd(init.sock);
      throw spawnError("clone3", spawned, options.flags);
    }
    init.pid = request.getInt32(SPAWN.pid, true);
    // It has inherited the score. Its program, which may set another, is yet to be sent.
    if (score !== undefined) writeExisting(`/proc/${init.pid}/oom_score_adj`, score);
    init.pidfd = request.getInt32(SPAWN.pidfd, true);
    init.trace?.born(init.pid, options.firstFd + options.fds.length + 1, options.renews === true);
    ownChildren.add(init.pid);
    launches.count++;
    return init;
  }

  /**
   * Starts one whose standard streams are the null device.
   * @throws BuncError as spawn
   */
  static spawnSilent(options: Omit<SpawnOptions, "stdio">): Init {
    const nothing = sys(abi.SYS_openat, abi.AT_FDCWD, "/dev/null", abi.O_RDWR | abi.O_CLOEXEC, 0);
    if (nothing < 0) throw pathError("open", "/dev/null", nothing);
    try {
      return Init.spawn({ ...options, stdio: [nothing, nothing, nothing] });
    } finally {
      closeFd(nothing);
    }
  }

  /**
   * Sends a part of the program. An init that is gone is noticed when its answer is read.
   *
   * @throws BuncError when the part cannot be sent to one that is there: it would wait for ever
   */
  send(part: Part): void {
    const first = this.ops.length;
    for (const op of part.ops) this.ops.push(op);
    const trace = this.trace?.sent(part.ops);
    const bytes = encodePart(part.ops, { first, fault: faultOf("init", first, part.ops), trace });
    const sent = writeAll(this.sock, bytes);
    if (sent === 0 || sent === -abi.EPIPE || sent === -abi.ECONNRESET) return;
    throw new BuncError(`cannot send its program to the container's init: write: ${errnoText(-sent)}`, {
      code: "launch",
      syscall: "write",
      errno: errnoName(-sent),
    });
  }

  /** Until init has told something, so that `next` does not block: for a process that serves others meanwhile. */
  async told(): Promise<void> {
    if (this.pending.length === 0) await waitReady([this.sock]);
  }

  /** Operations sent so far, by index. */
  get program(): readonly Op[] {
    return this.ops;
  }

  /**
   * The next event; undefined when init closed the socket: it executed the user's program, or it died.
   *
   * @throws BuncError of the operation that failed in init.
   */
  next(): InitEvent | undefined {
    const header = sizeof_.bunc_event;
    if (!this.fill(header)) {
      this.trace?.ended();
      return undefined;
    }
    const view = new DataView(this.pending.buffer, this.pending.byteOffset);
    const event = {
      kind: view.getUint32(EVENT.kind, true),
      event: view.getUint32(EVENT.event, true),
      value: Number(view.getBigInt64(EVENT.value, true)),
    };
    const index = view.getUint32(EVENT.index, true);
    const size = view.getUint32(EVENT.text_size, true);
    if (size > abi.BUNC_TEXT_MAX) throw unexpected();
    this.fill(header + size);
    const text = this.pending.slice(header, header + size);
    this.pending = this.pending.slice(header + size);
    if (event.kind === abi.BUNC_EVENT_ERROR) throw this.failure(index, event.value, text, event.event);
    if (event.kind === abi.BUNC_EVENT_FORKED) {
      this.adopt(event.value);
      return this.next();
    }
    return event;
  }

  private failure(index: number, errno: number, text: Uint8Array, step: number): BuncError {
    this.trace?.failed(index, errno);
    const op = this.ops[index];
    if (!op)
      return new BuncError(`container init: operation ${index}: ${errnoText(errno)}`, { code: "internal" });
    const error = opFailure(op, errno, text, step);
    const own = op.call === abi.SYS_unshare && op.args[0] === abi.CLONE_NEWUSER;
    const hint = own ? userNamespaceHint(errnoName(errno)) : undefined;
    return hint ? new BuncError(error.message, { ...error.fields, hint }) : error;
  }

  /** The process that goes on has another pid; the one that forked it is reaped. */
  private adopt(pid: number): void {
    waitChild(this.pidfd);
    closeFd(this.pidfd);
    this.pidfd = -1;
    // Who had taken init over could name any process, which would be killed for it.
    if (!isChild(pid)) throw unexpected();
    this.pid = pid;
    ownChildren.add(pid);
    this.pidfd = sys(abi.SYS_pidfd_open, pid, 0);
    if (this.pidfd >= 0) return;
    // It may have its whole program already.
    this.killByPid(pid);
    throw pathError("pidfd_open", String(pid), this.pidfd);
  }

  /** Ends and reaps a child; not being reaped, it keeps its pid. */
  private killByPid(pid: number): void {
    if (!isChild(pid)) return;
    sys(abi.SYS_kill, pid, abi.SIGKILL);
    sys(abi.SYS_wait4, pid, 0, 0, 0);
    ownChildren.delete(pid);
  }

  private fill(size: number): boolean {
    while (this.pending.length < size) {
      const buffer = new Uint8Array(sizeof_.bunc_event + abi.BUNC_TEXT_MAX);
      const n = sys(abi.SYS_read, this.sock, buffer, buffer.length);
      if (n === -abi.EINTR) continue;
      // Reset: it ended before it had read everything.
      if (n === 0 || n === -abi.ECONNRESET || n === -abi.EAGAIN) return false;
      if (n < 0) throw pathError("read", "the socket of the container's init", n);
      const joined = new Uint8Array(this.pending.length + n);
      joined.set(this.pending);
      joined.set(buffer.subarray(0, n), this.pending.length);
      this.pending = joined;
    }
    return true;
  }

  /** Ends the talk; init goes on by itself. */
  close(): void {
    if (this.sock < 0) return;
    closeFd(this.sock);
    this.sock = -1;
    launches.count--;
  }

  /** The process that goes on, where what the one before it told has not been read yet. */
  private killForked(): void {
    if (this.sock < 0 || sys(abi.SYS_fcntl, this.sock, abi.F_SETFL, abi.O_NONBLOCK) < 0) return;
    while (this.fill(sizeof_.bunc_event)) {
      const view = new DataView(this.pending.buffer, this.pending.byteOffset);
      const kind = view.getUint32(EVENT.kind, true);
      if (kind === abi.BUNC_EVENT_FORKED) this.killByPid(Number(view.getBigInt64(EVENT.value, true)));
      this.pending = this.pending.slice(sizeof_.bunc_event + view.getUint32(EVENT.text_size, true));
    }
  }

  /** Ends init too, and waits until it and all of its pid namespace are gone. */
  kill(): void {
    if (this.pidfd >= 0) killChild(this.pidfd);
    this.killForked();
    this.close();
    closeFd(this.pidfd);
    this.pidfd = -1;
  }
}

function unexpected(): BuncError {
  return new BuncError("container init told something unexpected", { code: "internal" });
}

/** CLONE_INTO_CGROUP is bit 33 of clone3's flags. */
const INTO_CGROUP_HIGH = abi.CLONE_INTO_CGROUP / 0x100000000;

function spawnError(call: string, result: number, flags = 0): BuncError {
  const errno = errnoName(-result);
  const hints: Record<string, string> = {
    EPERM: "making namespaces needs CAP_SYS_ADMIN, or a user namespace that this host allows",
    ENOSPC: "a limit in /proc/sys/user on the number of namespaces is reached",
    EACCES: "an executable memfd is refused: see sysctl vm.memfd_noexec",
    EAGAIN: "a limit on the number of processes is reached",
    EINVAL: "this kernel lacks one of the namespaces",
    EBUSY:
      "linux.cgroupsPath has controllers enabled for cgroups below it: processes must go into one of those",
    EOPNOTSUPP: "the cgroup at linux.cgroupsPath is threaded",
  };
  const hint = flags & abi.CLONE_NEWUSER ? (userNamespaceHint(errno) ?? hints[errno]) : hints[errno];
  return new BuncError(`cannot start the container's init: ${call}: ${errnoText(-result)}`, {
    code: "launch",
    phase: "namespaces",
    syscall: call,
    errno,
    ...(hint ? { hint } : {}),
  });
}

/** Which setting of the host keeps a user namespace from being made, where one does. */
export function userNamespaceHint(errno: string): string | undefined {
  if (errno === "ENOSPC") {
    return `user namespaces: user.max_user_namespaces is ${sysctl("user/max_user_namespaces") ?? "too low"}, or another limit in /proc/sys/user is reached; as root: sysctl -w user.max_user_namespaces=15000`;
  }
  if (errno !== "EPERM") return undefined;
  if (sysctl("kernel/unprivileged_userns_clone") === "0") {
    return "ordinary users may make no user namespaces; as root: sysctl -w kernel.unprivileged_userns_clone=1";
  }
  if (sysctl("kernel/apparmor_restrict_unprivileged_userns") === "1") {
    return "AppArmor keeps ordinary users from user namespaces; as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or the profile that `bunc doctor` shows";
  }
  return undefined;
}

function sysctl(name: string): string | undefined {
  const text = readText(`/proc/sys/${name}`, 64);
  return typeof text === "string" ? text.trim() : undefined;
}
