/**
 * For tests: the library under test, profiles of the size and kind that container engines use, and a model that
 * decides a system call from the profile's text alone, without BPF.
 */
import { describe, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, renameSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { mobyProfileText, profileMissing } from "../../test/rig/moby-profile.ts";
import type { LinuxSeccomp, LinuxSyscall } from "../oci/config.ts";
import { BpfProgram, type SyscallData } from "./bpf-vm.ts";
import { compileSeccomp } from "./compile.ts";
import { openSeccompLibrary, type SeccompLibrary } from "./native.ts";

const ROOT = join(import.meta.dir, "../..");
const SOURCES = ["c/libseccomp-bunc.c", "c/libseccomp-layout.c"].map((path) => join(ROOT, path));
const HEADER = join(ROOT, "c/libseccomp-bunc.h");

/** The numbers and architectures that most tests expect are those of an x86_64 machine. */
export const describeX86 = describe.skipIf(process.arch !== "x64");

/** AUDIT_ARCH_* as system calls arrive with them. */
export const AUDIT_X86_64 = 0xc000003e;
export const AUDIT_I386 = 0x40000003;
export const AUDIT_AARCH64 = 0xc00000b7;

/** SECCOMP_RET_* with their values. */
export const ALLOW = 0x7fff0000;
export const KILL = 0;
export const errno = (value: number) => 0x00050000 + value;
export const EPERM = errno(1);
export const ENOSYS = errno(38);

/** Where the tests build the library themselves; git-ignored. */
const CACHED = join(ROOT, ".cache/libbunc-seccomp.so");

/** Path of libbunc-seccomp.so: what `make` built, or, where that is absent or old, a build of the tests' own. */
export function testLibraryPath(): string {
  const newest = Math.max(...[...SOURCES, HEADER].map((path) => statSync(path).mtimeMs));
  for (const path of [join(ROOT, "build/libbunc-seccomp.so"), CACHED]) {
    if (existsSync(path) && statSync(path).mtimeMs >= newest) return path;
  }
  mkdirSync(dirname(CACHED), { recursive: true });
  const temporary = `${CACHED}.${process.pid}`;
  const flags = [
    "-O2",
    "-std=gnu17",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
  ];
  const libseccomp = ["-Wl,-Bstatic", "-lseccomp", "-Wl,-Bdynamic", "-Wl,--exclude-libs,ALL"];
  const gcc = Bun.spawnSync(["gcc", ...flags, "-o", temporary, ...SOURCES, ...libseccomp]);
  if (gcc.exitCode !== 0) throw new Error(`cannot build libbunc-seccomp.so: ${gcc.stderr}`);
  renameSync(temporary, CACHED);
  return CACHED;
}

let library: SeccompLibrary | undefined;

export function testLibrary(): SeccompLibrary {
  library ??= openSeccompLibrary(testLibraryPath());
  return library;
}

/** A profile as a test writes it, broken ones included. */
export function profileOf(value: unknown): LinuxSeccomp {
  return value as LinuxSeccomp;
}

/** Compiles and loads into the test's BPF machine. */
export function program(profile: unknown): BpfProgram {
  const compiled = compileSeccomp(profileOf(profile), testLibrary());
  if (!compiled) throw new Error("the profile asks for no filter");
  return new BpfProgram(compiled.filter);
}

/** Number of a system call on an architecture by libseccomp's name of it, e.g. "x86". */
export function numberOf(name: string, arch = "x86_64"): number {
  const lib = testLibrary();
  return lib.resolve([lib.arch(arch)], [name])[0]!;
}

const ORDINARY = `read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask
  rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore madvise shmget
  shmat shmctl dup dup2 pause nanosleep getitimer alarm setitimer getpid sendfile connect accept sendto recvfrom
  sendmsg recvmsg shutdown bind listen getsockname getpeername socketpair setsockopt getsockopt fork vfork execve exit
  wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock fsync fdatasync truncate
  ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink readlink chmod fchmod chown
  fchown lchown umask gettimeofday getrlimit getrusage sysinfo times getuid syslog getgid setuid setgid geteuid
  getegid setpgid getppid getpgrp setsid setreuid setregid getgroups setgroups setresuid getresuid setresgid getresgid
  getpgid setfsuid setfsgid getsid capget capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend
  sigaltstack utime mknod statfs fstatfs getpriority setpriority sched_setparam sched_getparam sched_setscheduler
  sched_getscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval mlock munlock mlockall
  munlockall prctl arch_prctl setrlimit sync gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr
  listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr tkill time futex sched_setaffinity
  sched_getaffinity io_setup io_destroy io_getevents io_submit io_cancel epoll_create getdents64 set_tid_address
  restart_syscall semtimedop fadvise64 timer_create timer_settime timer_gettime timer_getoverrun timer_delete
  clock_gettime clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes mq_open mq_unlink
  mq_timedsend mq_timedreceive mq_notify mq_getsetattr waitid ioprio_set ioprio_get inotify_init inotify_add_watch
  inotify_rm_watch openat mkdirat mknodat fchownat futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat
  fchmodat faccessat pselect6 ppoll set_robust_list get_robust_list splice tee sync_file_range vmsplice utimensat
  epoll_pwait signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime accept4 signalfd4 eventfd2
  epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev recvmmsg prlimit64 syncfs sendmmsg getcpu sched_setattr
  sched_getattr renameat2 seccomp getrandom memfd_create execveat mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect
  pkey_alloc pkey_free statx rseq close_range openat2 faccessat2 epoll_pwait2 futex_waitv
  _llseek chown32 fchown32 lchown32 getuid32 getgid32 geteuid32 getegid32 setuid32 setgid32 fcntl64 fstat64 lstat64
  stat64 fstatat64 ftruncate64 truncate64 statfs64 fstatfs64 mmap2 ugetrlimit waitpid sigreturn set_thread_area
  clock_gettime64 futex_time64 pselect6_time64 ppoll_time64 sendfile64 socketcall ipc nice recv send`;

/**
 * A profile in the manner of Docker's default one, written for these tests: EPERM unless allowed, 300-odd names of
 * all ABIs of the machine, conditions on personality, clone and socket, and clone3 answered with ENOSYS.
 */
export function engineProfile(): LinuxSeccomp {
  const allow = (names: string[], args?: LinuxSyscall["args"]): LinuxSyscall => ({
    names,
    action: "SCMP_ACT_ALLOW",
    ...(args ? { args } : {}),
  });
  return {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: 1,
    architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    syscalls: [
      allow([...ORDINARY.split(/\s+/), "no_such_call_1", "no_such_call_2"]),
      allow(["personality"], [{ index: 0, value: 0, op: "SCMP_CMP_EQ" }]),
      allow(["personality"], [{ index: 0, value: 0x20000, op: "SCMP_CMP_EQ" }]),
      allow(["personality"], [{ index: 0, value: 0xffffffff, op: "SCMP_CMP_EQ" }]),
      allow(["clone"], [{ index: 0, value: 0x7e020000, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }]),
      allow(["socket"], [{ index: 0, value: 38, op: "SCMP_CMP_LT" }]),
      allow(["socket"], [{ index: 0, value: 40, op: "SCMP_CMP_GT" }]),
      { names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: 38 },
    ],
  };
}

/**
 * The part of a profile file of moby or containers-common that applies to an unprivileged container on x86_64: what
 * the engine puts into config.json.
 */
function engineFileProfile(text: string): LinuxSeccomp {
  type Filter = { caps?: string[]; arches?: string[]; minKernel?: string } | null;
  type Entry = LinuxSyscall & { includes?: Filter; excludes?: Filter };
  const file = JSON.parse(text);
  const caps = new Set(
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID".split(" "),
  );
  const has = (name: string) => caps.has(name.replace("CAP_", ""));
  const applies = ({ includes, excludes }: Entry) =>
    !excludes?.arches?.includes("amd64") &&
    !excludes?.caps?.some(has) &&
    !excludes?.minKernel &&
    (!includes?.arches?.length || includes.arches.includes("amd64")) &&
    (includes?.caps ?? []).every(has);
  return profileOf({
    defaultAction: file.defaultAction,
    defaultErrnoRet: file.defaultErrnoRet,
    architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    syscalls: (file.syscalls as Entry[])
      .filter(applies)
      .map(({ names, action, args, errnoRet }) => ({ names, action, args, errnoRet })),
  });
}

/** The file of containers-common, where podman is installed. */
const PODMAN = "/usr/share/containers/seccomp.json";

/**
 * Default profiles of engines for tests to run through: the one above, moby's as test/rig/moby-profile.ts fetches it, and
 * podman's where it is installed. Where moby's cannot be had, a skipped test says why.
 */
export function engineProfiles(): [name: string, make: () => LinuxSeccomp][] {
  const missing = profileMissing();
  if (missing !== undefined) test.skip(`moby's default profile (skipped: ${missing})`, () => {});
  return [
    ["written for these tests", engineProfile],
    ...(missing === undefined
      ? [["moby's", () => engineFileProfile(mobyProfileText())] as [string, () => LinuxSeccomp]]
      : []),
    ...(existsSync(PODMAN)
      ? [[PODMAN, () => engineFileProfile(readFileSync(PODMAN, "utf8"))] as [string, () => LinuxSeccomp]]
      : []),
  ];
}

/** Decides from the profile itself, as config-linux.md and runc say, for the three ABIs of x86_64. */
export class Model {
  readonly #rules = new Map<number, Map<number, { action: number; args: LinuxSyscall["args"] }[]>>();
  readonly #last = new Map<number, number>();
  readonly #default: number;

  constructor(profile: LinuxSeccomp) {
    const lib = testLibrary();
    this.#default = this.#action(profile.defaultAction, profile.defaultErrnoRet);
    const archs = (profile.architectures ?? []).map((name) => lib.arch(name.slice(10).toLowerCase()));
    for (const arch of new Set([lib.info.native, ...archs])) {
      const rules = new Map<number, { action: number; args: LinuxSyscall["args"] }[]>();
      let last = 0;
      for (const syscall of profile.syscalls ?? []) {
        const numbers = lib.resolve([arch, lib.info.native], syscall.names);
        for (let n = 0; n < syscall.names.length; n++) {
          const number = arch === lib.arch("x86") ? direct(syscall.names[n]!, numbers[n]!) : numbers[n]!;
          last = Math.max(last, numbers[n]!);
          const action = this.#action(syscall.action, syscall.errnoRet);
          if (number < 0 || numbers[syscall.names.length + n] === -1 || action === this.#default) continue;
          rules.set(number, [...(rules.get(number) ?? []), { action, args: syscall.args }]);
        }
      }
      this.#rules.set(arch, rules);
      if (last > 0) this.#last.set(arch, last);
    }
  }

  #action(name: string, value: number | null | undefined): number {
    if (name === "SCMP_ACT_ERRNO") return errno(value ?? 1);
    if (name === "SCMP_ACT_ALLOW") return ALLOW;
    throw new Error(`the model does not know ${name}`);
  }

  decide({ nr, arch, args = [] }: SyscallData): number {
    const { x32 } = testLibrary().info;
    const token = arch === AUDIT_X86_64 && nr >= 0x40000000 && this.#rules.has(x32) ? x32 : arch;
    const rules = this.#rules.get(token);
    if (!rules) return KILL;
    const last = this.#last.get(token);
    if (last !== undefined && this.#default !== ALLOW && nr > last) return ENOSYS;
    const bits = arch === AUDIT_X86_64 && token !== x32 ? 64 : 32;
    for (const rule of rules.get(nr) ?? []) {
      if ((rule.args ?? []).every((arg) => holds(arg, BigInt.asUintN(bits, args[arg.index] ?? 0n))))
        return rule.action;
    }
    return this.#default;
  }
}

/** libseccomp resolves the calls that i386 once had only through socketcall and ipc to numbers of its own. */
function direct(name: string, number: number): number {
  const since4_3: Record<string, number> = {
    socket: 359,
    socketpair: 360,
    bind: 361,
    connect: 362,
    listen: 363,
    accept4: 364,
    getsockopt: 365,
    setsockopt: 366,
    getsockname: 367,
    getpeername: 368,
    sendto: 369,
    sendmsg: 370,
    recvfrom: 371,
    recvmsg: 372,
    shutdown: 373,
    recvmmsg: 337,
    sendmmsg: 345,
    semget: 393,
    semctl: 394,
    shmget: 395,
    shmctl: 396,
    shmat: 397,
    shmdt: 398,
    msgget: 399,
    msgsnd: 400,
    msgrcv: 401,
    msgctl: 402,
  };
  return number < 0 ? (since4_3[name] ?? number) : number;
}

function holds(arg: NonNullable<LinuxSyscall["args"]>[number], actual: bigint): boolean {
  const value = BigInt(arg.value);
  switch (arg.op) {
    case "SCMP_CMP_NE":
      return actual !== value;
    case "SCMP_CMP_LT":
      return actual < value;
    case "SCMP_CMP_LE":
      return actual <= value;
    case "SCMP_CMP_EQ":
      return actual === value;
    case "SCMP_CMP_GE":
      return actual >= value;
    case "SCMP_CMP_GT":
      return actual > value;
    case "SCMP_CMP_MASKED_EQ":
      return (actual & value) === BigInt(arg.valueTwo ?? 0);
  }
}
