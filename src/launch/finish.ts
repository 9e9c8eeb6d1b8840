/** The end of every launch program, that of a container's first process and that of an exec: from the finished root to execve. */
import { abi } from "../linux/abi.gen.ts";
import type { LinuxSeccomp } from "../oci/config.ts";
import { type Context, Stage } from "./context.ts";
import { compileLookup, type Execve } from "./lookup.ts";
import { compileLabelOpening } from "./namespaces.ts";
import type { Step } from "./parts.ts";
import { compileAttributes, compileIdentity, compileLabels, compileSeccomp } from "./process.ts";
import type { Slot } from "./program.ts";
import { compileTerminal } from "./terminal.ts";

/** Name of the descriptor of the state directory, where the exec fifo lies. */
export const STATE_DIR_FD = "state-dir";
/** Name of the descriptor of the socket that gets a pidfd of init. */
export const PIDFD_FD = "pidfd-socket";

/** What only the first process of a container has done, whose modules an exec need not load. */
export interface FirstSteps {
  /** While it waits for `start`, processes of the container may take it over (renew.ts). */
  exposed: boolean;
  /** Puts the pty over /dev/console. */
  bindConsole(c: Context, peer: Slot): void;
  /** Once the terminal and all else that needs a writable root is made. */
  sealRoot(c: Context): void;
  /** The startContainer hooks. @param env the program's environment */
  hooks(c: Context, env: Execve["env"]): void;
}

/** From the finished root to execve. */
export function programSteps(c: Context, first?: FirstSteps): Step[] {
  // Without no_new_privs loading a filter is privileged, so it comes before the rights go; else it comes last.
  const early = !c.process.noNewPrivileges || Boolean(c.settings.seccomp?.listener);
  let listener: Slot | undefined;
  return [
    () => {
      compilePrepared(c, first);
      listener = early ? compileSeccomp(c) : undefined;
      return listener ? c.endPart(Stage.listener, listener) : undefined;
    },
    () => {
      if (listener) c.part.op(abi.SYS_close, [listener]);
      compileIdentity(c);
      // Init stands still while the parent sets device rules: they are briefly stricter than they will be. An exec has
      // its parent act only for a terminal.
      return c.endPart(first || c.process.terminal ? Stage.ready : Stage.none);
    },
    () => {
      compileEnd(c, first, early);
      return c.lastPart();
    },
  ];
}

/** What is done with all rights. */
function compilePrepared(c: Context, first: FirstSteps | undefined): void {
  compileLabelOpening(c);
  compileTerminal(c, first?.bindConsole);
  if (!c.process.terminal) c.part.at("process").op(abi.SYS_setsid, [], { tolerate: [[abi.EPERM, 0]] });
  compilePidfd(c);
  first?.sealRoot(c);
  c.part.at("rootfs").op(abi.SYS_close, [c.root]);
  compileAttributes(c);
}

function compileEnd(c: Context, first: FirstSteps | undefined, early: boolean): void {
  // The arguments of execve lie in the part that ends in it, so what fills them in is there too.
  const execve = compileLookup(c);
  compileLabels(c);
  let filtered = early;
  const filter = () => {
    if (!filtered) compileSeccomp(c);
    filtered = true;
  };
  if (first?.exposed && waitIsAllowed(c)) filter();
  if (c.settings.waitForStart) compileWait(c);
  // A startContainer hook may do no more than the program.
  if (c.spec.hooks?.startContainer?.length) filter();
  first?.hooks(c, execve.env);
  compileExec(c, execve, filtered);
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
  const path = c.ownFds ? [c.ownFds, String(dir)] : [dir, "exec.fifo"];
  c.part.op(abi.SYS_openat, [...path, abi.O_WRONLY | abi.O_CLOEXEC, 0], {
    slot: fifo,
    about: "open exec fifo",
  });
  c.part.op(abi.SYS_dup3, [fifo, sync, abi.O_CLOEXEC]);
  c.part.op(abi.BUNC_OP_ERRORS_TO, [sync]);
  c.part.op(abi.SYS_close, [fifo]);
  c.part.op(abi.SYS_close, [dir]);
  if (c.ownFds) c.part.op(abi.SYS_close, [c.ownFds]);
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

/** Whether the profile lets through what init still does when it waits for `start`. */
function waitIsAllowed({ spec }: Context): boolean {
  const profile = spec.linux?.seccomp;
  if (!profile) return false;
  for (const call of ["write", "openat", "dup3", "close", "fcntl", "execve", "exit_group"])
    if (!allows(profile, call)) return false;
  return true;
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
