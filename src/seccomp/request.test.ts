/** What compileSeccomp asks of libseccomp: nothing twice, nothing in vain, the binary tree where runc takes it. */
import { expect, test } from "bun:test";
import { compileSeccomp } from "./compile.ts";
import type { SeccompRequest } from "./native.ts";
import { profileOf, testLibrary } from "./testing.ts";

function requestOf(profile: unknown): SeccompRequest {
  const library = testLibrary();
  let request: SeccompRequest | undefined;
  compileSeccomp(profileOf(profile), {
    ...library,
    compile(asked) {
      request = asked;
      return library.compile(asked);
    },
  });
  return request!;
}

const allow = (names: string[], args?: unknown) => ({ names, action: "SCMP_ACT_ALLOW", args });
const masked = (value: number, valueTwo: number) => ({ index: 0, value, valueTwo, op: "SCMP_CMP_MASKED_EQ" });

test("architectures: each once, the native one not at all", () => {
  const architectures = ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"];
  const { arch, info } = testLibrary();
  const expected = [arch("x86"), arch("x86_64"), arch("aarch64")].filter((token) => token !== info.native);
  expect(requestOf({ defaultAction: "SCMP_ACT_ERRNO", architectures }).archs).toEqual(expected);
});

test("rules: repeated ones once, those that differ in anything all", () => {
  const syscalls = [
    allow(["read", "read", "write"]),
    allow(["read"]),
    allow(["close"], [masked(0xff, 1)]),
    allow(["close"], [masked(0xff, 2)]),
    allow(["close"], [masked(0xff, 2)]),
    allow(["close"], [{ ...masked(0xff, 2), index: 1 }]),
    { ...allow(["write"]), action: "SCMP_ACT_LOG" },
  ];
  const { rules } = requestOf({ defaultAction: "SCMP_ACT_ERRNO", syscalls });
  expect(rules.map((rule) => rule.conditions[0]?.valueTwo)).toEqual([
    undefined,
    undefined,
    1,
    2,
    2,
    undefined,
  ]);
});

test("the binary tree: for more than 32 names, as long as there is any rule", () => {
  const names = Array.from({ length: 33 }, (_, i) => ["read", "write", "close"][i % 3]!);
  const optimize = (list: string[], action: string) =>
    requestOf({ defaultAction: "SCMP_ACT_ERRNO", syscalls: [{ names: list, action }] }).optimize;
  expect(optimize(names, "SCMP_ACT_ALLOW")).toBe(2);
  expect(optimize(names.slice(1), "SCMP_ACT_ALLOW")).toBe(1);
  expect(optimize(names, "SCMP_ACT_ERRNO")).toBe(1);
});
