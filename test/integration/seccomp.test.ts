// Seccomp: every action, argument comparison and default, unknown system calls, and the listener of SCMP_ACT_NOTIFY.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest, isBunc } from "../rig/runtime.ts";

const rig = useRig();

interface Rule {
  names: string[];
  action: string;
  errnoRet?: number;
  args?: { index: number; value: number | bigint; valueTwo?: number | bigint; op: string }[];
}

/** A container whose profile allows everything but what the rules say. */
function filtered(...syscalls: Rule[]): Container {
  return rig.container((config) => {
    config.linux.seccomp = { defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_X86_64"], syscalls };
  });
}

const errors = async (container: Container, ...calls: string[]): Promise<string[]> =>
  (await container.systemCalls(...calls)).map(({ error }) => error);

/** What a shell needs to run, as a list of allowed calls for profiles that deny by default. */
const basics =
  "access arch_prctl brk clone close dup2 dup3 execve exit exit_group faccessat faccessat2 fcntl fstat futex getcwd getdents64 getegid geteuid getgid getpgrp getpid getppid getrandom getuid ioctl lseek mmap mprotect munmap newfstatat open openat pipe pipe2 poll pread64 prlimit64 read readlink readlinkat rseq rt_sigaction rt_sigprocmask rt_sigreturn sendfile set_robust_list set_tid_address setpgid sigaltstack stat statx sysinfo tgkill uname vfork wait4 write writev".split(
    " ",
  );
// What a runtime itself may still call between installing the filter and execve.
const forRuntime =
  "capget capset chdir close_range epoll_create1 epoll_ctl epoll_pwait eventfd2 execveat fchdir fchown fstatfs getdents gettid kill madvise mincore nanosleep openat2 prctl recvmsg sched_getaffinity sched_yield sendmsg sendto setgid setgroups setresgid setresuid setuid statfs tkill".split(
    " ",
  );

test("errors: EPERM by default, errnoRet otherwise, 0 too; other calls are not affected", async () => {
  const container = filtered(
    { names: ["mkdirat", "mkdir"], action: "SCMP_ACT_ERRNO" },
    { names: ["fchmodat"], action: "SCMP_ACT_ERRNO", errnoRet: 95 },
    { names: ["getppid"], action: "SCMP_ACT_ERRNO", errnoRet: 0 },
  );
  const calls = await container.systemCalls(
    "mkdirat -100 /tmp/x 0755",
    "fchmodat -100 /tmp 0755",
    "getppid",
    "getpid",
  );
  expect(calls.map(({ result, error }) => [result, error])).toEqual([
    [-1, "EPERM"],
    [-1, "EOPNOTSUPP"],
    [0, ""],
    [1, ""],
  ]);
  const { status } = await container.report();
  expect(status).toMatchObject({ Seccomp: "2", Seccomp_filters: "1" });
});

test("arguments: each comparison, 64-bit values, several in one rule, several rules for one call", async () => {
  const big = (1n << 63n) + 5n;
  const onPersonality = (
    op: string,
    value: number | bigint,
    valueTwo?: number | bigint,
    errnoRet = 99,
  ): Rule => {
    const args = [{ index: 0, value, op, ...(valueTwo === undefined ? {} : { valueTwo }) }];
    return { names: ["personality"], action: "SCMP_ACT_ERRNO", errnoRet, args };
  };
  const cases: [rule: Rule, hit: (string | bigint | number)[], miss: (string | bigint | number)[]][] = [
    [onPersonality("SCMP_CMP_EQ", 8), [8], [7, 9, 4294967304n]],
    [onPersonality("SCMP_CMP_NE", 0xffffffff), [8], [0xffffffff]],
    [onPersonality("SCMP_CMP_LT", 10), [0, 9], [10, 0xffffffff]],
    [onPersonality("SCMP_CMP_LE", 10), [10], [11]],
    [onPersonality("SCMP_CMP_GT", 0x100000000), [0x100000001n], [0x100000000n, 0xffffffff]],
    [onPersonality("SCMP_CMP_GE", big), [big, big + 1n], [big - 1n, 5]],
    [onPersonality("SCMP_CMP_MASKED_EQ", 0xf0, 0x50), [0x50, 0x5f, 0x150], [0x60, 0x150 + 0x10]],
  ];
  // Cases use their own call so that one container can test them all: personality with a harmless flag combination.
  for (const [rule, hit, miss] of cases) {
    const container = filtered(rule);
    const found = await errors(container, ...[...hit, ...miss].map((value) => `personality ${value}`));
    const op = rule.args![0]!.op;
    expect([op, found.map((error) => error === "EADDRNOTAVAIL")]).toEqual([
      op,
      [...hit.map(() => true), ...miss.map(() => false)],
    ]);
  }
  const both = filtered(
    // Both arguments of one rule must match; either rule is enough.
    {
      names: ["socket"],
      action: "SCMP_ACT_ERRNO",
      errnoRet: 99,
      args: [
        { index: 0, value: 16, op: "SCMP_CMP_EQ" },
        { index: 2, value: 9, op: "SCMP_CMP_EQ" },
      ],
    },
    {
      names: ["socket"],
      action: "SCMP_ACT_ERRNO",
      errnoRet: 95,
      args: [{ index: 0, value: 2, op: "SCMP_CMP_EQ" }],
    },
  );
  expect(await errors(both, "socket 16 3 9", "socket 16 3 0", "socket 2 2 0", "socket 1 1 0")).toEqual([
    "EADDRNOTAVAIL",
    "",
    "EOPNOTSUPP",
    "",
  ]);
});

test("deadly actions end the program with SIGSYS; LOG allows; TRACE without a tracer is ENOSYS", async () => {
  const SIGSYS = 31;
  const deadly = ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"];
  for (const action of deadly) {
    const container = filtered({ names: ["getppid"], action });
    container.config.process.args = ["test-helper", "sys", "getpid", "getppid"];
    const result = await container.run();
    expect([action, result.code, result.stdout.split("\n").length - 1]).toEqual([action, 128 + SIGSYS, 1]);
  }
  const others = filtered(
    { names: ["getppid"], action: "SCMP_ACT_LOG" },
    { names: ["mkdirat"], action: "SCMP_ACT_TRACE", errnoRet: 7 },
  );
  expect(await errors(others, "getppid", "mkdirat -100 /tmp/x 0755")).toEqual(["", "ENOSYS"]);
});

describe("a profile that denies by default", () => {
  const profile = (more: Record<string, unknown> = {}) => ({
    defaultAction: "SCMP_ACT_ERRNO",
    architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    syscalls: [{ names: [...basics, ...forRuntime], action: "SCMP_ACT_ALLOW" }],
    ...more,
  });

  test("gives EPERM for what it could have listed, ENOSYS for calls newer than all it knows", async () => {
    const container = rig.container((config) => {
      config.linux.seccomp = profile();
    });
    // openat2 (437) and faccessat2 (439) are the newest calls of the profile.
    expect(await errors(container, "mkdirat -100 /tmp/x 0755", "unshare 0", "462", "9999")).toEqual([
      "EPERM",
      "EPERM",
      "ENOSYS",
      "ENOSYS",
    ]);
    container.config.linux.seccomp = profile({ defaultErrnoRet: 38 });
    expect(await errors(container, "mkdirat -100 /tmp/x 0755", "9999")).toEqual(["ENOSYS", "ENOSYS"]);
    container.config.linux.seccomp = profile({ defaultErrnoRet: 13 });
    expect(await errors(container, "mkdirat -100 /tmp/x 0755")).toEqual(["EACCES"]);
  });

  test("works for a user without capabilities, with and without no_new_privs", async () => {
    for (const noNewPrivileges of [true, false]) {
      const container = rig.container((config) => {
        config.linux.seccomp = profile();
        config.process.noNewPrivileges = noNewPrivileges;
        config.process.user = { uid: 1000, gid: 1000 };
        config.process.capabilities = {};
      });
      expect(await errors(container, "mkdirat -100 /tmp/x 0755", "getpid")).toEqual(["EPERM", ""]);
    }
  });
});

describe("details", () => {
  test("names the library does not know, rules that say the default, and an empty list do not matter", async () => {
    const container = filtered(
      { names: ["no_such_call", "getppid"], action: "SCMP_ACT_ERRNO" },
      { names: ["bdflush", "getpid"], action: "SCMP_ACT_ALLOW" },
    );
    expect(await errors(container, "getppid", "getpid")).toEqual(["EPERM", ""]);
    container.config.linux.seccomp = {
      defaultAction: "SCMP_ACT_ALLOW",
      architectures: null,
      syscalls: null,
      flags: null,
    };
    expect(await errors(container, "getppid")).toEqual([""]);
  });

  // runc 1.1 has no flags.
  buncTest("flags: SPEC_ALLOW leaves speculation as it is, LOG and TSYNC are accepted", async () => {
    const bypass = async (flags: string[]): Promise<string> => {
      const container = filtered({ names: ["getppid"], action: "SCMP_ACT_ERRNO" });
      (container.config.linux.seccomp as Record<string, unknown>).flags = flags;
      return (await container.report()).status.Speculation_Store_Bypass!;
    };
    const host = /^Speculation_Store_Bypass:\t(.*)$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]!;
    expect(await bypass(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"])).toBe(host);
    expect(await bypass(["SECCOMP_FILTER_FLAG_TSYNC"])).not.toBe("");
  });

  test("unknown actions, operators, architectures and flags are errors", async () => {
    const rule = (more: Record<string, unknown>) => ({
      names: ["getppid"],
      action: "SCMP_ACT_ERRNO",
      ...more,
    });
    const broken: Record<string, unknown>[] = [
      { defaultAction: "SCMP_ACT_NO_SUCH" },
      { defaultAction: "SCMP_ACT_ALLOW", syscalls: [rule({ action: "SCMP_ACT_NO_SUCH" })] },
      {
        defaultAction: "SCMP_ACT_ALLOW",
        syscalls: [rule({ args: [{ index: 0, value: 1, op: "SCMP_CMP_NO_SUCH" }] })],
      },
      { defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_NO_SUCH"], syscalls: [rule({})] },
      { defaultAction: "SCMP_ACT_ALLOW", flags: ["SECCOMP_FILTER_FLAG_NO_SUCH"], syscalls: [rule({})] },
      ...(isBunc
        ? [
            {
              defaultAction: "SCMP_ACT_ALLOW",
              syscalls: [rule({ args: [{ index: 6, value: 1, op: "SCMP_CMP_EQ" }] })],
            },
          ]
        : []),
    ];
    for (const seccomp of broken) {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.linux.seccomp = seccomp;
      });
      const result = await container.run();
      expect([seccomp, result.code]).toEqual([seccomp, 1]);
      if (isBunc) expect(result.stderr).toContain("linux.seccomp");
      expect(rig.states()).toEqual([]);
    }
  });

  test("the machine's own architecture is always there, whatever is listed", async () => {
    const rule = { names: ["getppid"], action: "SCMP_ACT_ERRNO" };
    for (const architectures of [["SCMP_ARCH_X86"], ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86_64"], []]) {
      const container = rig.container((config) => {
        config.linux.seccomp = { defaultAction: "SCMP_ACT_ALLOW", architectures, syscalls: [rule] };
      });
      expect([architectures, await errors(container, "getppid", "getpid")]).toEqual([
        architectures,
        ["EPERM", ""],
      ]);
    }
  });
});

describe("SCMP_ACT_NOTIFY", () => {
  const notify = (listenerPath?: string, listenerMetadata?: string): Container =>
    rig.container((config) => {
      config.linux.seccomp = {
        defaultAction: "SCMP_ACT_ALLOW",
        architectures: ["SCMP_ARCH_X86_64"],
        ...(listenerPath === undefined ? {} : { listenerPath }),
        ...(listenerMetadata === undefined ? {} : { listenerMetadata }),
        syscalls: [{ names: ["mkdirat"], action: "SCMP_ACT_NOTIFY" }],
      };
      config.annotations = { a: "b" };
    });

  test("the agent gets the container's state and decides", async () => {
    for (const noNewPrivileges of [true, false]) {
      const agent = await rig.listener("agent", "31"); // EMLINK
      const container = notify(agent.path, 'opaque "metadata"');
      container.config.process.noNewPrivileges = noNewPrivileges;
      container.config.process.args = ["test-helper", "sys", "mkdirat -100 /tmp/x 0755"];
      const created = await container.create();
      const { pid } = await container.state();
      const message = await agent.message();
      expect(message.fds).toEqual([expect.objectContaining({ target: "anon_inode:seccomp notify" })]);
      expect(JSON.parse(message.text)).toMatchObject({
        ociVersion: expect.stringMatching(/^1\./),
        fds: ["seccompFd"],
        pid,
        metadata: 'opaque "metadata"',
        state: {
          id: container.id,
          status: "creating",
          pid,
          bundle: container.bundle,
          annotations: { a: "b" },
        },
      });
      (await container.call("start")).ok();
      expect(await agent.line<{ nr: number; pid: number }>()).toEqual({ nr: 258, pid });
      expect(await created.until("EMLINK")).toContain('"error":"EMLINK"');
      await container.waitFor("stopped");
      (await container.remove()).ok();
    }
  });

  test("without a listener, with one that is not there, as the default action, for write: errors", async () => {
    const cases: [Container, RegExp][] = [
      [notify(), /listenerPath|SCMP_ACT_NOTIFY/i],
      [
        notify(join(rig.scratch.dir, "absent.sock")),
        /failed to connect with seccomp agent.*(absent\.sock|no such file)/,
      ],
    ];
    const whole = notify("/tmp/x");
    (whole.config.linux.seccomp as Record<string, unknown>).defaultAction = "SCMP_ACT_NOTIFY";
    cases.push([whole, /SCMP_ACT_NOTIFY cannot be used as default action/]);
    const write = notify("/tmp/x");
    (write.config.linux.seccomp as Record<string, unknown>).syscalls = [
      { names: ["write"], action: "SCMP_ACT_NOTIFY" },
    ];
    cases.push([write, /SCMP_ACT_NOTIFY cannot be used for the write syscall/]);
    for (const [container, words] of cases) {
      container.config.process.args = ["true"];
      const result = await container.run([], { timeout: 10 });
      expect([result.code, result.stderr]).toEqual([1, expect.stringMatching(words)]);
      expect(rig.states()).toEqual([]);
    }
  });
});

describe("a profile that refuses what the runtime itself calls late", () => {
  const refused = (action: string): Rule => ({
    names: "close_range fsopen fsconfig fspick openat2 open_tree move_mount mount_setattr".split(" "),
    action,
    ...(action === "SCMP_ACT_ERRNO" ? { errnoRet: 38 } : {}),
  });

  buncTest("runs the program, which inherits no descriptor", async () => {
    for (const action of ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"]) {
      for (const noNewPrivileges of [true, false]) {
        const container = filtered(refused(action));
        container.config.process.noNewPrivileges = noNewPrivileges;
        container.config.process.args = ["sh", "-c", "ls /proc/self/fd; echo end"];
        expect(await container.output()).toBe("0\n1\n2\n3\nend\n"); // 3 is the directory that ls reads
        container.config.process.args = ["sleep", "60"];
        await container.create();
        (await container.call("start")).ok();
        (await container.call("kill", "KILL")).ok();
        await container.waitFor("stopped");
        (await container.remove()).ok();
      }
    }
  });
});

buncTest("a startContainer hook may do no more than the program", async () => {
  for (const noNewPrivileges of [true, false]) {
    const container = filtered({ names: ["mkdir", "mkdirat"], action: "SCMP_ACT_KILL" });
    container.config.process.noNewPrivileges = noNewPrivileges;
    container.config.process.rlimits = [{ type: "RLIMIT_CORE", soft: 0, hard: 0 }];
    container.config.process.args = ["true"];
    container.config.hooks = {
      startContainer: [{ path: "/bin/sh", args: ["sh", "-c", "exec mkdir /tmp/x"] }],
    };
    const { code, stderr } = await container.run();
    expect([code, stderr]).toEqual([1, expect.stringContaining("error running startContainer hook #0")]);
    expect(stderr).toContain("bad system call");
  }
});
