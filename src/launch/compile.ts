/**
 * The launch compiler: a validated bundle, settings and facts about the host in, a launch program out. Pure: it
 * touches nothing, so `explain` and the tests see exactly what would be executed.
 */
import { abi } from "../linux/abi.gen.ts";
import type { LinuxSeccomp, Spec } from "../oci/config.ts";
import {
  Context,
  type HostFacts,
  type InheritedFd,
  type LaunchSettings,
  type SentPart,
  Stage,
} from "./context.ts";
import { compileDevices, compileNullStreams } from "./devices.ts";
import { compileHooks } from "./hooks.ts";
import { compileLookup, type Execve } from "./lookup.ts";
import { planTrees } from "./mount-sources.ts";
import { compileMounts, compileReadonlyMounts } from "./mounts.ts";
import {
  type Birth,
  compileCgroupNamespace,
  compileClocks,
  compileHiding,
  compileMountNamespaceJoin,
  compileNamespaces,
  compileTime,
  planBirth,
} from "./namespaces.ts";
import { compileMaskedPaths, compileReadonlyPaths } from "./paths.ts";
import {
  compileAttributes,
  compileIdentity,
  compileKeyring,
  compileLabels,
  compileNames,
  compileSeccomp,
  compileSysctl,
} from "./process.ts";
import { Struct } from "./program.ts";
import { compilePivot, compileReadonlyRoot, compileRoot, compileRootPropagation } from "./rootfs.ts";
import { compileHostMaster, compileTerminal, planTerminal } from "./terminal.ts";

/** What is known before init runs: how it is born, and which descriptors it inherits. */
export interface LaunchPlan {
  birth: Birth;
  fds: readonly InheritedFd[];
  /** Number of the first inherited descriptor in init. */
  firstFd: number;
  /** The parts that init executes while the rest is compiled: two with a new user namespace, else one. */
  first: readonly SentPart[];
}

/** Name of the descriptor of the state directory, where the exec fifo lies. */
export const STATE_DIR_FD = "state-dir";
/** Name of the descriptor of the socket that gets a pidfd of init. */
export const PIDFD_FD = "pidfd-socket";

/** Compiles in two steps, because init already works on the first part while the second is made. */
export class Launch {
  readonly context: Context;
  readonly plan: LaunchPlan;

  constructor(spec: Spec, settings: LaunchSettings, host: HostFacts) {
    const c = new Context(spec, settings, host);
    this.context = c;
    if (settings.waitForStart) c.inherit({ name: STATE_DIR_FD, from: { kind: "state-dir" } });
    if (settings.pidfdSocket) c.inherit({ name: PIDFD_FD, from: { kind: "pidfd-socket" } });
    planTerminal(c);
    const birth = planBirth(c);
    planTrees(c);
    this.plan = { birth, fds: c.fds, firstFd: c.firstFd, first: compileNamespaces(c) };
  }

  /** The parts after the first, in the order they are sent; init can work on one while the next is compiled. */
  *rest(): Generator<SentPart, void> {
    const c = this.context;
    compileBody(c);
    yield* compileRootfs(c);
    yield* compileProgram(c);
  }
}

function compileBody(c: Context): void {
  const { part } = c;
  compileClocks(c);
  if (c.namespace("user")) {
    part.at("ids", "linux.uidMappings");
    // The parent has mapped the ids; root of the namespace is who sets the container up.
    part.op(abi.SYS_setresgid, [0, 0, 0], { tolerate: [[abi.EINVAL, 0]] });
    part.op(abi.SYS_setresuid, [0, 0, 0], { tolerate: [[abi.EINVAL, 0]] });
  }
  if (!c.namespace("user")?.path) compileHiding(c);
  part.at("process");
  part.op(abi.SYS_umask, [0]);
  compileKeyring(c);
  if (!c.namespace("user")) c.settings.enterCgroup?.(c.part);
  compileCgroupNamespace(c);
  compileTime(c);
  compileLoopback(c);
  c.settings.netDevices?.compileSetup(c);
  compileNames(c);
  compileSysctl(c);
  compileMountNamespaceJoin(c);
}

/** A new network namespace has a loopback device, but it is down. */
function compileLoopback(c: Context): void {
  if (!c.isNew("network")) return;
  const sock = c.slots.take("socket");
  const request = new Struct(40, "ifreq");
  request.view.setUint16(0, 0x6f6c, true); // "lo"
  request.view.setUint16(abi.IFNAMSIZ, abi.IFF_UP | abi.IFF_RUNNING, true);
  c.part.at("network", c.namespace("network")!.at);
  c.part.op(abi.SYS_socket, [abi.AF_INET, abi.SOCK_DGRAM | abi.SOCK_CLOEXEC, 0], { slot: sock });
  c.part.op(abi.SYS_ioctl, [sock, abi.SIOCSIFFLAGS, request], {
    about: "cannot bring the loopback device up",
  });
  c.part.op(abi.SYS_close, [sock]);
  c.slots.give(sock);
}

/** Everything between the namespaces and the program: root, mounts, devices, hooks, change of root. */
function* compileRootfs(c: Context): Generator<SentPart, void> {
  const hooks = c.spec.hooks ?? {};
  if (c.namespace("mount")) {
    compileRoot(c);
    compileMounts(c);
    yield c.endPart(Stage.none);
    compileDevices(c);
  } else {
    c.part.at("rootfs", "root.path");
    c.part.op(
      abi.SYS_openat,
      [abi.AT_FDCWD, c.settings.rootfs, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0],
      { slot: c.root, about: `cannot open the rootfs ${JSON.stringify(c.settings.rootfs)}` },
    );
    compileHostMaster(c);
  }
  if (hooks.prestart?.length || hooks.createRuntime?.length) {
    c.part.at("hooks", "hooks");
    yield c.endPart(Stage.mounted);
  }
  if (hooks.createContainer?.length) {
    c.part.at("hooks").op(abi.SYS_fchdir, [c.root]);
    compileHooks(c, "createContainer", c.settings.hookEnv);
  }
  compilePivot(c);
  if (!c.namespace("mount")) return;
  compileRootPropagation(c);
  compileNullStreams(c);
  c.part.at("process", "process.cwd");
  const cwd = c.slots.take("working directory");
  c.part.op(abi.BUNC_OP_MKPATH, [c.root, c.process.cwd, abi.S_IFDIR, 0o755], {
    slot: cwd,
    tolerate: [[abi.EACCES, 1]],
    about: `cannot make the working directory ${JSON.stringify(c.process.cwd)}`,
  });
  c.part.op(abi.SYS_close, [cwd]);
  c.slots.give(cwd);
}

/** From the finished root to execve. */
export function* compileProgram(c: Context): Generator<SentPart, void> {
  compileTerminal(c);
  if (!c.process.terminal) c.part.at("process").op(abi.SYS_setsid, [], { tolerate: [[abi.EPERM, 0]] });
  compilePidfd(c);
  if (c.namespace("mount")) {
    compileReadonlyMounts(c);
    compileReadonlyPaths(c);
    compileMaskedPaths(c);
    compileReadonlyRoot(c);
  }
  c.part.at("rootfs").op(abi.SYS_close, [c.root]);
  compileAttributes(c);
  // Without no_new_privs loading a filter is privileged, so it comes before the rights go; else it comes last.
  const early = !c.process.noNewPrivileges || Boolean(c.settings.seccomp?.listener);
  const listener = early ? compileSeccomp(c) : undefined;
  if (listener) {
    yield c.endPart(Stage.listener, listener);
    c.part.op(abi.SYS_close, [listener]);
  }
  compileIdentity(c);
  const hooks = c.spec.hooks?.startContainer;
  // Init stands still while the parent sets device rules: they are briefly stricter than they will be.
  yield c.endPart(Stage.ready);
  // The arguments of execve lie in the part that ends in it, so what fills them in is there too.
  const execve = compileLookup(c);
  compileLabels(c);
  if (c.settings.waitForStart) compileWait(c);
  // A startContainer hook may do no more than the program.
  const filtered = early || Boolean(hooks?.length);
  if (filtered && !early) compileSeccomp(c);
  // runc gives startContainer hooks the program's environment when they have none; people rely on it.
  compileHooks(c, "startContainer", execve.env);
  compileExec(c, execve, filtered);
  yield c.lastPart();
}

/** --pidfd-socket: a pidfd of init, opened by init itself as the parent sees another namespace. */
function compilePidfd(c: Context): void {
  const socket = c.fd(PIDFD_FD);
  if (socket === undefined) return;
  const pidfd = c.slots.take("pidfd");
  const pid = c.slots.take("pid");
  const name = new TextEncoder().encode("standard");
  c.part.at("process");
  c.part.op(abi.SYS_getpid, [], { slot: pid });
  c.part.op(abi.SYS_pidfd_open, [pid, 0], { slot: pidfd, about: "cannot open a pidfd of the container" });
  c.part.op(abi.BUNC_OP_SENDFD, [socket, pidfd, name, name.length], {
    about: "failed to send pidfd to the socket",
  });
  c.part.op(abi.SYS_close, [pidfd]);
  c.part.op(abi.SYS_close, [socket]);
  c.slots.give(pidfd, pid);
}

/**
 * create: tells the parent that the container is there, then waits in the open of the exec fifo for `start`, in runc's
 * protocol: a "0" is written once somebody reads. The fifo then takes the socket's place, so that a failure after it
 * is read by `start`; execve closes it.
 */
function compileWait(c: Context): void {
  const dir = c.fd(STATE_DIR_FD)!;
  const sync = c.fd("sync")!;
  const fifo = c.slots.take("exec fifo");
  const zero = new TextEncoder().encode("0");
  c.part.at("start");
  c.part.op(abi.BUNC_OP_REPORT, [Stage.created, 0]);
  c.part.op(abi.SYS_openat, [dir, "exec.fifo", abi.O_WRONLY | abi.O_CLOEXEC, 0], {
    slot: fifo,
    about: "open exec fifo",
  });
  c.part.op(abi.SYS_dup3, [fifo, sync, abi.O_CLOEXEC]);
  c.part.op(abi.BUNC_OP_ERRORS_TO, [sync]);
  c.part.op(abi.SYS_close, [fifo]);
  c.part.op(abi.SYS_close, [dir]);
  c.part.op(abi.BUNC_OP_WRITE, [sync, zero, 1], { about: "write exec fifo" });
  c.slots.give(fifo);
}

/** Whether a profile surely lets a call through, whatever its arguments are. */
export function allows({ defaultAction, syscalls = [] }: LinuxSeccomp, call: string): boolean {
  const passes = (action: string) => action === "SCMP_ACT_ALLOW" || action === "SCMP_ACT_LOG";
  let allowed = passes(defaultAction);
  for (const { names, action, args } of syscalls) {
    if (!names.includes(call)) continue;
    if (!passes(action)) return false;
    if (!args?.length) allowed = true;
  }
  return allowed;
}

function compileExec(c: Context, execve: Execve, seccompLoaded: boolean): void {
  const sync = c.fd("sync")!;
  c.part.at("start");
  c.part.op(abi.SYS_fcntl, [sync, abi.F_SETFD, abi.FD_CLOEXEC]);
  // Nothing of init's may be reached through /proc/self/fd by the path of the program (CVE-2024-21626).
  if (seccompLoaded && c.spec.linux?.seccomp && !allows(c.spec.linux.seccomp, "close_range")) {
    // Profiles older than the call refuse it. What is open was inherited or is kept in a slot, at the lowest free number.
    const end = c.firstFd + c.fds.length + c.slots.most;
    for (let fd = sync + 1; fd < end; fd++) c.part.op(abi.SYS_close, [fd], { tolerate: [[abi.EBADF, 0]] });
  } else {
    c.part.op(abi.SYS_close_range, [sync + 1, 0xffffffff, 0]);
  }
  if (!seccompLoaded) compileSeccomp(c);
  c.part.at("start", "process.args");
  c.part.op(abi.SYS_execve, execve.args, { about: `exec ${c.process.args![0]}` });
}
