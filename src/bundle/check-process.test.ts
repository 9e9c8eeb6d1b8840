import { describe, expect, test } from "bun:test";
import { defaultSpec } from "../oci/spec-default.ts";
import { type Config, check, table } from "./check-cases.ts";

describe("the words callers match", () => {
  table(defaultSpec, [
    ["no process", (c) => delete c.process, "process: process property must not be empty"],
    ["process null", (c) => (c.process = null), "process: process property must not be empty"],
    ["cwd empty", (c) => (c.process.cwd = ""), "process.cwd: Cwd property must not be empty"],
    ["cwd relative", (c) => (c.process.cwd = "a"), "process.cwd: Cwd must be an absolute path"],
    ["args absent", (c) => delete c.process.args, "process.args: args must not be empty"],
    ["args null", (c) => (c.process.args = null), "process.args: args must not be empty"],
    ["no root", (c) => delete c.root, "root: root must be specified"],
    ["root path empty", (c) => (c.root.path = ""), "root.path: must not be empty"],
  ]);
});

describe("ociVersion", () => {
  table(defaultSpec, [
    [
      "2.0.0",
      (c) => (c.ociVersion = "2.0.0"),
      'ociVersion: "2.0.0" is not supported; this runtime implements 1.3.0',
    ],
    ["1.0.2-dev", (c) => (c.ociVersion = "1.0.2-dev")],
  ]);

  test("warnings", () => {
    const warn = (version: string) => check(defaultSpec(), (c) => (c.ociVersion = version)).warnings;
    expect(warn("1.4.0")).toEqual(['ociVersion: "1.4.0" is newer than 1.3.0, which this runtime implements']);
    expect(warn("1.3.9+build")).toEqual([]);
    for (const odd of ["", "1", "1.0", "v1.0.0", "x.y.z", "1.0."]) {
      expect(warn(odd)).toEqual([
        `ociVersion: ${JSON.stringify(odd)} is not a version like "1.3.0" (SemVer 2.0.0)`,
      ]);
    }
  });
});

describe("process", () => {
  table(defaultSpec, [
    [
      "env",
      (c) => (c.process.env = ["A=", "B", "=C", "D==", ""]),
      "process.env[1]: invalid environment variable: missing '='",
      "process.env[2]: invalid environment variable: name cannot be empty",
      "process.env[4]: invalid environment variable: missing '='",
    ],
    [
      "ids that are none",
      (c) => (c.process.user = { uid: 4294967295, gid: 4294967295, additionalGids: [1, 4294967295] }),
      "process.user.uid: 4294967295 is no user id",
      "process.user.gid: 4294967295 is no group id",
      "process.user.additionalGids[1]: 4294967295 is no group id",
    ],
    [
      "rlimits",
      (c) =>
        (c.process.rlimits = [
          { type: "RLIMIT_CORE", soft: 2n ** 64n - 1n, hard: 2n ** 64n - 2n },
          { type: "RLIMIT_CORE", soft: 1, hard: 2n ** 64n - 1n },
        ]),
      "process.rlimits[0].soft: the soft limit 18446744073709551615 is above the hard limit 18446744073709551614",
      'process.rlimits[1].type: "RLIMIT_CORE" is limited twice',
    ],
    [
      "an rlimit that is none",
      (c) => (c.process.rlimits[0].type = "NOFILE"),
      'process.rlimits[0].type: wrong rlimit value: "NOFILE"; one of RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, ' +
        "RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, " +
        "RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RTTIME",
    ],
    [
      "oomScoreAdj",
      (c) => (c.process.oomScoreAdj = 1001),
      "process.oomScoreAdj: must be an integer from -1000 to 1000, not 1001",
    ],
    [
      "ioPriority",
      (c) => (c.process.ioPriority = { class: "IOPRIO_CLASS_BE", priority: 8 }),
      "process.ioPriority.priority: must be an integer from 0 to 7, not 8",
    ],
    [
      "execCPUAffinity",
      (c) => (c.process.execCPUAffinity = { initial: "3-1", final: ", 0-3 , 7" }),
      'process.execCPUAffinity.initial: "3-1" is not a list of CPUs like "0-3,7"',
    ],
    ["execCPUAffinity unset", (c) => (c.process.execCPUAffinity = { initial: "", final: "0" })],
    [
      "consoleSize",
      (c) => (c.process.consoleSize = { height: 65536, width: 0 }),
      "process.consoleSize.height: must be an integer from 0 to 65535, not 65536",
    ],
  ]);

  test("capabilities the kernel does not have are warnings", () => {
    const { problems, warnings } = check(defaultSpec(), (c) => {
      c.process.capabilities = {
        bounding: ["CAP_KILL", "CAP_FLY", "KILL"],
        ambient: ["cap_kill", "CAP_KILL CHOWN", ""],
      };
    });
    expect(problems).toEqual([]);
    expect(warnings).toEqual(
      [
        ["bounding[1]", "CAP_FLY"],
        ["bounding[2]", "KILL"],
        ["ambient[0]", "cap_kill"],
        ["ambient[1]", "CAP_KILL CHOWN"],
        ["ambient[2]", ""],
      ].map(
        ([at, name]) => `process.capabilities.${at}: ignoring unknown or unavailable capability "${name}"`,
      ),
    );
  });

  test("ambient capabilities the kernel will not raise are one warning", () => {
    const { problems, warnings } = check(defaultSpec(), (c) => {
      c.process.capabilities = {
        permitted: ["CAP_KILL", "CAP_CHOWN"],
        inheritable: ["CAP_KILL", "CAP_SYSLOG"],
        ambient: ["CAP_KILL", "CAP_CHOWN", "CAP_SYSLOG"],
      };
    });
    expect(problems).toEqual([]);
    expect(warnings).toEqual([
      "process.capabilities.ambient: can't raise ambient capability CAP_CHOWN, CAP_SYSLOG: it must be permitted and inheritable too",
    ]);
  });

  test("all capabilities of Linux 6.18 are known", () => {
    const { warnings } = check(defaultSpec(), (c) => {
      c.process.capabilities.bounding = [
        "CAP_CHOWN",
        "CAP_CHECKPOINT_RESTORE",
        "CAP_SYS_ADMIN",
        "CAP_BPF",
        "CAP_LEASE",
      ];
    });
    expect(warnings).toEqual([]);
  });
});

describe("scheduler", () => {
  const set = (scheduler: object) => (c: Config) => {
    c.process.scheduler = scheduler;
  };
  table(defaultSpec, [
    [
      "nice",
      set({ policy: "SCHED_BATCH", nice: -21 }),
      "process.scheduler.nice: must be from -20 to 19, not -21",
    ],
    ["a plain one", set({ policy: "SCHED_OTHER", nice: 19, priority: 0, runtime: 0 })],
    [
      "no priority",
      set({ policy: "SCHED_FIFO" }),
      "process.scheduler.priority: must be from 1 to 99 for SCHED_FIFO, not 0",
    ],
    ["a real-time one", set({ policy: "SCHED_RR", priority: 99 })],
    [
      "priority and times of others",
      set({ policy: "SCHED_IDLE", priority: 5, runtime: 2n ** 60n, period: 1 }),
      "process.scheduler.priority: can only be specified for SCHED_FIFO or SCHED_RR, not SCHED_IDLE",
      "process.scheduler.runtime: can only be specified for SCHED_DEADLINE, not SCHED_IDLE",
      "process.scheduler.period: can only be specified for SCHED_DEADLINE, not SCHED_IDLE",
    ],
    [
      "deadline too short",
      set({ policy: "SCHED_DEADLINE", runtime: 2000, deadline: 1500, period: 1000 }),
      "process.scheduler.deadline: must not be shorter than the runtime 2000",
      "process.scheduler.period: must not be shorter than the deadline 1500",
    ],
    ["deadline without period", set({ policy: "SCHED_DEADLINE", runtime: 1024, deadline: 1024 })],
    [
      "runtime too short",
      set({ policy: "SCHED_DEADLINE", runtime: 1023, deadline: 5000 }),
      "process.scheduler.runtime: must be at least 1024 (nanoseconds), not 1023",
    ],
    [
      "no such policy",
      set({ policy: "" }),
      'process.scheduler.policy: "" is not a scheduling policy; one of SCHED_OTHER, SCHED_FIFO, SCHED_RR, ' +
        "SCHED_BATCH, SCHED_ISO, SCHED_IDLE, SCHED_DEADLINE",
    ],
  ]);
});

describe("hooks", () => {
  const set = (hook: object) => (c: Config) => {
    c.hooks = { prestart: [{ path: "/bin/true" }], poststop: [{ path: "/bin/true", ...hook }] };
  };
  table(defaultSpec, [
    ["path", set({ path: "true" }), 'hooks.poststop[0].path: must be an absolute path, not "true"'],
    [
      "timeout 0",
      set({ timeout: 0 }),
      "hooks.poststop[0].timeout: must be an integer from 1 to 2147483647, not 0",
    ],
    ["env", set({ env: ["A"] }), "hooks.poststop[0].env[0]: invalid environment variable: missing '='"],
    ["the rest", set({ timeout: 1, args: [], env: null })],
    ["unknown kinds are ignored", (c) => (c.hooks = { startup: [{ path: "x" }], other: 5 })],
  ]);
});
