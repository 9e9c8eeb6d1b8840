/** `explain` of single operations: system calls and composites, each as one readable line. Needs no build. */
import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import { Stage } from "./context.ts";
import { explainProgram, renderText } from "./explain.ts";
import { hookStruct } from "./hooks.ts";
import { type Arg, type OpOptions, Part, Slot, Struct } from "./program.ts";
import { compile, dockerSpec, plainSpec } from "./testing.ts";

const FD = new Slot(1, "mount target");

/** The line of one operation, without index and path. */
function line(code: number, args: Arg[], options: OpOptions = {}, before?: (part: Part) => void): string {
  const part = new Part().at("process");
  before?.(part);
  part.op(code, args, options);
  const text = renderText(
    explainProgram({
      birth: { flags: 0, pidns: undefined },
      fds: [],
      firstFd: 3,
      parts: [{ side: "init", part }],
    }),
  );
  return text
    .trimEnd()
    .split("\n")
    .at(-1)!
    .replace(/^ *\d+ {2}- +/, "");
}

describe("system calls", () => {
  const how = new Struct(24, "open_how").u64(0, abi.O_PATH | abi.O_CLOEXEC).u64(16, abi.RESOLVE_IN_ROOT);
  const attr = new Struct(32, "mount_attr").u64(0, abi.MOUNT_ATTR_RDONLY).u64(16, abi.MS_SLAVE);
  const limit = new Struct(16, "rlimit64").u64(0, 1024).u64(8, 18446744073709551615n);
  const sets = new Uint8Array(new Uint32Array([1, 3, 0, 0, 0, 1 << 8]).buffer);
  const program = new Struct(16, "sock_fprog").pointer(8, new Uint8Array(24));
  program.view.setUint16(0, 3, true);
  const argv = new Struct(24, "argv").pointer(0, "sh").pointer(8, "-c");

  test.each<[string, number, Arg[]]>([
    [
      'openat2($mount_target, "/x", {flags: O_CLOEXEC|O_PATH, resolve: RESOLVE_IN_ROOT})',
      abi.SYS_openat2,
      [FD, "/x", how, 24],
    ],
    ['openat(AT_FDCWD, "/x", O_RDONLY|O_CLOEXEC)', abi.SYS_openat, [abi.AT_FDCWD, "/x", abi.O_CLOEXEC, 0]],
    [
      'openat(stdin, "x", O_WRONLY|O_CREAT, 0600)',
      abi.SYS_openat,
      [0, "x", abi.O_WRONLY | abi.O_CREAT, 0o600],
    ],
    [
      'mount_setattr(7, "", AT_EMPTY_PATH|AT_RECURSIVE, {attr_set: MOUNT_ATTR_RDONLY, propagation: MS_SLAVE})',
      abi.SYS_mount_setattr,
      [7, "", abi.AT_EMPTY_PATH | abi.AT_RECURSIVE, attr, 32],
    ],
    ['mount("/", MS_REC|MS_PRIVATE)', abi.SYS_mount, [0, "/", 0, abi.MS_REC | abi.MS_PRIVATE, 0]],
    [
      'mount("tmpfs", ".", "tmpfs", MS_RDONLY, "size=1k")',
      abi.SYS_mount,
      ["tmpfs", ".", "tmpfs", abi.MS_RDONLY, "size=1k"],
    ],
    ["unshare(CLONE_NEWNS|CLONE_NEWUTS)", abi.SYS_unshare, [abi.CLONE_NEWNS | abi.CLONE_NEWUTS]],
    [
      'mknodat($mount_target, "null", S_IFCHR|0666, 1:3)',
      abi.SYS_mknodat,
      [FD, "null", abi.S_IFCHR | 0o666, 0x103],
    ],
    ['mknodat($mount_target, "p", S_IFIFO|0600)', abi.SYS_mknodat, [FD, "p", abi.S_IFIFO | 0o600, 0]],
    [
      "prlimit64(0, RLIMIT_NOFILE, {soft: 1024, hard: unlimited})",
      abi.SYS_prlimit64,
      [0, abi.RLIMIT_NOFILE, limit, 0],
    ],
    [
      "capset({effective: CAP_CHOWN, permitted: CAP_CHOWN|CAP_DAC_OVERRIDE, inheritable: CAP_CHECKPOINT_RESTORE})",
      abi.SYS_capset,
      [new Uint8Array(8), sets],
    ],
    ["prctl(PR_SET_NO_NEW_PRIVS, 1)", abi.SYS_prctl, [abi.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]],
    [
      "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL)",
      abi.SYS_prctl,
      [abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_RAISE, abi.CAP_KILL, 0, 0],
    ],
    [
      "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)",
      abi.SYS_prctl,
      [abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0],
    ],
    [
      "seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, {filter: 3 instructions})",
      abi.SYS_seccomp,
      [abi.SECCOMP_SET_MODE_FILTER, abi.SECCOMP_FILTER_FLAG_LOG, program],
    ],
    ['execve("/bin/sh", ["sh", "-c"], [])', abi.SYS_execve, ["/bin/sh", argv, new Struct(8, "envp")]],
    ["close_range(4, ~0)", abi.SYS_close_range, [4, 0xffffffff, 0]],
    [
      'fsconfig($mount_target, FSCONFIG_SET_STRING, "size", "1k")',
      abi.SYS_fsconfig,
      [FD, abi.FSCONFIG_SET_STRING, "size", "1k", 0],
    ],
    [
      "fsconfig($mount_target, FSCONFIG_CMD_CREATE)",
      abi.SYS_fsconfig,
      [FD, abi.FSCONFIG_CMD_CREATE, 0, 0, 0],
    ],
    [
      "setgroups([10, 4294967294])",
      abi.SYS_setgroups,
      [2, new Uint8Array(new Uint32Array([10, 4294967294]).buffer)],
    ],
    [
      'fchownat($mount_target, "x", 0, -1, AT_SYMLINK_NOFOLLOW)',
      abi.SYS_fchownat,
      [FD, "x", 0, -1, abi.AT_SYMLINK_NOFOLLOW],
    ],
    [
      "set_mempolicy(MPOL_BIND, {0-1,64})",
      abi.SYS_set_mempolicy,
      [abi.MPOL_BIND, new Uint8Array([3, 0, 0, 0, 0, 0, 0, 0, 1]), 129],
    ],
    [
      "ioprio_set(IOPRIO_WHO_PROCESS, 0, best-effort:4)",
      abi.SYS_ioprio_set,
      [abi.IOPRIO_WHO_PROCESS, 0, (2 << 13) | 4],
    ],
    ["dup3($mount_target, stdout, 0)", abi.SYS_dup3, [FD, 1, 0]],
    ["dup3($mount_target, 9, O_CLOEXEC)", abi.SYS_dup3, [FD, 9, abi.O_CLOEXEC]],
    ['syscall 999(1, -1, "x")', 999, [1, -1, "x"]],
  ])("%s", (wanted, code, args) => {
    expect(line(code, args)).toBe(wanted);
  });

  test("what happens besides going on and failing", () => {
    const conditions = {
      slot: FD,
      okSkip: 2,
      tolerate: [[abi.ENOENT, 6] as const, [abi.BUNC_ERR_ANY, 0] as const],
    };
    expect(line(abi.SYS_getpid, [], conditions)).toBe(
      "getpid() -> $mount_target  # ok: skips 2; ENOENT: skips 6; any error: goes on",
    );
  });
});

describe("composite operations", () => {
  const stat = new Struct(abi.sizeof_.stat, "stat");
  const statfs = new Struct(120, "statfs");
  const termios = new Struct(64, "termios");
  const load = (from: Arg) => (part: Part) => part.op(abi.BUNC_OP_LOAD, [from, 8], { slot: FD });

  const cases: [wanted: string, code: number, args: Arg[], before?: (part: Part) => void][] = [
    [
      'make directory "/a" below $mount_target, mode 0755',
      abi.BUNC_OP_MKPATH,
      [FD, "/a", abi.S_IFDIR, 0o755],
    ],
    [
      'make directory or file (as $mount_target) "/a" below 5, mode 0755',
      abi.BUNC_OP_MKPATH,
      [5, "/a", FD, 0o755],
    ],
    ['tell the parent "mounted", wait for the next part', abi.BUNC_OP_PART, [Stage.mounted, 0]],
    ["wait for the next part", abi.BUNC_OP_PART, [Stage.none, 0]],
    ['tell the parent "created"', abi.BUNC_OP_REPORT, [Stage.created, 0]],
    [
      "expect $mount_target to be device 1:3, else EPERM",
      abi.BUNC_OP_EXPECT,
      [FD, -1, 0x103, abi.EPERM],
      load(stat.at(abi.stat_.st_rdev)),
    ],
    [
      "expect $mount_target to be PROC_SUPER_MAGIC, else EPERM",
      abi.BUNC_OP_EXPECT,
      [FD, -1, abi.PROC_SUPER_MAGIC, abi.EPERM],
      load(statfs),
    ],
    [
      "expect $mount_target to be a character device, else EPERM",
      abi.BUNC_OP_EXPECT,
      [FD, abi.S_IFMT, abi.S_IFCHR, abi.EPERM],
      load(stat.at(abi.stat_.st_mode)),
    ],
    ["expect $mount_target & 0xff to be 0x54, else EBUSY", abi.BUNC_OP_EXPECT, [FD, 0xff, 0x54, abi.EBUSY]],
    ["fail with EEXIST", abi.BUNC_OP_EXPECT, [0, 1, 1, abi.EEXIST]],
    ["clear ONLCR in termios.c_oflag", abi.BUNC_OP_PATCH, [termios.at(4), 4, ~abi.ONLCR, 0]],
    ["clear 0xf and set 0x3 in termios.c_lflag", abi.BUNC_OP_PATCH, [termios.at(12), 4, 0xfffffff0, 3]],
    ["put $mount_target into termios.c_iflag", abi.BUNC_OP_PATCH, [termios.at(0), 4, 0, FD]],
    ["load st_rdev of stat", abi.BUNC_OP_LOAD, [stat.at(abi.stat_.st_rdev), 8]],
    ["load f_type of statfs", abi.BUNC_OP_LOAD, [statfs, 8]],
    [
      "drop all capabilities from the bounding set but CAP_CHOWN|CAP_KILL",
      abi.BUNC_OP_DROP_BOUNDING,
      [1 + 2 ** abi.CAP_KILL],
    ],
    ["drop all capabilities from the bounding set", abi.BUNC_OP_DROP_BOUNDING, [0]],
    ["check that the working directory lies below the root", abi.BUNC_OP_CHECK_CWD, []],
    ["fork, go on in the child (CLONE_NEWPID)", abi.BUNC_OP_FORK, [abi.CLONE_NEWPID]],
    [
      'write "exec profile" to $mount_target',
      abi.BUNC_OP_WRITE,
      [FD, new TextEncoder().encode("exec profile"), 12],
    ],
    [
      'write "1" to "/proc/sys/x" (O_WRONLY|O_NOFOLLOW)',
      abi.BUNC_OP_WRITE_AT,
      [abi.AT_FDCWD, "/proc/sys/x", abi.O_WRONLY | abi.O_NOFOLLOW, new Uint8Array([49]), 1],
    ],
    [
      'find the first executable of "/bin/sh", "/usr/bin/sh"',
      abi.BUNC_OP_LOOKPATH,
      [new TextEncoder().encode("/bin/sh\0/usr/bin/sh\0\0")],
    ],
    ["copy the content of 5 to 6", abi.BUNC_OP_COPYUP, [5, 6]],
    [
      'send $mount_target over 4 with "/dev/ptmx"',
      abi.BUNC_OP_SENDFD,
      [4, FD, new TextEncoder().encode("/dev/ptmx"), 9],
    ],
    [
      'cover "/proc/kcore" below $mount_target, if it is there: a directory by 9, a file by /dev/null',
      abi.BUNC_OP_MASK,
      [FD, "/proc/kcore", 9],
    ],
    [
      'bind "/proc/sys" below $mount_target over itself read-only, if it is there',
      abi.BUNC_OP_READONLY,
      [FD, "/proc/sys"],
    ],
    [
      'set MOUNT_ATTR_RDONLY on the mount "/" below $mount_target',
      abi.BUNC_OP_MOUNT_ATTR,
      [FD, "/", abi.MOUNT_ATTR_RDONLY, 0],
    ],
  ];
  // Not test.each, which would take a fourth parameter for its `done`.
  for (const [wanted, code, args, before] of cases) {
    test(wanted, () => expect(line(code, args, {}, before)).toBe(wanted));
  }

  test("hooks", () => {
    const hook = hookStruct({ path: "/h", args: ["h", "x y"], env: ["A=b"], timeout: 5 }, "{}", []);
    expect(line(abi.BUNC_OP_HOOK, [hook])).toBe(
      'run hook "/h", argv ["h", "x y"], envp ["A=b"], 2 bytes of state on stdin, timeout 5 s',
    );
  });

  test("mounts, binds and devices", () => {
    const { ops } = compile(dockerSpec());
    const text = (path: string, call: number) => {
      const op = ops.find((one) => one.path === path && one.call === call)!;
      return line(op.call, [...op.args]);
    };
    expect(text("mounts[1]", abi.BUNC_OP_MOUNT)).toBe(
      'mount "tmpfs" at "/dev" below $root: "mode=755", "size=65536k", "source=tmpfs", ' +
        "set MOUNT_ATTR_NOSUID|MOUNT_ATTR_STRICTATIME, target not inside a proc",
    );
    const data = dockerSpec().mounts!.findIndex(({ destination }) => destination === "/data");
    expect(text(`mounts[${data}]`, abi.BUNC_OP_MOUNT)).toBe(
      'bind of "/bundle/data" at "/data" below $root: set MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID, ' +
        "clear MOUNT_ATTR_NODEV|MOUNT_ATTR_NOEXEC|MOUNT_ATTR_NOSYMFOLLOW, target not inside a proc",
    );
    const spec = plainSpec();
    spec.mounts!.push({ destination: "/dev", options: ["remount", "ro", "size=1k"] });
    const remount = compile(spec).ops.find(({ path }) => path === `mounts[${spec.mounts!.length - 1}]`)!;
    expect(line(remount.call, [...remount.args])).toBe(
      'change of the mount at "/dev" below $root: "size=1k", set MOUNT_ATTR_RDONLY',
    );
    expect(text("linux.devices[0]", abi.BUNC_OP_DEVICE)).toBe(
      'make character device 10:229 "fuse" below $dev, mode 0660, owner 0:44, or bind the host\'s "/dev/fuse", ' +
        "nothing else may be there",
    );
  });
});
