/**
 * What the arguments of system calls mean: a name and a way to show each, by the call. A call that is not here is shown
 * with plain numbers, so a new one in the compiler never breaks `explain`.
 */
import { abi } from "../linux/abi.gen.ts";
import { argText, capabilitySets, type Show, type Signature, slotName } from "./explain-values.ts";
import * as flags from "./flag-names.ts";
import { type Arg, type Op, Slot } from "./program.ts";

/** Shows numbers by a function of flag-names.ts, and slots by name. */
function by(name: (value: number | bigint) => string): Show {
  return (arg, _op, names) => (isNumber(arg) ? name(arg) : argText(arg, names));
}

export function isNumber(arg: Arg | undefined): arg is number | bigint {
  return typeof arg === "number" || typeof arg === "bigint";
}

/** A descriptor by its name. */
export const fd: Show = (arg, _op, names) => (isNumber(arg) ? names.fd(arg) : argText(arg, names));
const omit: Show = () => undefined;
/** A pointer that may be NULL. */
const pointer: Show = (arg, _op, names) =>
  isNumber(arg) && Number(arg) === 0 ? "NULL" : argText(arg, names);
/** Left out when it is 0. */
const unlessZero: Show = (arg, _op, names) =>
  isNumber(arg) && Number(arg) === 0 ? undefined : argText(arg, names);
const unsigned32: Show = (arg, _op, names) => {
  if (!isNumber(arg)) return argText(arg, names);
  const value = Number(BigInt.asUintN(32, BigInt(arg)));
  return value === 0xffffffff ? "-1" : String(value);
};
/** Mode of a call with open flags: only where a file may be made. */
const openMode: Show = (arg, op, names) => {
  const given = op.args[2];
  if (isNumber(given) && !flags.opensNew(given)) return undefined;
  return by(flags.octal)(arg, op, names);
};
const at = (call: string): Show => by((value) => flags.atFlags(value, call));
const octal = by(flags.octal);
const open = by(flags.openFlags);
const mount = by(flags.mountFlags);

const FD: Signature[number] = ["fd", fd];
const DIR: Signature[number] = ["dirfd", fd];
const PATH: Signature[number] = ["path"];

function option(arg: Arg | undefined): number {
  return isNumber(arg) ? Number(arg) : -1;
}

/** prctl(2): which of its arguments mean something depends on the first. */
function prctl(op: Op): Signature {
  const head: Signature[number] = ["option", by(flags.prctlOption)];
  switch (option(op.args[0])) {
    case abi.PR_SET_NAME:
      return [head, ["name"]];
    case abi.PR_CAPBSET_DROP:
      return [head, ["capability", by(flags.capabilityName)]];
    case abi.PR_SET_PDEATHSIG:
      return [head, ["signal", by(flags.signalName)]];
    case abi.PR_CAP_AMBIENT:
      return option(op.args[1]) === abi.PR_CAP_AMBIENT_RAISE
        ? [head, ["command", by(flags.ambientCommand)], ["capability", by(flags.capabilityName)]]
        : [head, ["command", by(flags.ambientCommand)]];
    default:
      return [head, ["value"]];
  }
}

/** fsconfig(2). */
function fsconfig(op: Op): Signature {
  const head: Signature = [FD, ["command", by(flags.fsconfigCommand)]];
  switch (option(op.args[1])) {
    case abi.FSCONFIG_SET_FLAG:
      return [...head, ["key"]];
    case abi.FSCONFIG_SET_STRING:
      return [...head, ["key"], ["value"]];
    case abi.FSCONFIG_SET_FD:
      return [...head, ["key"], ["value", omit], ["fd", fd]];
    case abi.FSCONFIG_CMD_CREATE:
    case abi.FSCONFIG_CMD_RECONFIGURE:
      return head;
    default:
      return [...head, ["key"], ["value"], ["aux"]];
  }
}

function ioctl(op: Op): Signature {
  const head: Signature = [FD, ["request", by(flags.ioctlRequest)]];
  return [...head, ["argument", option(op.args[1]) === abi.TIOCGPTPEER ? open : unlessZero]];
}

function fcntl(op: Op): Signature {
  const head: Signature = [FD, ["command", by(flags.fcntlCommand)]];
  switch (option(op.args[1])) {
    case abi.F_SETFD:
      return [
        ...head,
        ["flags", by((value) => (Number(value) === abi.FD_CLOEXEC ? "FD_CLOEXEC" : String(value)))],
      ];
    case abi.F_SETFL:
      return [...head, ["flags", open]];
    case abi.F_ADD_SEALS:
      return [...head, ["seals", by(flags.sealFlags)]];
    default:
      return [...head, ["argument", unlessZero]];
  }
}

function keyctl(op: Op): Signature {
  const head: Signature[number] = ["command", by(flags.keyctlCommand)];
  switch (option(op.args[0])) {
    case abi.KEYCTL_JOIN_SESSION_KEYRING:
      return [head, ["name", pointer]];
    case abi.KEYCTL_SETPERM:
      return [head, ["key"], ["permissions", by((value) => `0x${value.toString(16)}`)]];
    default:
      return [head, ["arg2", unlessZero], ["arg3", unlessZero], ["arg4", unlessZero]];
  }
}

/** mount(2): a change of an existing mount has neither a source nor a type. */
function mountCall(op: Op): Signature {
  const change = abi.MS_REMOUNT | abi.MS_PRIVATE | abi.MS_SLAVE | abi.MS_SHARED | abi.MS_UNBINDABLE;
  const changes = (option(op.args[3]) & change) !== 0;
  return [
    ["source", changes ? unlessZero : pointer],
    ["target"],
    ["type", unlessZero],
    ["flags", mount],
    ["data", unlessZero],
  ];
}

/** The set of CPUs or nodes in a mask, as the kernel writes lists: "0-3,7". */
const numberSet: Show = (arg, _op, names) => {
  if (!(arg instanceof Uint8Array)) return pointer(arg, _op, names);
  const numbers: number[] = [];
  for (let n = 0; n < arg.length * 8; n++) if (((arg[n >> 3] ?? 0) >> (n & 7)) & 1) numbers.push(n);
  const ranges: string[] = [];
  for (let i = 0; i < numbers.length; i++) {
    const from = numbers[i]!;
    while (numbers[i + 1] === numbers[i]! + 1) i++;
    ranges.push(from === numbers[i] ? `${from}` : `${from}-${numbers[i]}`);
  }
  return `{${ranges.join(",")}}`;
};

const idList: Show = (arg, _op, names) => {
  if (!(arg instanceof Uint8Array)) return pointer(arg, _op, names);
  const view = new DataView(arg.buffer, arg.byteOffset, arg.length);
  const ids = Array.from({ length: arg.length >> 2 }, (_, i) => view.getUint32(i * 4, true));
  return `[${ids.join(", ")}]`;
};

const capData: Show = (arg, _op, names) =>
  arg instanceof Uint8Array && arg.length === 24 ? `{${capabilitySets(arg)}}` : argText(arg, names);

const device: Show = (arg, op, names) => {
  const mode = op.args[2];
  const type = isNumber(mode) ? Number(mode) & abi.S_IFMT : 0;
  if (isNumber(arg) && type !== abi.S_IFCHR && type !== abi.S_IFBLK) return undefined;
  return by(flags.device)(arg, op, names);
};

const IO_CLASSES = ["none", "realtime", "best-effort", "idle"];
const ioPriority = by(
  (value) => `${IO_CLASSES[Number(value) >> 13] ?? Number(value) >> 13}:${Number(value) & 0x1fff}`,
);
const personality = by((value) =>
  Number(value) === abi.PER_LINUX32
    ? "PER_LINUX32"
    : Number(value) === abi.PER_LINUX
      ? "PER_LINUX"
      : String(value),
);
const closeRangeEnd = by((value) =>
  Number(BigInt.asUintN(32, BigInt(value))) === 0xffffffff ? "~0" : String(value),
);
const hidden: Show = (arg, op, names) => (arg instanceof Slot ? slotName(arg) : omit(arg, op, names));

const CALLS: Readonly<Record<string, Signature | ((op: Op) => Signature)>> = {
  accept4: [FD, ["address", pointer], ["length", pointer], ["flags", by(flags.socketType)]],
  bind: [FD, ["address"], ["length"]],
  bpf: [["command", by(flags.bpfCommand)], ["attr"], ["size"]],
  capset: [
    ["header", hidden],
    ["sets", capData],
  ],
  chdir: [PATH],
  chroot: [PATH],
  clone3: [["args"], ["size", omit]],
  close: [FD],
  close_range: [["first"], ["last", closeRangeEnd], ["flags", unlessZero]],
  connect: [FD, ["address"], ["length"]],
  dup3: [
    ["old", fd],
    ["new", fd],
    [
      "flags",
      by((value) =>
        Number(value) === 0 ? "0" : flags.openFlags(Number(value) | abi.O_PATH).replace(/\|?O_PATH/, ""),
      ),
    ],
  ],
  execve: [["path"], ["argv"], ["envp"]],
  execveat: [DIR, PATH, ["argv"], ["envp"], ["flags", at("execveat")]],
  exit_group: [["status"]],
  faccessat2: [DIR, PATH, ["mode"], ["flags", at("faccessat")]],
  fchdir: [FD],
  fchmod: [FD, ["mode", octal]],
  fchmodat: [DIR, PATH, ["mode", octal]],
  fchown: [FD, ["uid", unsigned32], ["gid", unsigned32]],
  fchownat: [DIR, PATH, ["uid", unsigned32], ["gid", unsigned32], ["flags", at("fchownat")]],
  fcntl,
  flock: [FD, ["operation", by(flags.lockFlags)]],
  fsconfig,
  fsmount: [FD, ["flags", by(flags.fsmountFlags)], ["attributes", by(flags.mountAttributes)]],
  fsopen: [["type"], ["flags", by(flags.fsopenFlags)]],
  fstatfs: [FD, ["buffer"]],
  ftruncate: [FD, ["length"]],
  getpid: [],
  getppid: [],
  gettid: [],
  ioctl,
  ioprio_set: [
    [
      "which",
      by((value) => (Number(value) === abi.IOPRIO_WHO_PROCESS ? "IOPRIO_WHO_PROCESS" : String(value))),
    ],
    ["who"],
    ["priority", ioPriority],
  ],
  keyctl,
  kill: [["pid"], ["signal", by(flags.signalName)]],
  linkat: [["olddir", fd], ["old"], ["newdir", fd], ["new"], ["flags", at("linkat")]],
  memfd_create: [["name"], ["flags", by(flags.memfdFlags)]],
  mkdirat: [DIR, PATH, ["mode", octal]],
  mknodat: [DIR, PATH, ["mode", by(flags.fileMode)], ["device", device]],
  mount: mountCall,
  mount_setattr: [DIR, PATH, ["flags", at("mount_setattr")], ["attr"], ["size", omit]],
  move_mount: [["from", fd], ["from_path"], ["to", fd], ["to_path"], ["flags", by(flags.moveMountFlags)]],
  newfstatat: [FD, PATH, ["buffer"], ["flags", at("newfstatat")]],
  open_tree: [DIR, PATH, ["flags", by(flags.openTreeFlags)]],
  openat: [DIR, PATH, ["flags", open], ["mode", openMode]],
  openat2: [DIR, PATH, ["how"], ["size", omit]],
  personality: [["persona", personality]],
  pidfd_open: [["pid"], ["flags", unlessZero]],
  pidfd_send_signal: [
    ["pidfd", fd],
    ["signal", by(flags.signalName)],
    ["info", unlessZero],
    ["flags", unlessZero],
  ],
  pivot_root: [["new_root"], ["put_old"]],
  pread64: [FD, ["buffer"], ["size"], ["offset"]],
  prctl,
  prlimit64: [["pid"], ["resource", by(flags.resourceLimit)], ["limit"], ["old", unlessZero]],
  read: [FD, ["buffer"], ["size"]],
  readlinkat: [DIR, PATH, ["buffer"], ["size"]],
  renameat: [["olddir", fd], ["old"], ["newdir", fd], ["new"]],
  sched_setaffinity: [["pid"], ["size", omit], ["cpus", numberSet]],
  sched_setattr: [["pid"], ["attr"], ["flags", unlessZero]],
  seccomp: [["operation", by(flags.seccompOperation)], ["flags", by(flags.seccompFlags)], ["program"]],
  sendto: [FD, ["bytes"], ["size"], ["flags", by(flags.messageFlags)], ["address", pointer], ["length"]],
  set_mempolicy: [
    ["mode", by(flags.memoryPolicy)],
    ["nodes", numberSet],
    ["size", omit],
  ],
  setdomainname: [["name"], ["size", omit]],
  setgroups: [
    ["count", omit],
    ["groups", idList],
  ],
  sethostname: [["name"], ["size", omit]],
  setns: [FD, ["type", by(flags.cloneFlags)]],
  setpgid: [["pid"], ["pgid"]],
  setresgid: [["real"], ["effective"], ["saved"]],
  setresuid: [["real"], ["effective"], ["saved"]],
  setsid: [],
  setsockopt: [FD, ["level"], ["option"], ["value"], ["size", omit]],
  socket: [
    ["family", by(flags.addressFamily)],
    ["type", by(flags.socketType)],
    ["protocol", unlessZero],
  ],
  socketpair: [
    ["family", by(flags.addressFamily)],
    ["type", by(flags.socketType)],
    ["protocol", unlessZero],
    ["pair", omit],
  ],
  statfs: [PATH, ["buffer"]],
  symlinkat: [["target"], DIR, PATH],
  umask: [["mask", octal]],
  umount2: [PATH, ["flags", by(flags.unmountFlags)]],
  unlinkat: [DIR, PATH, ["flags", at("unlinkat")]],
  unshare: [["flags", by(flags.cloneFlags)]],
  utimensat: [DIR, PATH, ["times", pointer], ["flags", at("utimensat")]],
  write: [FD, ["bytes"], ["size", omit]],
};

const UNKNOWN: Signature = [["arg1"], ["arg2"], ["arg3"], ["arg4"], ["arg5"], ["arg6"]];

/** Whether this file knows what the arguments of a call mean. */
export function isKnownCall(name: string): boolean {
  return Object.hasOwn(CALLS, name);
}

/** The arguments of an operation's call. */
export function signature(name: string, op: Op): Signature {
  const found = isKnownCall(name) ? CALLS[name]! : UNKNOWN;
  return typeof found === "function" ? found(op) : found;
}
