/** The ENOSYS stub on its own, for architectures that this machine's libseccomp cannot put into one filter. */
import { describe, expect, test } from "bun:test";
import { BpfProgram } from "./bpf-vm.ts";
import { enosysStub, type LastSyscall, wantsEnosysStub } from "./enosys.ts";
import type { SeccompInfo } from "./native.ts";
import { AUDIT_AARCH64, AUDIT_I386, AUDIT_X86_64, ENOSYS } from "./testing.ts";

const X32 = 0x4000003e;
const S390X = 0x80000016;
const info: SeccompInfo = {
  version: "0",
  apiLevel: 0,
  native: AUDIT_X86_64,
  x86_64: AUDIT_X86_64,
  x32: X32,
  s390: 0x16,
  s390x: S390X,
  kernelFlags: 0,
  enosys: ENOSYS,
  maxInstructions: 4096,
};
const FILTER = 0x12345678;

/** The stub in front of a filter that only answers FILTER. */
function stub(last: LastSyscall[]): (arch: number, nr: number) => number {
  const bytes = enosysStub(last, info);
  const whole = new Uint8Array(bytes.length + 8);
  whole.set(bytes);
  whole.set([6, 0, 0, 0, 0x78, 0x56, 0x34, 0x12], bytes.length);
  const program = new BpfProgram(whole);
  return (arch, nr) => program.run({ arch, nr });
}

test("it is for defaults that deny", () => {
  const actions = { kill: 0, killProcess: 0x80000000, trap: 0x30000, errno: 0x50001, enosys: ENOSYS };
  for (const action of Object.values(actions)) expect(wantsEnosysStub(action)).toBe(true);
  for (const action of [0x7fff0000, 0x7ffc0000, 0x7ff00001, 0x7ff0ffff])
    expect(wantsEnosysStub(action)).toBe(false);
});

test("nothing named, nothing built", () => {
  expect(enosysStub([], info)).toHaveLength(0);
});

describe("one section per architecture", () => {
  test("numbers above the last are ENOSYS, all others go to the filter", () => {
    const run = stub([
      { arch: AUDIT_AARCH64, number: 100 },
      { arch: AUDIT_I386, number: 7 },
    ]);
    expect(run(AUDIT_AARCH64, 100)).toBe(FILTER);
    expect(run(AUDIT_AARCH64, 101)).toBe(ENOSYS);
    expect(run(AUDIT_I386, 7)).toBe(FILTER);
    expect(run(AUDIT_I386, 8)).toBe(ENOSYS);
    expect(run(AUDIT_I386, 0xffffffff)).toBe(ENOSYS);
    expect(run(AUDIT_X86_64, 5000)).toBe(FILTER);
    expect(run(0, 5000)).toBe(FILTER);
  });

  test("x86_64 alone leaves the numbers of x32 to the filter", () => {
    const run = stub([{ arch: AUDIT_X86_64, number: 10 }]);
    expect(run(AUDIT_X86_64, 10)).toBe(FILTER);
    expect(run(AUDIT_X86_64, 11)).toBe(ENOSYS);
    expect(run(AUDIT_X86_64, 0x80000000)).toBe(ENOSYS);
    expect(run(AUDIT_X86_64, 0x40000000)).toBe(FILTER);
    expect(run(AUDIT_X86_64, 0x40000fff)).toBe(FILTER);
    expect(run(AUDIT_X86_64, 0xffffffff)).toBe(FILTER);
  });

  test("x32 alone leaves the numbers of x86_64 to the filter", () => {
    const run = stub([{ arch: X32, number: 0x40000005 }]);
    expect(run(AUDIT_X86_64, 5000)).toBe(FILTER);
    expect(run(AUDIT_X86_64, 0x40000005)).toBe(FILTER);
    expect(run(AUDIT_X86_64, 0x40000006)).toBe(ENOSYS);
  });

  for (const order of ["x86_64 first", "x32 first"]) {
    test(`x86_64 and x32 in one filter, ${order}`, () => {
      const both = [
        { arch: AUDIT_X86_64, number: 10 },
        { arch: X32, number: 0x40000005 },
      ];
      const run = stub([{ arch: AUDIT_I386, number: 3 }, ...(order === "x32 first" ? both.reverse() : both)]);
      expect(run(AUDIT_X86_64, 10)).toBe(FILTER);
      expect(run(AUDIT_X86_64, 11)).toBe(ENOSYS);
      expect(run(AUDIT_X86_64, 0x40000005)).toBe(FILTER);
      expect(run(AUDIT_X86_64, 0x40000006)).toBe(ENOSYS);
      expect(run(AUDIT_X86_64, 0xffffffff)).toBe(ENOSYS);
      expect(run(AUDIT_I386, 4)).toBe(ENOSYS);
    });
  }

  test("s390x answers ENOSYS to number 0 as well", () => {
    const run = stub([{ arch: S390X, number: 20 }]);
    expect(run(S390X, 0)).toBe(ENOSYS);
    expect(run(S390X, 1)).toBe(FILTER);
    expect(run(S390X, 20)).toBe(FILTER);
    expect(run(S390X, 21)).toBe(ENOSYS);
  });

  test("all sections of a long list jump behind the last one", () => {
    const last = Array.from({ length: 32 }, (_, i) => ({ arch: 0x1000 + i, number: i + 1 }));
    const run = stub(last);
    for (const { arch, number } of last) {
      expect(run(arch, number)).toBe(FILTER);
      expect(run(arch, number + 1)).toBe(ENOSYS);
    }
  });
});
