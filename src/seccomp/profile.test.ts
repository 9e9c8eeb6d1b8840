/** The reader of linux.seccomp: every word, every wrong word, null and bigint. No library is needed. */
import { expect, test } from "bun:test";
import { BuncError, renderError } from "../errors.ts";
import { readProfile, SECCOMP_ARCHS, seccompDisabled } from "./profile.ts";
import { profileOf } from "./testing.ts";

const read = (profile: unknown) => readProfile(profileOf(profile));
const entry = (extra: object) => ({ names: ["read"], action: "SCMP_ACT_ALLOW", ...extra });
const withEntry = (extra: object) => ({ defaultAction: "SCMP_ACT_ERRNO", syscalls: [entry(extra)] });
const withArg = (arg: unknown) => withEntry({ args: [arg] });

/** The error of a broken profile: its message and path. */
function problem(profile: unknown): [message: string, path: string | undefined] {
  try {
    read(profile);
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    expect(error.fields.code).toBe("config");
    expect(renderError(error)).not.toContain("\n");
    return [error.message, error.fields.path];
  }
  throw new Error("was accepted");
}

test("actions have the values of linux/seccomp.h", () => {
  const value = (name: string, errnoRet?: number) =>
    read({ defaultAction: name, defaultErrnoRet: errnoRet }).defaultAction;
  expect(value("SCMP_ACT_KILL")).toBe(0);
  expect(value("SCMP_ACT_KILL_THREAD")).toBe(0);
  expect(value("SCMP_ACT_KILL_PROCESS")).toBe(0x80000000);
  expect(value("SCMP_ACT_TRAP")).toBe(0x00030000);
  expect(value("SCMP_ACT_ERRNO")).toBe(0x00050001);
  expect(value("SCMP_ACT_ERRNO", 0)).toBe(0x00050000);
  expect(value("SCMP_ACT_ERRNO", 4094)).toBe(0x00050ffe);
  expect(value("SCMP_ACT_TRACE")).toBe(0x7ff00001);
  expect(value("SCMP_ACT_TRACE", 65535)).toBe(0x7ff0ffff);
  expect(value("SCMP_ACT_LOG")).toBe(0x7ffc0000);
  expect(value("SCMP_ACT_ALLOW")).toBe(0x7fff0000);
});

test("a profile without default action and system calls asks for nothing", () => {
  expect(seccompDisabled(profileOf({}))).toBe(true);
  expect(seccompDisabled(profileOf({ defaultAction: "", syscalls: null }))).toBe(true);
  expect(seccompDisabled(profileOf({ defaultAction: "", syscalls: [entry({})] }))).toBe(false);
  expect(seccompDisabled(profileOf({ defaultAction: "SCMP_ACT_ALLOW" }))).toBe(false);
  expect(problem({ defaultAction: "", syscalls: [entry({})] })).toEqual([
    '"" is not a seccomp action',
    "linux.seccomp.defaultAction",
  ]);
});

test("null stands for absent everywhere, as Go writes it", () => {
  const profile = read({
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: null,
    architectures: null,
    flags: null,
    listenerPath: null,
    syscalls: [
      { names: null, action: "SCMP_ACT_ALLOW", errnoRet: null, args: null },
      {
        names: ["read"],
        action: "SCMP_ACT_ALLOW",
        args: [{ index: 1, value: null, valueTwo: null, op: "SCMP_CMP_EQ" }],
      },
    ],
  });
  expect(profile.defaultAction).toBe(0x00050001);
  expect(profile.archs).toEqual([]);
  expect(profile.entries[0]).toEqual({ index: 0, names: [], action: 0x7fff0000, conditions: [] });
  expect(profile.entries[1]!.conditions).toEqual([{ index: 1, op: 4, value: 0, valueTwo: 0 }]);
  expect(profile.warnings).toEqual([]);
});

test("flags: absent means SPEC_ALLOW, an empty list none, TSYNC nothing", () => {
  const flags = (list: unknown) => read({ defaultAction: "SCMP_ACT_ALLOW", flags: list });
  expect(flags(undefined)).toMatchObject({ flags: 4, impliedFlags: 4 });
  expect(flags(null)).toMatchObject({ flags: 4, impliedFlags: 4 });
  expect(flags([])).toMatchObject({ flags: 0, impliedFlags: 0 });
  expect(flags(["SECCOMP_FILTER_FLAG_TSYNC"])).toMatchObject({ flags: 0, impliedFlags: 0 });
  expect(flags(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"])).toMatchObject({
    flags: 6,
    impliedFlags: 0,
  });
  expect(problem({ defaultAction: "SCMP_ACT_ALLOW", flags: ["SECCOMP_FILTER_FLAG_LOG", "X"] })).toEqual([
    'seccomp flag "X" is not known',
    "linux.seccomp.flags[1]",
  ]);
});

test("NOTIFY sets the listener flag, also for a call that turns out to be unknown", () => {
  const notify = (names: string[], more: object = {}) => ({
    defaultAction: "SCMP_ACT_ALLOW",
    flags: [],
    listenerPath: "/run/agent.sock",
    syscalls: [{ names, action: "SCMP_ACT_NOTIFY" }],
    ...more,
  });
  expect(read(notify(["mkdir"]))).toMatchObject({ flags: 8, listener: true });
  expect(read(notify(["no_such_call"]))).toMatchObject({ flags: 8, listener: true });
  expect(read(notify([]))).toMatchObject({ flags: 0, listener: false });
  expect(read(notify(["mkdir"], { flags: ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] })).flags).toBe(40);
  expect(problem(notify(["mkdir"], { listenerPath: "" }))[0]).toBe("seccomp listenerPath is not set");
  expect(problem(notify(["mkdir", "write"]))).toEqual([
    "SCMP_ACT_NOTIFY cannot be used for the write syscall",
    "linux.seccomp.syscalls[0].names[1]",
  ]);
  expect(problem({ defaultAction: "SCMP_ACT_NOTIFY" })[0]).toBe(
    "SCMP_ACT_NOTIFY cannot be used as default action",
  );
  expect(
    problem({ defaultAction: "SCMP_ACT_ALLOW", flags: ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] })[0],
  ).toBe("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a listener");
});

test("every architecture of the runtime-spec has libseccomp's name", () => {
  const { archs } = read({ defaultAction: "SCMP_ACT_ALLOW", architectures: [...SECCOMP_ARCHS] });
  expect(archs).toHaveLength(23);
  expect(archs).toContain("x86_64");
  expect(archs).toContain("mipsel64n32");
  expect(archs.every((name) => /^[a-z0-9_]+$/.test(name))).toBe(true);
});

test("values are read exactly up to 2^64-1", () => {
  const value = (v: unknown) =>
    read(withArg({ index: 5, value: v, op: "SCMP_CMP_GT" })).entries[0]!.conditions[0]!.value;
  expect(value(2 ** 53 - 1)).toBe(2 ** 53 - 1);
  expect(value(18446744073709551615n)).toBe(18446744073709551615n);
  for (const bad of [-1, 1.5, 2 ** 53, Number.NaN, 18446744073709551616n, -1n, "1", true, {}]) {
    expect(problem(withArg({ index: 5, value: bad, op: "SCMP_CMP_GT" }))[1]).toBe(
      "linux.seccomp.syscalls[0].args[0].value",
    );
    expect(problem(withArg({ index: 5, value: 1, valueTwo: bad, op: "SCMP_CMP_GT" }))[1]).toBe(
      "linux.seccomp.syscalls[0].args[0].valueTwo",
    );
  }
});

test("operators have libseccomp's numbers", () => {
  const names = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
  const args = names.map((name) => ({ index: 0, value: 1, op: `SCMP_CMP_${name}` }));
  expect(read(withEntry({ args })).entries[0]!.conditions.map((c) => c.op)).toEqual([1, 2, 3, 4, 5, 6, 7]);
});

test("an errnoRet that the action cannot return is a warning, one that it cannot represent an error", () => {
  expect(read(withEntry({ errnoRet: 1 })).warnings).toEqual([
    "linux.seccomp.syscalls[0].errnoRet has no effect: SCMP_ACT_ALLOW returns no errno",
  ]);
  expect(read({ defaultAction: "SCMP_ACT_KILL", defaultErrnoRet: 38 }).warnings).toHaveLength(1);
  for (const bad of [4095, 65536, -1, 1.5, "1", {}]) {
    expect(problem(withEntry({ action: "SCMP_ACT_ERRNO", errnoRet: bad }))[1]).toBe(
      "linux.seccomp.syscalls[0].errnoRet",
    );
  }
  expect(problem(withEntry({ action: "SCMP_ACT_TRACE", errnoRet: 65536 }))[1]).toBe(
    "linux.seccomp.syscalls[0].errnoRet",
  );
  expect(problem({ defaultAction: "SCMP_ACT_ERRNO", defaultErrnoRet: 65537 })[1]).toBe(
    "linux.seccomp.defaultErrnoRet",
  );
});

test("every broken part is an error with its path", () => {
  const cases: [unknown, string][] = [
    [{ defaultAction: "SCMP_ACT_DENY" }, "linux.seccomp.defaultAction"],
    [{ syscalls: [entry({})] }, "linux.seccomp.defaultAction"],
    [{ defaultAction: 5 }, "linux.seccomp.defaultAction"],
    [{ defaultAction: "SCMP_ACT_ALLOW", architectures: ["x86"] }, "linux.seccomp.architectures[0]"],
    [
      { defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_X86", "SCMP_ARCH_"] },
      "linux.seccomp.architectures[1]",
    ],
    [{ defaultAction: "SCMP_ACT_ALLOW", architectures: [null] }, "linux.seccomp.architectures[0]"],
    [{ defaultAction: "SCMP_ACT_ALLOW", architectures: "SCMP_ARCH_X86" }, "linux.seccomp.architectures"],
    [{ defaultAction: "SCMP_ACT_ALLOW", flags: {} }, "linux.seccomp.flags"],
    [{ defaultAction: "SCMP_ACT_ALLOW", syscalls: {} }, "linux.seccomp.syscalls"],
    [{ defaultAction: "SCMP_ACT_ALLOW", syscalls: [null] }, "linux.seccomp.syscalls[0]"],
    [withEntry({ action: "" }), "linux.seccomp.syscalls[0].action"],
    [withEntry({ names: ["read", ""] }), "linux.seccomp.syscalls[0].names[1]"],
    [withEntry({ names: [7] }), "linux.seccomp.syscalls[0].names[0]"],
    [withEntry({ names: "read" }), "linux.seccomp.syscalls[0].names"],
    [withEntry({ args: 1 }), "linux.seccomp.syscalls[0].args"],
    [withArg(null), "linux.seccomp.syscalls[0].args[0]"],
    [withArg({ index: 6, value: 0, op: "SCMP_CMP_EQ" }), "linux.seccomp.syscalls[0].args[0].index"],
    [withArg({ index: 2 ** 32, value: 0, op: "SCMP_CMP_EQ" }), "linux.seccomp.syscalls[0].args[0].index"],
    [withArg({ index: -1, value: 0, op: "SCMP_CMP_EQ" }), "linux.seccomp.syscalls[0].args[0].index"],
    [withArg({ value: 0, op: "SCMP_CMP_EQ" }), "linux.seccomp.syscalls[0].args[0].index"],
    [withArg({ index: 0, value: 0, op: "SCMP_CMP_XX" }), "linux.seccomp.syscalls[0].args[0].op"],
    [withArg({ index: 0, value: 0 }), "linux.seccomp.syscalls[0].args[0].op"],
  ];
  for (const [profile, path] of cases) expect(problem(profile)[1]).toBe(path);
});

test("a hostile word is quoted and cut", () => {
  const [message] = problem({ defaultAction: `\u001b[2J\n${"x".repeat(1e6)}` });
  expect(message.length).toBeLessThan(150);
  expect(message).toContain("\\u001b[2J\\n");
});
