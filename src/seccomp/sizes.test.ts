/** Profiles as large as engines and attackers make them. */
import { beforeAll, expect, test } from "bun:test";
import type { BuncError } from "../errors.ts";
import { failure as refused } from "../testing.ts";
import { BpfProgram } from "./bpf-vm.ts";
import { compileSeccomp } from "./compile.ts";
import {
  ALLOW,
  AUDIT_AARCH64,
  AUDIT_I386,
  AUDIT_X86_64,
  describeX86,
  ENOSYS,
  EPERM,
  engineProfiles,
  Model,
  numberOf,
  profileOf,
  program,
  testLibrary,
} from "./testing.ts";

const x86_64 = (nr: number, ...args: bigint[]) => ({ arch: AUDIT_X86_64, nr, args });

const failure = (profile: unknown): BuncError =>
  refused(() => compileSeccomp(profileOf(profile), testLibrary()));

describeX86("sizes", () => {
  const values = (count: number, factor: number) =>
    Array.from({ length: count }, (_, i) => ({ index: 0, value: i * factor, op: "SCMP_CMP_EQ" }));
  const withArgs = (args: unknown) => ({
    defaultAction: "SCMP_ACT_ERRNO",
    syscalls: [{ names: ["read"], action: "SCMP_ACT_ALLOW", args }],
  });

  test("a thousand conditions work", () => {
    const run = program(withArgs(values(1000, 3)));
    expect(run.run(x86_64(0, 2997n))).toBe(ALLOW);
    expect(run.run(x86_64(0, 2998n))).toBe(EPERM);
  });

  test("a filter the kernel would not take is an error with its length", () => {
    const error = failure(withArgs(values(1500, 4294967297)));
    expect(error.message).toMatch(/^seccomp filter has \d{4,5} instructions, the kernel takes at most 4096$/);
  });

  test("the stub counts", () => {
    const max = testLibrary().info.maxInstructions;
    const lib = (instructions: number) => ({
      ...testLibrary(),
      compile: () => new Uint8Array(instructions * 8),
    });
    const profile = profileOf({
      defaultAction: "SCMP_ACT_ERRNO",
      syscalls: [{ names: ["setns"], action: "SCMP_ACT_ALLOW" }],
    });
    const stub = compileSeccomp(profile, lib(1))!.filter.length / 8 - 1;
    expect(stub).toBeGreaterThan(3);
    expect(compileSeccomp(profile, lib(max - stub))!.filter).toHaveLength(max * 8);
    expect(() => compileSeccomp(profile, lib(max - stub + 1))).toThrow(`has ${max + 1} instructions`);
  });

  test("10,000 unknown names, a million arguments", () => {
    const names = Array.from({ length: 10_000 }, (_, i) => `call_${i}`);
    expect(
      program({ defaultAction: "SCMP_ACT_ERRNO", syscalls: [{ names, action: "SCMP_ACT_ALLOW" }] }).length,
    ).toBeLessThan(10);
    expect(failure(withArgs(values(1_000_000, 1))).message).toBe("seccomp profile has more than 4096 rules");
    expect(program(withArgs(values(1_000_000, 0))).run(x86_64(0, 0n))).toBe(ALLOW);
  });
});

for (const [name, make] of engineProfiles())
  describeX86(`an engine's default profile: ${name}`, () => {
    let compiled: NonNullable<ReturnType<typeof compileSeccomp>>;
    let run: BpfProgram;
    let model: Model;
    beforeAll(() => {
      const profile = make();
      compiled = compileSeccomp(profile, testLibrary())!;
      run = new BpfProgram(compiled.filter);
      model = new Model(profile);
    });
    const arguments_ = [
      0n,
      1n,
      8n,
      0x20000n,
      0x20008n,
      37n,
      38n,
      39n,
      40n,
      41n,
      0xffffffffn,
      0x7e020000n,
      0x10000000n,
    ];
    const wide = [0x100000000n, 0x100000028n, 2n ** 64n - 1n];

    test("fits, and needs no listener", () => {
      expect(run.length).toBeLessThan(2000);
      expect({ flags: compiled.flags, listener: compiled.listener }).toEqual({ flags: 4, listener: false });
    });

    test("decides every number of every ABI as the profile says", () => {
      let compared = 0;
      for (const arch of [AUDIT_X86_64, AUDIT_I386, AUDIT_AARCH64]) {
        for (const base of [0, 0x40000000]) {
          for (let nr = base; nr <= base + 600; nr++) {
            for (const value of [...arguments_, ...wide]) {
              const data = { arch, nr, args: [value] };
              const decided = run.run(data);
              if (decided !== model.decide(data))
                expect({ ...data, decided }).toEqual({ ...data, decided: model.decide(data) });
              compared++;
            }
          }
        }
      }
      expect(compared).toBe(3 * 2 * 601 * 16);
    });

    test("what matters most, spelled out", () => {
      expect(run.run(x86_64(numberOf("read")))).toBe(ALLOW);
      for (const name of ["init_module", "bpf", "kexec_load", "swapon"]) {
        expect(run.run(x86_64(numberOf(name)))).toBe(EPERM);
      }
      expect(run.run(x86_64(600))).toBe(ENOSYS);
      // Podman's lets a container make namespaces and mount in them: the kernel asks for the capabilities then.
      if (name === "/usr/share/containers/seccomp.json") return;
      for (const name of ["mount", "umount2", "reboot", "setns"]) {
        expect(run.run(x86_64(numberOf(name)))).toBe(EPERM);
      }
      expect(run.run(x86_64(numberOf("clone"), 0x11n))).toBe(ALLOW);
      for (const flag of [0x10000000n, 0x20000000n, 0x00020000n, 0x02000000n]) {
        expect(run.run(x86_64(numberOf("clone"), flag))).toBe(EPERM);
      }
      expect(run.run(x86_64(numberOf("clone3")))).toBe(ENOSYS);
    });
  });
