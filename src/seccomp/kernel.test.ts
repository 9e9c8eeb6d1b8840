/** The compiled programs in the running kernel: it takes them with their flags and decides as the test's machine does. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BpfProgram } from "./bpf-vm.ts";
import { type CompiledSeccomp, compileSeccomp } from "./compile.ts";
import { AUDIT_X86_64, engineProfile, numberOf, profileOf, testLibrary } from "./testing.ts";

let dir = "";
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "bunc-seccomp-kernel-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const isX86 = process.arch === "x64"; // the numbers below are those of x86_64

/** uretprobe and uprobe: newer kernels pass them by all filters, and kill who calls them from elsewhere. */
const UNFILTERED = [335, 336];

function probe(what: string, filter: Uint8Array, last: string, calls: number[] = []): unknown {
  const path = join(dir, "filter.bpf");
  writeFileSync(path, filter);
  const child = Bun.spawnSync(
    [process.execPath, join(import.meta.dir, "kernel-probe.ts"), what, path, last],
    {
      env: { ...process.env, NR_SECCOMP: String(numberOf("seccomp")), CALLS: calls.join(",") },
    },
  );
  if (child.exitCode !== 0)
    throw new Error(`kernel-probe: ${child.exitCode ?? child.signalCode} ${child.stderr}`);
  return JSON.parse(child.stdout.toString());
}

const compile = (profile: unknown) => compileSeccomp(profileOf(profile), testLibrary())!;
const load = (compiled: CompiledSeccomp, calls: number[] = []) =>
  probe("load", compiled.filter, String(compiled.flags), calls) as {
    loaded: number;
    calls: Record<string, number>;
  };

describe.skipIf(!isX86)("the running kernel", () => {
  test("decides all numbers of x86_64 and x32 as the test's BPF machine does", () => {
    const { filter } = compile(engineProfile());
    const machine = new BpfProgram(filter);
    const values = [0n, 37n, 38n, 41n, 0x20000n, 0xffffffffn, 0x7e020000n, 0x100000000n, 2n ** 64n - 1n];
    const probes: [number, bigint][] = [];
    for (const base of [0, 0x40000000]) {
      for (let nr = base; nr <= base + 600; nr++) {
        if (!UNFILTERED.includes(nr)) for (const value of values) probes.push([nr, value]);
      }
    }
    for (const nr of [0x3fffffff, 0x7fffffff, 0x40000fff, 100000]) probes.push([nr, 0n]);

    const list = join(dir, "probes.json");
    writeFileSync(list, JSON.stringify(probes.map(([nr, value]) => [nr, String(value)])));
    const decided = probe("decide", filter, list) as number[];
    const expected = probes.map(([nr, value]) => machine.run({ arch: AUDIT_X86_64, nr, args: [value] }));
    expect(decided).toEqual(expected);
    expect(new Set(decided).size).toBe(3);
  });

  test("enforces an engine's default profile, loaded with its flags", () => {
    const compiled = compile(engineProfile());
    const mount = numberOf("mount");
    const { loaded, calls } = load(compiled, [mount, numberOf("clone3"), numberOf("getppid"), 600]);
    expect(loaded).toBe(0);
    expect([calls[mount], calls[numberOf("clone3")], calls[600]]).toEqual([-1, -38, -38]);
    expect(calls[numberOf("getppid")]).toBe(process.pid);
  });

  test("takes every combination of flags", () => {
    for (const flags of [[], ["LOG"], ["SPEC_ALLOW"], ["LOG", "SPEC_ALLOW", "TSYNC"], undefined]) {
      const compiled = compile({
        defaultAction: "SCMP_ACT_ALLOW",
        flags: flags?.map((flag) => `SECCOMP_FILTER_FLAG_${flag}`),
        syscalls: [{ names: ["mkdir"], action: "SCMP_ACT_ERRNO", errnoRet: 77 }],
      });
      const { loaded, calls } = load(compiled, [numberOf("mkdir")]);
      expect([loaded, calls[numberOf("mkdir")]]).toEqual([0, -77]);
    }
  });

  test("gives a listener for NOTIFY, also with WAIT_KILLABLE_RECV", () => {
    const waitKillable = (testLibrary().info.kernelFlags & 0x20) !== 0;
    for (const flags of [[], ...(waitKillable ? [["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]] : [])]) {
      const compiled = compile({
        defaultAction: "SCMP_ACT_ALLOW",
        flags,
        listenerPath: "/run/agent.sock",
        syscalls: [{ names: ["mkdir"], action: "SCMP_ACT_NOTIFY" }],
      });
      expect(load(compiled).loaded).toBeGreaterThan(2);
    }
  });

  test("refuses a longer program than we would hand it", () => {
    const program = new Uint8Array(4097 * 8);
    for (let at = 0; at < program.length; at += 8) program.set([6, 0, 0, 0, 0, 0, 0xff, 0x7f], at);
    const load = (filter: Uint8Array) => (probe("load", filter, "0") as { loaded: number }).loaded;
    expect([load(program.subarray(8)), load(program)]).toEqual([0, -22]);
  });
});
