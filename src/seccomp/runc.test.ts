/**
 * The same profile through Debian's runc: strace shows the program that runc hands to the kernel, and both programs
 * must decide alike. Needs root, runc and strace; the container's program is never run, because it does not exist.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LinuxSeccomp } from "../oci/config.ts";
import { BpfProgram } from "./bpf-vm.ts";
import { compileSeccomp } from "./compile.ts";
import {
  AUDIT_AARCH64,
  AUDIT_I386,
  AUDIT_X86_64,
  engineProfiles,
  profileOf,
  testLibrary,
} from "./testing.ts";

const possible =
  process.getuid?.() === 0 && process.arch === "x64" && !!Bun.which("runc") && !!Bun.which("strace");
let dir = "";
beforeAll(() => {
  if (possible) dir = mkdtempSync(join(tmpdir(), "bunc-seccomp-runc-"));
});
afterAll(() => {
  if (dir) rmSync(dir, { recursive: true, force: true });
});

const NUMBERS: Record<string, number> = {
  BPF_LD: 0x00,
  BPF_ALU: 0x04,
  BPF_JMP: 0x05,
  BPF_RET: 0x06,
  BPF_W: 0x00,
  BPF_ABS: 0x20,
  BPF_K: 0x00,
  BPF_AND: 0x50,
  BPF_JA: 0x00,
  BPF_JEQ: 0x10,
  BPF_JGT: 0x20,
  BPF_JGE: 0x30,
  BPF_JSET: 0x40,
  SECCOMP_RET_KILL_PROCESS: 0x80000000,
  SECCOMP_RET_KILL_THREAD: 0,
  SECCOMP_RET_TRAP: 0x30000,
  SECCOMP_RET_ERRNO: 0x50000,
  SECCOMP_RET_TRACE: 0x7ff00000,
  SECCOMP_RET_LOG: 0x7ffc0000,
  SECCOMP_RET_ALLOW: 0x7fff0000,
};

/** The value of strace's "A|B|0x1". */
function symbolic(text: string): number {
  let value = 0;
  for (const part of text.split("|")) {
    const number = NUMBERS[part] ?? Number(part);
    if (!Number.isInteger(number)) throw new Error(`strace printed ${part}`);
    value |= number;
  }
  return value >>> 0;
}

/** The program in strace's output. */
function parseTrace(trace: string): Uint8Array {
  const text =
    /PR_SET_SECCOMP, SECCOMP_MODE_FILTER, \{len=\d+, filter=\[(.*)\]\}|SET_MODE_FILTER, .*\{len=\d+, filter=\[(.*)\]\}/.exec(
      trace,
    );
  if (!text) throw new Error(`no filter in strace's output: ${trace.slice(-500)}`);
  const instructions = [...(text[1] ?? text[2]!).matchAll(/BPF_(STMT|JUMP)\(([^()]*)\)/g)];
  const view = new DataView(new ArrayBuffer(instructions.length * 8));
  instructions.forEach(([, kind, parts], i) => {
    const [code, k, jt = 0, jf = 0] = parts!.split(", ").map(symbolic);
    if ((kind === "STMT") !== (parts!.split(", ").length === 2)) throw new Error(`strace printed ${parts}`);
    view.setUint16(i * 8, code!, true);
    view.setUint8(i * 8 + 2, jt);
    view.setUint8(i * 8 + 3, jf);
    view.setUint32(i * 8 + 4, k!, true);
  });
  return new Uint8Array(view.buffer);
}

let containers = 0;

/** Lets runc load the profile in a container whose program does not exist. */
function programOfRunc(profile: LinuxSeccomp): Uint8Array {
  const id = `bunc-seccomp-test-${process.pid}-${containers++}`;
  const bundle = join(dir, id);
  mkdirSync(join(bundle, "rootfs"), { recursive: true });
  const config = {
    ociVersion: "1.0.2",
    process: { user: { uid: 0, gid: 0 }, args: ["/none"], cwd: "/" },
    root: { path: "rootfs" },
    linux: { namespaces: [{ type: "mount" }, { type: "pid" }], seccomp: profile },
  };
  writeFileSync(join(bundle, "config.json"), JSON.stringify(config));
  const trace = join(bundle, "trace");
  const root = join(dir, "state");
  const strace = ["strace", "-f", "-v", "-e", "trace=seccomp,prctl", "-e", "signal=none", "-o", trace];
  Bun.spawnSync([...strace, "runc", "--root", root, "run", "--bundle", bundle, id]);
  if (existsSync(join(root, id))) Bun.spawnSync(["runc", "--root", root, "delete", "--force", id]);
  return parseTrace(readFileSync(trace, "utf8"));
}

const profiles: [string, () => LinuxSeccomp][] = [
  ...engineProfiles(),
  [
    "a default that allows, with conditions and kills",
    () =>
      profileOf({
        defaultAction: "SCMP_ACT_ALLOW",
        architectures: ["SCMP_ARCH_X86"],
        syscalls: [
          {
            names: ["socket"],
            action: "SCMP_ACT_ERRNO",
            errnoRet: 97,
            args: [{ index: 0, value: 16, op: "SCMP_CMP_EQ" }],
          },
          { names: ["fcntl"], action: "SCMP_ACT_TRAP", args: [{ index: 1, value: 40, op: "SCMP_CMP_GE" }] },
          { names: ["mount", "umount2"], action: "SCMP_ACT_KILL_PROCESS" },
          { names: ["ptrace"], action: "SCMP_ACT_TRACE", errnoRet: 5 },
          { names: ["bpf"], action: "SCMP_ACT_LOG" },
        ],
      }),
  ],
];

describe.skipIf(!possible)("Debian's runc", () => {
  test.each(profiles)("decides alike: %s", (_, make) => {
    const profile = make();
    const theirs = new BpfProgram(programOfRunc(profile));
    const ours = new BpfProgram(compileSeccomp(profile, testLibrary())!.filter);
    const values = [
      0n,
      1n,
      8n,
      16n,
      0x20000n,
      37n,
      38n,
      39n,
      40n,
      41n,
      0xffffffffn,
      0x7e020000n,
      0x100000000n,
      2n ** 64n - 1n,
    ];
    let compared = 0;
    for (const arch of [AUDIT_X86_64, AUDIT_I386, AUDIT_AARCH64]) {
      for (const base of [0, 0x40000000, 0x80000000, 0xfffffff0]) {
        for (let nr = base; nr <= Math.min(base + 600, 0xffffffff); nr++) {
          for (const value of values) {
            const data = { arch, nr, args: [value, value] };
            const decided = ours.run(data);
            const wanted = theirs.run(data);
            if (decided !== wanted) expect({ ...data, decided }).toEqual({ ...data, decided: wanted });
            compared++;
          }
        }
      }
    }
    expect(compared).toBe(3 * (3 * 601 + 16) * values.length);
  });
});
