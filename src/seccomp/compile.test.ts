/** Whole profiles: the decisions of the compiled program, run by the test's BPF machine. */
import { expect, test } from "bun:test";
import { type BuncError, renderError } from "../errors.ts";
import { failure as refused } from "../testing.ts";
import { compileSeccomp } from "./compile.ts";
import {
  ALLOW,
  AUDIT_AARCH64,
  AUDIT_I386,
  AUDIT_X86_64,
  describeX86,
  ENOSYS,
  EPERM,
  errno,
  KILL,
  numberOf,
  profileOf,
  program,
  testLibrary,
} from "./testing.ts";

const compile = (profile: unknown) => compileSeccomp(profileOf(profile), testLibrary())!;
const x86_64 = (nr: number, ...args: bigint[]) => ({ arch: AUDIT_X86_64, nr, args });

const failure = (profile: unknown): BuncError => refused(() => compile(profile));

test("a profile that asks for nothing compiles to nothing", () => {
  expect(compileSeccomp(profileOf({ architectures: ["SCMP_ARCH_X86"] }), testLibrary())).toBeUndefined();
});

describeX86("actions", () => {
  const values: [name: string, errnoRet: number | undefined, value: number][] = [
    ["SCMP_ACT_KILL", undefined, 0],
    ["SCMP_ACT_KILL_THREAD", 5, 0],
    ["SCMP_ACT_KILL_PROCESS", undefined, 0x80000000],
    ["SCMP_ACT_TRAP", undefined, 0x30000],
    ["SCMP_ACT_ERRNO", undefined, EPERM],
    ["SCMP_ACT_ERRNO", 0, errno(0)],
    ["SCMP_ACT_ERRNO", 100, errno(100)],
    ["SCMP_ACT_ERRNO", 4094, errno(4094)],
    ["SCMP_ACT_TRACE", undefined, 0x7ff00001],
    ["SCMP_ACT_TRACE", 65535, 0x7ff0ffff],
    ["SCMP_ACT_LOG", undefined, 0x7ffc0000],
    ["SCMP_ACT_NOTIFY", undefined, 0x7fc00000],
  ];
  for (const [action, errnoRet, value] of values) {
    test(`${action} with errnoRet ${errnoRet} as a rule${action.endsWith("NOTIFY") ? "" : " and as the default"}`, () => {
      const rule = program({
        defaultAction: "SCMP_ACT_ALLOW",
        listenerPath: "/run/agent.sock",
        syscalls: [{ names: ["mkdir"], action, errnoRet }],
      });
      expect(rule.run(x86_64(numberOf("mkdir")))).toBe(value);
      expect(rule.run(x86_64(numberOf("rmdir")))).toBe(ALLOW);
      if (action === "SCMP_ACT_NOTIFY") return;
      const byDefault = program({
        defaultAction: action,
        defaultErrnoRet: errnoRet,
        syscalls: [{ names: ["mkdir"], action: "SCMP_ACT_ALLOW" }],
      });
      expect(byDefault.run(x86_64(numberOf("mkdir")))).toBe(ALLOW);
      expect(byDefault.run(x86_64(numberOf("read")))).toBe(value);
    });
  }

  test("a rule that only repeats the default is left out, with the errno compared too", () => {
    const profile = {
      defaultAction: "SCMP_ACT_ERRNO",
      defaultErrnoRet: 1,
      syscalls: [
        { names: ["mkdir"], action: "SCMP_ACT_ERRNO" },
        { names: ["rmdir"], action: "SCMP_ACT_ERRNO", errnoRet: 2 },
      ],
    };
    expect(program(profile).run(x86_64(numberOf("mkdir")))).toBe(EPERM);
    expect(program(profile).run(x86_64(numberOf("rmdir")))).toBe(errno(2));
    const killed = {
      defaultAction: "SCMP_ACT_KILL",
      syscalls: [{ names: ["mkdir"], action: "SCMP_ACT_KILL_THREAD" }],
    };
    expect(program(killed).run(x86_64(numberOf("mkdir")))).toBe(KILL);
  });

  test("33 and more redundant names, none of which becomes a rule", () => {
    const names = Array.from({ length: 40 }, (_, i) => ["read", "write", "open", "close"][i % 4]!);
    const run = program({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names, action: "SCMP_ACT_ALLOW" }] });
    expect(run.run(x86_64(0))).toBe(ALLOW);
    expect(run.run({ arch: AUDIT_I386, nr: 3 })).toBe(KILL);
  });
});

describeX86("conditions on arguments", () => {
  const values = [
    0n,
    1n,
    0x7fffffffn,
    0x80000000n,
    0xffffffffn,
    0x100000000n,
    0x100000001n,
    0x8000000000000000n,
    2n ** 64n - 1n,
  ];
  const operators: Record<string, (actual: bigint, value: bigint) => boolean> = {
    SCMP_CMP_NE: (a, v) => a !== v,
    SCMP_CMP_LT: (a, v) => a < v,
    SCMP_CMP_LE: (a, v) => a <= v,
    SCMP_CMP_EQ: (a, v) => a === v,
    SCMP_CMP_GE: (a, v) => a >= v,
    SCMP_CMP_GT: (a, v) => a > v,
  };
  for (const [op, holds] of Object.entries(operators)) {
    test(`${op} on all of 64 bits and on every argument`, () => {
      for (const value of values) {
        const index = values.indexOf(value) % 6;
        const run = program({
          defaultAction: "SCMP_ACT_ERRNO",
          syscalls: [{ names: ["read"], action: "SCMP_ACT_ALLOW", args: [{ index, value, op }] }],
        });
        for (const actual of values.flatMap((v) => [
          v,
          BigInt.asUintN(64, v + 1n),
          BigInt.asUintN(64, v - 1n),
        ])) {
          const args = Array.from({ length: 6 }, (_, i) => (i === index ? actual : 0x5555555555555555n));
          expect(run.run(x86_64(0, ...args))).toBe(holds(actual, value) ? ALLOW : EPERM);
        }
      }
    });
  }

  test("SCMP_CMP_MASKED_EQ: value is the mask, valueTwo the result", () => {
    for (const [mask, wanted] of [
      [0x7e020000n, 0n],
      [0xffffffff00000000n, 0x100000000n],
      [0xf0f0n, 0xf000n],
    ] as const) {
      const args = [{ index: 0, value: mask, valueTwo: wanted, op: "SCMP_CMP_MASKED_EQ" }];
      const run = program({
        defaultAction: "SCMP_ACT_ERRNO",
        syscalls: [{ names: ["clone"], action: "SCMP_ACT_ALLOW", args }],
      });
      for (const actual of [
        0n,
        0x11n,
        0x10000000n,
        0x7e020000n,
        0x100000000n,
        0x1ffffffffn,
        0xf000n,
        0xff0fn,
        2n ** 64n - 1n,
      ]) {
        expect(run.run(x86_64(numberOf("clone"), actual))).toBe((actual & mask) === wanted ? ALLOW : EPERM);
      }
    }
  });

  test("conditions on different arguments must all hold", () => {
    const args = [
      { index: 0, value: 1, op: "SCMP_CMP_EQ" },
      { index: 2, value: 5, op: "SCMP_CMP_GE" },
    ];
    const run = program({
      defaultAction: "SCMP_ACT_ERRNO",
      syscalls: [{ names: ["fcntl"], action: "SCMP_ACT_ALLOW", args }],
    });
    const fcntl = (a: bigint, c: bigint) => run.run(x86_64(numberOf("fcntl"), a, 0n, c));
    expect([fcntl(1n, 5n), fcntl(1n, 4n), fcntl(0n, 5n), fcntl(0n, 4n)]).toEqual([
      ALLOW,
      EPERM,
      EPERM,
      EPERM,
    ]);
  });

  test("where two conditions are about the same argument, any condition suffices", () => {
    const args = [
      { index: 0, value: 1, op: "SCMP_CMP_EQ" },
      { index: 0, value: 7, op: "SCMP_CMP_EQ" },
      { index: 1, value: 9, op: "SCMP_CMP_EQ" },
    ];
    const run = program({
      defaultAction: "SCMP_ACT_ERRNO",
      syscalls: [{ names: ["fcntl"], action: "SCMP_ACT_ALLOW", args }],
    });
    const fcntl = (a: bigint, b: bigint) => run.run(x86_64(numberOf("fcntl"), a, b));
    expect([fcntl(1n, 0n), fcntl(7n, 0n), fcntl(2n, 9n), fcntl(2n, 0n)]).toEqual([
      ALLOW,
      ALLOW,
      ALLOW,
      EPERM,
    ]);
  });

  test("a 32-bit architecture compares 32 bits", () => {
    const args = [{ index: 0, value: 0xffffffff, op: "SCMP_CMP_EQ" }];
    const run = program({
      defaultAction: "SCMP_ACT_ERRNO",
      architectures: ["SCMP_ARCH_X86"],
      syscalls: [{ names: ["personality"], action: "SCMP_ACT_ALLOW", args }],
    });
    const nr = numberOf("personality", "x86");
    expect(run.run({ arch: AUDIT_I386, nr, args: [0xffffffffn] })).toBe(ALLOW);
    expect(run.run({ arch: AUDIT_I386, nr, args: [0xfffffffen] })).toBe(EPERM);
    expect(run.run(x86_64(numberOf("personality"), 0xffffffffn))).toBe(ALLOW);
    expect(run.run(x86_64(numberOf("personality"), 0x1ffffffffn))).toBe(EPERM);
  });

  test("contradicting rules are an error that names the second", () => {
    const args = [{ index: 0, value: 1, op: "SCMP_CMP_EQ" }];
    const error = failure({
      defaultAction: "SCMP_ACT_ERRNO",
      syscalls: [
        { names: ["write", "read"], action: "SCMP_ACT_ALLOW", args },
        { names: ["close", "read"], action: "SCMP_ACT_KILL", args },
      ],
    });
    expect(error.fields.path).toBe("linux.seccomp.syscalls[1].names[1]");
    expect(renderError(error)).toBe(
      "error adding seccomp rule for syscall read (in seccomp; at linux.seccomp.syscalls[1].names[1]; EEXIST; " +
        "hint: another rule has the same conditions and a different action)",
    );
  });
});

describeX86("architectures", () => {
  const profile = (architectures?: string[]) =>
    program({
      defaultAction: "SCMP_ACT_ERRNO",
      architectures,
      syscalls: [{ names: ["read", "openat"], action: "SCMP_ACT_ALLOW" }],
    });

  test("the native one is always there, any other is killed unless listed", () => {
    for (const list of [
      undefined,
      [],
      ["SCMP_ARCH_X86_64"],
      ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86_64"],
      ["SCMP_ARCH_AARCH64"],
    ]) {
      const run = profile(list);
      expect(run.run(x86_64(0))).toBe(ALLOW);
      expect(run.run(x86_64(1))).toBe(EPERM);
      expect(run.run({ arch: AUDIT_I386, nr: 3 })).toBe(KILL);
      expect(run.run({ arch: AUDIT_AARCH64, nr: 63 })).toBe(list?.[0] === "SCMP_ARCH_AARCH64" ? ALLOW : KILL);
      expect(run.run(x86_64(0x40000000))).toBe(KILL);
      expect(run.run(x86_64(0xffffffff))).toBe(EPERM);
    }
  });

  test("x86 and x32 have numbers of their own", () => {
    const run = profile(["SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    expect(run.run({ arch: AUDIT_I386, nr: 3 })).toBe(ALLOW);
    expect(run.run({ arch: AUDIT_I386, nr: 0 })).toBe(EPERM);
    expect(run.run(x86_64(0x40000000))).toBe(ALLOW);
    expect(run.run(x86_64(0x40000001))).toBe(EPERM);
  });

  test("system calls that i386 multiplexes are filtered both ways", () => {
    const run = program({
      defaultAction: "SCMP_ACT_ERRNO",
      architectures: ["SCMP_ARCH_X86"],
      syscalls: [{ names: ["connect"], action: "SCMP_ACT_ALLOW" }],
    });
    expect(run.run({ arch: AUDIT_I386, nr: 362 })).toBe(ALLOW);
    expect(run.run({ arch: AUDIT_I386, nr: 102, args: [3n] })).toBe(ALLOW);
    expect(run.run({ arch: AUDIT_I386, nr: 102, args: [1n] })).toBe(EPERM);
  });

  test("one that libseccomp cannot mix with the native one is an error", () => {
    const error = failure({
      defaultAction: "SCMP_ACT_ALLOW",
      architectures: ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"],
    });
    expect(error.fields).toMatchObject({ path: "linux.seccomp.architectures[2]", errno: "EDOM" });
    expect(error.message).toBe("error adding architecture s390x to seccomp filter");
  });

  test("one that this libseccomp does not know is an error", () => {
    const lib = {
      ...testLibrary(),
      arch: (name: string) => (name === "sheb" ? 0 : testLibrary().arch(name)),
    };
    const profile = profileOf({ defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_SHEB"] });
    expect(() => compileSeccomp(profile, lib)).toThrow(
      /architecture sheb is not supported by libseccomp 2\./,
    );
  });
});

describeX86("ENOSYS", () => {
  const syscalls = [{ names: ["setns", "read"], action: "SCMP_ACT_ALLOW" }];
  const last = numberOf("setns");

  test("for system calls newer than all that are named, where the default denies", () => {
    for (const action of ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"]) {
      const run = program({
        defaultAction: action,
        architectures: ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        syscalls,
      });
      expect(run.run(x86_64(last))).toBe(ALLOW);
      expect(run.run(x86_64(last + 1))).toBe(ENOSYS);
      expect(run.run(x86_64(1))).not.toBe(ENOSYS);
      expect(run.run({ arch: AUDIT_I386, nr: numberOf("setns", "x86") + 1 })).toBe(ENOSYS);
      expect(run.run({ arch: AUDIT_I386, nr: numberOf("setns", "x86") })).toBe(ALLOW);
      expect(run.run(x86_64(numberOf("setns", "x32") + 1))).toBe(ENOSYS);
      expect(run.run({ arch: AUDIT_AARCH64, nr: 5000 })).toBe(KILL);
    }
  });

  test("not where it allows, logs or traces", () => {
    for (const action of ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"]) {
      const run = program({
        defaultAction: action,
        syscalls: [{ names: ["setns"], action: "SCMP_ACT_KILL" }],
      });
      expect(run.run(x86_64(last + 1))).not.toBe(ENOSYS);
    }
  });

  test("a call counts as known even if its rule is redundant", () => {
    const run = program({
      defaultAction: "SCMP_ACT_ERRNO",
      syscalls: [...syscalls, { names: ["openat2"], action: "SCMP_ACT_ERRNO" }],
    });
    expect(run.run(x86_64(numberOf("openat2")))).toBe(EPERM);
    expect(run.run(x86_64(numberOf("openat2") + 1))).toBe(ENOSYS);
  });

  test("a profile that names only number 0, or only unknown calls, has no stub", () => {
    for (const name of ["read", "no_such_call"]) {
      const run = program({
        defaultAction: "SCMP_ACT_ERRNO",
        syscalls: [{ names: [name], action: "SCMP_ACT_ALLOW" }],
      });
      expect(run.run(x86_64(5000))).toBe(EPERM);
    }
  });
});

describeX86("flags and warnings", () => {
  test("flags come from the profile, the listener flag from NOTIFY", () => {
    const syscalls = [{ names: ["mkdir"], action: "SCMP_ACT_NOTIFY" }];
    expect(compile({ defaultAction: "SCMP_ACT_ALLOW" })).toMatchObject({ flags: 4, listener: false });
    expect(compile({ defaultAction: "SCMP_ACT_ALLOW", flags: [] }).flags).toBe(0);
    expect(compile({ defaultAction: "SCMP_ACT_ALLOW", flags: ["SECCOMP_FILTER_FLAG_TSYNC"] }).flags).toBe(0);
    expect(compile({ defaultAction: "SCMP_ACT_ALLOW", listenerPath: "/s", syscalls })).toMatchObject({
      flags: 12,
      listener: true,
    });
  });

  test("a flag the kernel does not take is an error if asked for, and left out if not", () => {
    const library = testLibrary();
    const old = { ...library, info: { ...library.info, kernelFlags: 8 } };
    const asked = (flags?: string[]) =>
      compileSeccomp(
        profileOf({
          defaultAction: "SCMP_ACT_ALLOW",
          flags,
          listenerPath: "/s",
          syscalls: [{ names: ["mkdir"], action: "SCMP_ACT_NOTIFY" }],
        }),
        old,
      );
    expect(asked()!.flags).toBe(8);
    expect(() => asked(["SECCOMP_FILTER_FLAG_LOG"])).toThrow("not supported by the kernel");
    expect(() => asked(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])).toThrow(
      "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is not supported by the kernel",
    );
  });

  test("unknown names are ignored with one warning", () => {
    const names = ["read", "zz\n1", ...Array.from({ length: 30 }, (_, i) => `zz_${i}`), "zz_0"];
    const { warnings } = compile({
      defaultAction: "SCMP_ACT_ERRNO",
      syscalls: [{ names, action: "SCMP_ACT_ALLOW" }],
    });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toStartWith("linux.seccomp.syscalls: ignored, unknown to libseccomp 2.");
    expect(warnings[0]).toContain(': "zz\\n1", "zz_0", "zz_1"');
    expect(warnings[0]).toEndWith(" and 11 more");
  });
});
