/** `explain` of programs: one readable line for each operation, and the same as JSON. Needs no build. */
import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import { callName } from "../linux/names.ts";
import { explainProgram, renderJson, renderText } from "./explain.ts";
import { isKnownCall } from "./explain-calls.ts";
import { quote } from "./explain-values.ts";
import { composite } from "./explain-words.ts";
import { hookStruct } from "./hooks.ts";
import { type Arg, type OpOptions, Part, Slot, Struct } from "./program.ts";
import { BUNDLES, compile, dockerSpec, FILTER, joinedSpec, plainSpec } from "./testing.ts";

const FD = new Slot(1, "mount target");
const NO_BIRTH = { birth: { flags: 0, pidns: undefined }, fds: [], firstFd: 3 };

/** The line of one operation, without index and path. */
function line(code: number, args: Arg[], options: OpOptions = {}, before?: (part: Part) => void): string {
  const part = new Part().at("process");
  before?.(part);
  part.op(code, args, options);
  const text = renderText(explainProgram({ ...NO_BIRTH, parts: [{ side: "init", part }] }));
  return text
    .trimEnd()
    .split("\n")
    .at(-1)!
    .replace(/^ *\d+ {2}- +/, "");
}

function explained(name: keyof typeof PROGRAMS) {
  const { launch, parts } = PROGRAMS[name];
  const { birth, fds, firstFd } = launch.plan;
  return explainProgram({ birth, fds, firstFd, parts: parts.map((part) => ({ side: "init", part })) });
}

const PROGRAMS = {
  plain: compile(plainSpec()),
  docker: compile(dockerSpec(), {
    waitForStart: true,
    pidfdSocket: true,
    seccomp: { filter: FILTER, flags: 1, listener: true },
  }),
  joined: compile(joinedSpec(["pid", "network", "user"])),
};

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

  test.each<[string, number, Arg[], ((part: Part) => void)?]>([
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
    ['tell the parent "mounted", wait for the next part', abi.BUNC_OP_PART, [2, 0]],
    ["wait for the next part", abi.BUNC_OP_PART, [0, 0]],
    ['tell the parent "created"', abi.BUNC_OP_REPORT, [4, 0]],
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
  ])("%s", (wanted, code, args, before) => {
    expect(line(code, args, {}, before)).toBe(wanted);
  });

  test("hooks", () => {
    const hook = hookStruct({ path: "/h", args: ["h", "x y"], env: ["A=b"], timeout: 5 }, "{}", []);
    expect(line(abi.BUNC_OP_HOOK, [hook])).toBe(
      'run hook "/h", argv ["h", "x y"], envp ["A=b"], 2 bytes of state on stdin, timeout 5 s',
    );
  });

  test("mounts, binds and devices", () => {
    const { ops } = PROGRAMS.docker;
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
      'bind of "/bundle/data" at "/data" below $root: set MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID, target not inside a proc',
    );
    expect(text("linux.devices[0]", abi.BUNC_OP_DEVICE)).toBe(
      'make character device 10:229 "fuse" below $dev, mode 0660, owner 0:44, or bind the host\'s "/dev/fuse"',
    );
  });
});

describe("whole programs", () => {
  test.each(BUNDLES)(
    "of %s: one line for each operation, none with a raw number for a name",
    (_name, make) => {
      const compiled = compile(make(), {
        waitForStart: true,
        seccomp: { filter: FILTER, flags: 0, listener: false },
      });
      const { birth, fds, firstFd } = compiled.launch.plan;
      const parts = compiled.parts.map((part) => ({ side: "init" as const, part }));
      const text = renderText(explainProgram({ birth, fds, firstFd, parts }));
      const lines = text.split("\n").filter((one) => /^ {2,}\d+ {2}/.test(one));
      expect(lines.length).toBe(compiled.ops.length);
      lines.forEach((one, i) => {
        expect(Number.parseInt(one, 10)).toBe(i);
        expect(one).not.toMatch(/undefined|\[object|NaN|\?|syscall \d/);
      });
      for (const { call } of compiled.ops) {
        expect([
          callName(call),
          call >= abi.BUNC_OP_FIRST ? composite(call) !== undefined : isKnownCall(callName(call)),
        ]).toEqual([callName(call), true]);
      }
    },
  );

  test("say how init is born, first of all", () => {
    const [birth] = explained("docker");
    expect(birth!.side).toBe("parent");
    expect(birth!.ops[0]).toMatchObject({ index: null, call: "clone3", path: "linux.namespaces" });
    expect(birth!.ops[0]!.text).toBe(
      "clone3(CLONE_NEWPID|CLONE_VM|CLONE_VFORK|CLONE_PIDFD), execveat(bunc-init, sealed memfd), " +
        "inherits @sync=3, @state-dir=4, @pidfd-socket=5, @console-socket=6",
    );
    const text = renderText(explained("docker")).split("\n");
    expect(text.find((one) => one && !one.startsWith("#"))).toBe("parent: namespaces");
    expect(renderText(explained("joined"))).toContain(
      "inherits @sync=3, @ns:user=4, @ns:network=5, @ns:pid=6",
    );
  });

  test("name descriptors, slots and places in config.json", () => {
    const text = renderText(explained("joined"));
    expect(text).toMatch(/ linux\.namespaces\[\d+\]\.path +setns\(@ns:network, CLONE_NEWNET\)\n/);
    const docker = renderText(explained("docker"));
    expect(docker).toContain("BUNC" === "" ? "" : "fcntl(@sync, F_SETFD, FD_CLOEXEC)");
    expect(docker).toMatch(
      /seccomp\(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, \{filter: 1 instructions\}\) -> \$seccomp_listener/,
    );
    expect(docker).toMatch(/open_tree\(\$rootfs_directory, "", [A-Z_|]+\) -> \$root\n/);
    expect(renderText(explained("plain"))).toContain("HOME=<from passwd>");
  });

  test("group by side and phase in program order, and count each side for itself", () => {
    const parent = new Part().at("cgroup", "linux.cgroupsPath");
    parent.op(abi.SYS_mkdirat, [abi.AT_FDCWD, "/sys/fs/cgroup/x", 0o755]);
    const ids = new Part().at("ids", "linux.uidMappings");
    ids.op(abi.SYS_close, [3]);
    const init = new Part().at("namespaces");
    init.op(abi.SYS_close, [3]);
    const parts = [
      { side: "parent" as const, part: parent },
      { side: "init" as const, part: init },
      { side: "parent" as const, part: ids },
    ];
    const fds = [{ name: "sync", from: { kind: "sync" as const } }];
    const explanation = explainProgram({ birth: NO_BIRTH.birth, fds, firstFd: 3, parts, before: 1 });
    const lines = renderText(explanation, ["a note"]).split("\n");
    expect(lines.filter((one) => /^\w/.test(one))).toEqual([
      "parent: cgroup",
      "parent: namespaces",
      "init: namespaces",
      "parent: ids",
    ]);
    expect(lines).toContain("# Note: a note.");
    // 3 is the socket in init, and something else in the parent.
    expect(lines).toContain("   0  -  close(@sync)");
    expect(lines).toContain("   1  linux.uidMappings  close(3)");
  });

  test("are the same when they are explained twice", () => {
    expect(renderText(explained("docker"))).toBe(renderText(explained("docker")));
    expect(renderJson(explained("docker"))).toBe(renderJson(explained("docker")));
  });
});

describe("JSON", () => {
  test("has an array of parts with every operation and each of its arguments", () => {
    const parts: ReturnType<typeof explained> = JSON.parse(renderJson(explained("docker")));
    const ops = parts.filter(({ side }) => side === "init").flatMap((part) => part.ops);
    expect(ops.length).toBe(PROGRAMS.docker.ops.length);
    ops.forEach((op, i) => {
      const from = PROGRAMS.docker.ops[i]!;
      expect(op).toMatchObject({
        index: i,
        side: "init",
        phase: from.phase,
        path: from.path,
        call: callName(from.call),
      });
      expect(op.args.length).toBe(from.args.length);
      for (const arg of op.args) expect(Object.keys(arg).sort()).toEqual(["kind", "name", "text", "value"]);
      expect(op.slot?.index ?? null).toBe(from.options.slot?.index ?? null);
      expect(op.okSkip).toBe(from.options.okSkip ?? 0);
      expect(op.tolerate.length).toBe(from.options.tolerate?.length ?? 0);
      expect(op.about).toBe(from.options.about ?? null);
    });
  });

  test("has values of each kind", () => {
    const part = new Part();
    const argv = new Struct(16, "argv").pointer(0, "a");
    const how = new Struct(24, "open_how").u64(0, abi.O_PATH);
    part.op(abi.SYS_execve, ["/x", argv, -1, 2n ** 60n, FD, how.at(8)], { tolerate: [[abi.ENOENT, 3]] });
    part.op(abi.SYS_openat2, [5n, "x", how, new Uint8Array(7)]);
    const [, { ops }] = explainProgram({ ...NO_BIRTH, parts: [{ side: "init", part }] }) as [
      unknown,
      { ops: { args: unknown[]; tolerate: unknown }[] },
    ];
    expect(ops[0]!.args).toMatchObject([
      { name: "path", kind: "string", value: "/x" },
      { name: "argv", kind: "array", value: ['"a"'] },
      { name: "envp", kind: "integer", value: -1 },
      { name: "arg4", kind: "integer", value: "1152921504606846976" },
      { kind: "slot", value: 1, text: "$mount_target" },
      { kind: "address", value: 8 },
    ]);
    expect(ops[0]!.tolerate).toEqual([{ errno: "ENOENT", skip: 3 }]);
    expect(ops[1]!.args).toMatchObject([
      { name: "dirfd", kind: "integer", value: 5 },
      { name: "path", kind: "string" },
      { name: "how", kind: "struct", value: { flags: "O_PATH", resolve: "0" } },
      { name: "size", kind: "bytes", value: 7 },
    ]);
  });
});

describe("hostile text", () => {
  const hostile = 'a"b\\c\n\r\t\u001b[31m\u0007\u009b2J\u202e\u2028\u200b\ufeff\ud800z';

  test("stays one line and does nothing to a terminal", () => {
    expect(JSON.parse(quote(hostile))).toBe(hostile);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
    const harmful = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\ufeff\ud800-\udfff]/;
    expect(quote(hostile)).not.toMatch(harmful);
    const part = new Part().at("sysctl", `linux.sysctl.${hostile}`);
    const bytes = new TextEncoder().encode(hostile);
    part.op(abi.BUNC_OP_WRITE_AT, [abi.AT_FDCWD, hostile, abi.O_WRONLY, bytes, bytes.length], {
      about: hostile,
    });
    part.op(abi.BUNC_OP_EXPECT, [0, 1, 1, abi.EPERM], { about: hostile });
    part.op(abi.SYS_close, [new Slot(0, hostile)]);
    const text = renderText(explainProgram({ ...NO_BIRTH, parts: [{ side: "init", part }] }));
    const lines = text.split("\n").filter((one) => /^ {3}\d/.test(one));
    expect(lines.length).toBe(3);
    for (const one of lines) expect(one).not.toMatch(harmful);
  });

  test("that is long is shown as a whole, and bytes that are no text by their number", () => {
    const long = "x".repeat(5000);
    expect(line(abi.SYS_chdir, [long])).toBe(`chdir("${long}")`);
    expect(line(abi.BUNC_OP_WRITE, [FD, new Uint8Array([0xff, 0, 1]), 3])).toBe(
      "write <3 bytes> to $mount_target",
    );
  });
});
