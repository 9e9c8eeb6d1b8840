/** Which system calls this kernel has and lets this process make: each is made with arguments that can do nothing. */
import { abi } from "../linux/abi.gen.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import type { Outcome } from "./facts.ts";
import { outcome } from "./trial.ts";

/** Flags that no call knows. */
const NONSENSE = 0x7fff_0000;
const BAD_FD = -1;

/**
 * Calls that fail in a known way. EPERM is an answer of its own: a filter (of a container that bunc runs in, say) or a
 * missing capability, which the caller of this tells apart.
 */
export function probeCalls(): Record<string, Outcome> {
  const bytes = new Uint8Array(16);
  const AT_FDCWD = abi.AT_FDCWD;
  const AT_EMPTY_PATH = abi.AT_EMPTY_PATH;
  const results: Record<string, number> = {
    clone3: sys(abi.SYS_clone3, 0, 0),
    close_range: sys(abi.SYS_close_range, 2, 1, 0),
    execveat: sys(abi.SYS_execveat, BAD_FD, "", 0, 0, NONSENSE),
    faccessat2: sys(abi.SYS_faccessat2, AT_FDCWD, "/", 0, NONSENSE),
    fsconfig: sys(abi.SYS_fsconfig, BAD_FD, 0xffff, 0, 0, 0),
    fsmount: sys(abi.SYS_fsmount, BAD_FD, NONSENSE, 0),
    fsopen: sys(abi.SYS_fsopen, "", NONSENSE),
    memfd_create: sys(abi.SYS_memfd_create, "", NONSENSE),
    mount_setattr: sys(abi.SYS_mount_setattr, BAD_FD, "", AT_EMPTY_PATH, bytes, 0),
    move_mount: sys(abi.SYS_move_mount, BAD_FD, "", BAD_FD, "", NONSENSE),
    open_tree: sys(abi.SYS_open_tree, BAD_FD, "", NONSENSE),
    openat2: sys(abi.SYS_openat2, AT_FDCWD, "/", bytes, 0),
    pidfd_getfd: sys(abi.SYS_pidfd_getfd, BAD_FD, BAD_FD, NONSENSE),
    pidfd_open: sys(abi.SYS_pidfd_open, 0, 0),
    pidfd_send_signal: sys(abi.SYS_pidfd_send_signal, BAD_FD, 0, 0, NONSENSE),
    statx: sys(abi.SYS_statx, AT_FDCWD, "/", NONSENSE, 0, 0),
  };
  const found: Record<string, Outcome> = {};
  for (const name in results) {
    const end = outcome(results[name]!);
    found[name] = end === "ENOSYS" || end === "EPERM" ? end : "ok";
    if (results[name]! > 2) closeFd(results[name]);
  }
  return found;
}

/** Values of linux/seccomp.h, by the names of config.json. */
const ACTIONS: readonly [name: string, value: number][] = [
  ["SCMP_ACT_KILL_PROCESS", 0x80000000],
  ["SCMP_ACT_KILL_THREAD", 0],
  ["SCMP_ACT_TRAP", 0x00030000],
  ["SCMP_ACT_ERRNO", 0x00050000],
  ["SCMP_ACT_NOTIFY", 0x7fc00000],
  ["SCMP_ACT_TRACE", 0x7ff00000],
  ["SCMP_ACT_LOG", 0x7ffc0000],
  ["SCMP_ACT_ALLOW", 0x7fff0000],
];

/** Which actions a filter may answer with (seccomp(2), SECCOMP_GET_ACTION_AVAIL). */
export function probeSeccompActions(): Record<string, boolean> {
  const found: Record<string, boolean> = {};
  for (const [name, value] of ACTIONS) {
    const word = new Uint8Array(Uint32Array.of(value).buffer);
    found[name] = sys(abi.SYS_seccomp, abi.SECCOMP_GET_ACTION_AVAIL, 0, word) === 0;
  }
  return found;
}

/** Which flags filters may be loaded with: with a known one the kernel goes on to read the filter, which is not there. */
export function probeSeccompFlags(): Record<string, boolean> {
  const flags: readonly [name: string, value: number][] = [
    ["SECCOMP_FILTER_FLAG_TSYNC", abi.SECCOMP_FILTER_FLAG_TSYNC],
    ["SECCOMP_FILTER_FLAG_LOG", abi.SECCOMP_FILTER_FLAG_LOG],
    ["SECCOMP_FILTER_FLAG_SPEC_ALLOW", abi.SECCOMP_FILTER_FLAG_SPEC_ALLOW],
    [
      "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
      abi.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | abi.SECCOMP_FILTER_FLAG_NEW_LISTENER,
    ],
  ];
  const found: Record<string, boolean> = {};
  for (const [name, value] of flags) {
    found[name] = sys(abi.SYS_seccomp, abi.SECCOMP_SET_MODE_FILTER, value, 0) === -abi.EFAULT;
  }
  return found;
}
