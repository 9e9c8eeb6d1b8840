/** The binding: layouts and constants agree with C's, and the library refuses every malformed request. */
import { dlopen } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import {
  BPF_JA,
  BPF_JEQ_K,
  BPF_JGT_K,
  BPF_JSET_K,
  BPF_LD_W_ABS,
  BPF_RET_K,
  DATA_ARCH,
  DATA_NR,
} from "./enosys.ts";
import { encodeRequest, LAYOUT, openSeccompLibrary, type SeccompRequest } from "./native.ts";
import * as profile from "./profile.ts";
import { AUDIT_X86_64, describeX86, testLibrary, testLibraryPath } from "./testing.ts";

const { symbols } = dlopen(testLibraryPath(), {
  bunc_seccomp_layout: { args: ["ptr", "u32"], returns: "u32" },
  bunc_seccomp_compile: { args: ["ptr", "u32", "ptr", "u32", "ptr"], returns: "i32" },
  bunc_seccomp_resolve: { args: ["ptr", "u32", "ptr", "u32", "u32", "ptr"], returns: "i32" },
});

test("layout and constants are those of c/libseccomp-bunc.h", () => {
  const { request: q, rule: r, arg: a, failure: f } = LAYOUT;
  const expected = [
    LAYOUT.format,
    ...[q.size, q.version, q.defaultAction, q.optimize, q.narchs, q.nrules, q.nargs],
    ...[r.size, r.action, r.syscall, r.nargs],
    ...[a.size, a.index, a.op, a.aLow, a.aHigh, a.bLow, a.bHigh],
    ...[f.size, f.stage, f.index, f.name, f.nameSize],
    LAYOUT.infoSize,
    ...[1, 2, 3, 4, 5, 6, 7], // the stages, in the order of STAGES
    ...[
      profile.ACT_KILL_PROCESS,
      profile.ACT_KILL_THREAD,
      profile.ACT_TRAP,
      profile.ACT_ERRNO,
      profile.ACT_TRACE,
    ],
    ...[profile.ACT_LOG, profile.ACT_ALLOW, profile.ACT_NOTIFY],
    ...[1, 2, 3, 4, 5, 6, 7], // the operators, as profile.test.ts has them
    ...[
      profile.FLAG_LOG,
      profile.FLAG_SPEC_ALLOW,
      profile.FLAG_NEW_LISTENER,
      profile.FLAG_WAIT_KILLABLE_RECV,
    ],
    0xffffffff,
    ...[BPF_LD_W_ABS, BPF_JA, BPF_JEQ_K, BPF_JGT_K, BPF_JSET_K, BPF_RET_K, DATA_NR, DATA_ARCH],
  ];
  const actual = new Uint32Array(expected.length);
  expect(symbols.bunc_seccomp_layout(actual, actual.length)).toBe(expected.length);
  expect([...actual]).toEqual(expected);
});

test("facts about the library and the kernel", () => {
  const { info } = testLibrary();
  expect(info.version).toMatch(/^2\.[5-9]\.\d+$/);
  expect(info.apiLevel).toBeGreaterThanOrEqual(6);
  expect(info.x86_64).toBe(AUDIT_X86_64);
  expect(info.maxInstructions).toBe(4096);
  expect(info.enosys).toBe(0x50026);
  expect(info.kernelFlags & 0xf).toBe(0xf); // TSYNC, LOG, SPEC_ALLOW, NEW_LISTENER: all before Linux 5.10
});

test("a library that is absent or another is an error", () => {
  expect(() => openSeccompLibrary("/nonexistent/libbunc-seccomp.so")).toThrow();
  expect(() => openSeccompLibrary("libc.so.6")).toThrow();
});

describeX86("resolve", () => {
  const lib = testLibrary();
  const archs = [lib.arch("x86_64"), lib.arch("x86"), lib.arch("x32")];

  test("answers for all names on all architectures", () => {
    const numbers = lib.resolve(archs, ["read", "_llseek", "no_such_call", "openat"]);
    expect([...numbers.subarray(0, 4)]).toEqual([0, expect.any(Number), -1, 257]);
    expect(numbers[1]!).toBeLessThan(-1);
    expect([...numbers.subarray(4, 8)]).toEqual([3, 140, -1, 295]);
    expect(numbers[8]).toBe(0x40000000);
  });

  test("a NUL in a name does not make another name of it", () => {
    expect([...lib.resolve([archs[0]!], ["read\0", "re\0ad", "\0", "write"])]).toEqual([-1, -1, -1, 1]);
  });

  test("nothing asked, nothing answered; unknown architectures know nothing", () => {
    expect(lib.resolve(archs, [])).toHaveLength(0);
    expect(lib.resolve([], ["read"])).toHaveLength(0);
    expect([...lib.resolve([12345], ["read"])]).toEqual([-1]);
    expect(lib.arch("x86_65")).toBe(0);
    expect(lib.arch("")).toBe(0);
  });

  test("refuses a list of names that is not as long as announced", () => {
    const native = Uint32Array.of(archs[0]!);
    const names = new TextEncoder().encode("read\0write\0");
    const out = new Int32Array(4);
    const ask = (size: number, count: number) =>
      symbols.bunc_seccomp_resolve(native, 1, names, size, count, out);
    expect(ask(11, 2)).toBe(0);
    for (const [size, count] of [
      [11, 1],
      [11, 3],
      [10, 2],
      [5, 2],
      [0, 1],
      [11, 0],
    ] as const) {
      expect(ask(size, count)).toBeLessThan(0);
    }
  });
});

describe("compile", () => {
  const request: SeccompRequest = {
    defaultAction: profile.ACT_ALLOW,
    optimize: 1,
    archs: [testLibrary().arch("x86")],
    rules: [
      { action: profile.ACT_ERRNO + 1, syscall: 1, conditions: [] },
      {
        action: profile.ACT_ERRNO + 2,
        syscall: 2,
        conditions: [
          { index: 0, op: 4, value: 2 ** 53 - 1, valueTwo: 0 },
          { index: 1, op: 7, value: 0xffffffff00000001n, valueTwo: 0x8000000000000001n },
        ],
      },
    ],
  };
  const change = (part: Partial<SeccompRequest>) => testLibrary().compile({ ...request, ...part });

  test("integers of 64 bits arrive whole", () => {
    const bytes = encodeRequest(request);
    const view = new DataView(bytes.buffer);
    const first = bytes.length - 2 * LAYOUT.arg.size;
    expect(view.getBigUint64(first + LAYOUT.arg.aLow, true)).toBe(2n ** 53n - 1n);
    expect(view.getBigUint64(first + LAYOUT.arg.size + LAYOUT.arg.aLow, true)).toBe(0xffffffff00000001n);
    expect(view.getBigUint64(first + LAYOUT.arg.size + LAYOUT.arg.bLow, true)).toBe(0x8000000000000001n);
    expect(testLibrary().compile(request)).toBeInstanceOf(Uint8Array);
  });

  test("what libseccomp refuses is named", () => {
    const rule = request.rules[0]!;
    expect(change({ defaultAction: 0x00060000 })).toEqual({ stage: "init", index: 0, errno: "EINVAL" });
    expect(change({ optimize: 3 })).toEqual({ stage: "optimize", index: 0, errno: "EOPNOTSUPP" });
    expect(change({ archs: [testLibrary().arch("x86"), 1] })).toEqual({
      stage: "arch",
      index: 1,
      errno: "EINVAL",
    });
    expect(change({ archs: [testLibrary().arch("mips")] })).toEqual({
      stage: "arch",
      index: 0,
      errno: "EDOM",
    });
    expect(change({ rules: [rule, { ...rule, action: profile.ACT_ALLOW }] })).toEqual({
      stage: "rule",
      index: 1,
      errno: "EACCES",
    });
    expect(change({ rules: [{ ...rule, syscall: -5 }] })).toEqual({
      stage: "rule",
      index: 0,
      errno: "EINVAL",
    });
    const condition = { index: 6, op: 4, value: 0, valueTwo: 0 };
    expect(change({ rules: [{ ...rule, conditions: [condition] }] })).toMatchObject({
      stage: "rule",
      errno: "EINVAL",
    });
    expect(change({ rules: [{ ...rule, conditions: [{ ...condition, index: 0, op: 8 }] }] })).toMatchObject({
      stage: "rule",
    });
    expect(
      change({ rules: [{ ...rule, conditions: Array(7).fill({ ...condition, index: 0 }) }] }),
    ).toMatchObject({ stage: "rule" });
  });

  test("the same architecture twice, and the native one, are no error", () => {
    const x86 = testLibrary().arch("x86");
    expect(change({ archs: [x86, x86, testLibrary().info.native] })).toBeInstanceOf(Uint8Array);
  });

  test("a buffer that is too small is told with the size needed", () => {
    const bytes = encodeRequest(request);
    const failure = new Uint8Array(LAYOUT.failure.size);
    const program = new Uint8Array(4096 * 8).fill(0xee);
    const length = symbols.bunc_seccomp_compile(bytes, bytes.length, program, program.length, failure);
    expect(symbols.bunc_seccomp_compile(bytes, bytes.length, program, length - 1, failure)).toBe(-1);
    const view = new DataView(failure.buffer);
    expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([7, length]);
    program.fill(0xee);
    expect(symbols.bunc_seccomp_compile(bytes, bytes.length, program, length, failure)).toBe(length);
    expect(program[length]).toBe(0xee);
  });

  test("every truncation and every wrong count is refused", () => {
    const bytes = encodeRequest(request);
    const failure = new Uint8Array(LAYOUT.failure.size);
    const program = new Uint8Array(4096 * 8);
    const send = (b: Uint8Array, size = b.length) =>
      symbols.bunc_seccomp_compile(b, size, program, program.length, failure);
    expect(send(bytes)).toBeGreaterThan(0);
    for (let size = 0; size < bytes.length; size++) expect(send(bytes, size)).toBe(-1);
    expect(send(Uint8Array.of(...bytes, 0))).toBe(-1);
    const fields = [
      LAYOUT.request.version,
      LAYOUT.request.narchs,
      LAYOUT.request.nrules,
      LAYOUT.request.nargs,
    ];
    const rule0 = LAYOUT.request.size + 4;
    for (const at of [...fields, rule0 + LAYOUT.rule.nargs, rule0 + LAYOUT.rule.size + LAYOUT.rule.nargs]) {
      for (const value of [0, 1, 2, 3, 7, 0x7fffffff, 0x80000000, 0xffffffff, 0x15555556]) {
        const broken = bytes.slice();
        const view = new DataView(broken.buffer);
        if (view.getUint32(at, true) === value) continue;
        view.setUint32(at, value, true);
        expect(send(broken)).toBe(-1);
      }
    }
  });

  test("random bytes never get past the checks", () => {
    const failure = new Uint8Array(LAYOUT.failure.size);
    const program = new Uint8Array(4096 * 8);
    const good = encodeRequest(request);
    let seed = 12345;
    const random = () => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return seed >>> 8;
    };
    for (let i = 0; i < 3000; i++) {
      const broken = good.slice();
      for (let n = random() % 4; n >= 0; n--) broken[random() % broken.length] = random();
      const length = symbols.bunc_seccomp_compile(broken, broken.length, program, program.length, failure);
      expect(length === -1 || (length > 0 && length % 8 === 0)).toBe(true);
    }
  });
});

test("only our functions are exported", () => {
  const nm = Bun.spawnSync(["nm", "-D", "--defined-only", "--format=just-symbols", testLibraryPath()]);
  expect(nm.exitCode).toBe(0);
  const names = nm.stdout.toString().trim().split("\n");
  expect(names.length).toBe(5);
  expect(names.filter((name) => !name.startsWith("bunc_seccomp_"))).toEqual([]);
});
