/** Programs of exec: what joins, in which order, and what a first process has and an exec has not. */
import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import type { LinuxNamespaceType, Process, Spec } from "../oci/config.ts";
import { type LaunchSettings, Stage } from "./context.ts";
import { encodePart } from "./encode.ts";
import { ExecProgram, type ExecTarget } from "./exec.ts";
import { explainCall } from "./explain.ts";
import type { Op, Part } from "./program.ts";
import { decodePart, dockerSpec, FILTER, HOST, plainSpec, settings } from "./testing.ts";

const ALL: LinuxNamespaceType[] = ["ipc", "uts", "network", "pid", "mount"];

interface Compiled {
  program: ExecProgram;
  parts: Part[];
  stages: number[];
  ops: Op[];
}

function compile(
  spec: Spec = plainSpec(),
  process: Partial<Process> = {},
  target: Partial<ExecTarget> = {},
  replaced: Partial<LaunchSettings> = {},
): Compiled {
  const whole = { ...spec.process!, args: ["true"], ...process };
  const program = new ExecProgram(spec, whole, { join: ALL, ...target }, settings(replaced), HOST);
  const sent = [...program.parts()];
  const parts = sent.map(({ part }) => part);
  return { program, parts, stages: sent.map(({ stage }) => stage), ops: parts.flatMap(({ ops }) => ops) };
}

const calls = ({ ops }: Compiled) => ops.map((op) => explainCall(op.call, op.args).name);
const find = ({ ops }: Compiled, call: number) => ops.filter((op) => op.call === call);

describe("the program", () => {
  test("of the default spec, call by call", () => {
    expect(calls(compile())).toEqual(EXPECTED);
  });

  test("can be encoded, and nothing in it is lost", () => {
    for (const spec of [plainSpec(), dockerSpec()]) {
      const { parts } = compile(spec);
      let first = 0;
      for (const { ops } of parts) {
        const decoded = decodePart(encodePart(ops, { first, fault: undefined, trace: undefined }));
        expect(decoded.ops.length).toBe(ops.length);
        first += ops.length;
      }
    }
  });

  test("makes no namespaces and no mounts, changes no root and runs no hooks", () => {
    const spec = dockerSpec();
    const compiled = compile(spec);
    for (const call of [
      abi.SYS_unshare,
      abi.SYS_mount,
      abi.SYS_pivot_root,
      abi.BUNC_OP_HOOK,
      abi.SYS_move_mount,
    ]) {
      expect([call, find(compiled, call).length]).toEqual([call, 0]);
    }
  });

  test("goes into the rootfs by chroot where the container has the caller's mounts, as its init did", () => {
    const { ops } = compile(plainSpec(), {}, { join: ["pid"] });
    const at = (call: number) => ops.findIndex((op) => op.call === call);
    const found = ops.find((op) => op.call === abi.SYS_openat && op.args[1] === settings({}).rootfs);
    expect(ops.indexOf(found!)).toBeLessThan(at(abi.SYS_setns));
    expect(ops[at(abi.SYS_chroot) - 1]!.args).toEqual([found!.options.slot!]);
    expect(at(abi.SYS_chroot)).toBeGreaterThan(at(abi.SYS_setns));
    expect(find(compile(), abi.SYS_chroot)).toEqual([]);
  });

  test("waits for its parent only where that has something to do", () => {
    expect(compile().stages).toEqual([Stage.none, Stage.none, Stage.last]);
    expect(compile(plainSpec(), { terminal: true }).stages).toEqual([Stage.none, Stage.ready, Stage.last]);
    const listened = compile(plainSpec(), {}, {}, { seccomp: { filter: FILTER, flags: 8, listener: true } });
    expect(listened.stages).toEqual([Stage.none, Stage.listener, Stage.none, Stage.last]);
  });
});

describe("joining", () => {
  test("is one call for all namespaces, after the cgroups and the hiding, and a fork where one of them is pid", () => {
    let entered = -1;
    const compiled = compile(
      plainSpec(),
      {},
      {},
      {
        enterCgroup: (part) => {
          entered = part.ops.length;
        },
      },
    );
    const [setns, ...others] = find(compiled, abi.SYS_setns);
    expect(others).toEqual([]);
    const flags = abi.CLONE_NEWIPC | abi.CLONE_NEWUTS | abi.CLONE_NEWNET | abi.CLONE_NEWPID | abi.CLONE_NEWNS;
    expect(setns!.args[1]).toBe(flags);
    const at = compiled.ops.indexOf(setns!);
    expect(entered).toBeGreaterThan(0);
    expect(at).toBeGreaterThan(entered);
    const hidden = compiled.ops.findIndex(
      (op) => op.call === abi.SYS_prctl && op.args[0] === abi.PR_SET_DUMPABLE,
    );
    expect(hidden).toBeGreaterThan(0);
    expect(at).toBeGreaterThan(hidden);
    expect(find(compiled, abi.BUNC_OP_FORK).length).toBe(1);
    expect(compiled.ops.indexOf(find(compiled, abi.BUNC_OP_FORK)[0]!)).toBeGreaterThan(at);
    expect(find(compile(plainSpec(), {}, { join: ["mount", "uts"] }), abi.BUNC_OP_FORK)).toEqual([]);
  });

  test("is left out where all namespaces are the caller's", () => {
    expect(find(compile(plainSpec(), {}, { join: [] }), abi.SYS_setns)).toEqual([]);
  });

  test("a user namespace makes it root there", () => {
    const joined = compile(plainSpec(), {}, { join: ["user", ...ALL] });
    const root = find(joined, abi.SYS_setresuid)[0]!;
    expect(root.args).toEqual([0, 0, 0]);
    expect(joined.ops.indexOf(root)).toBe(joined.ops.indexOf(find(joined, abi.BUNC_OP_FORK)[0]!) + 2);
  });

  test("CPUs: those of before are set before the cgroups, those of after behind them", () => {
    let entered = -1;
    const compiled = compile(
      plainSpec(),
      {},
      { affinity: { initial: [0, 9], final: [65] } },
      {
        enterCgroup: (part) => {
          entered = part.ops.length;
        },
      },
    );
    const [initial, final] = find(compiled, abi.SYS_sched_setaffinity);
    expect(initial!.args).toEqual([0, 8, new Uint8Array([1, 2, 0, 0, 0, 0, 0, 0])]);
    expect(final!.args[1]).toBe(16);
    expect((final!.args[2] as Uint8Array)[8]).toBe(2);
    expect(compiled.ops.indexOf(initial!)).toBeLessThan(entered);
    expect(compiled.ops.indexOf(final!)).toBeGreaterThanOrEqual(entered);
  });

  test("a session keyring of its own, unless it is not wanted", () => {
    expect(find(compile(), abi.SYS_keyctl).length).toBe(1);
    expect(find(compile(plainSpec(), {}, {}, { noNewKeyring: true }), abi.SYS_keyctl)).toEqual([]);
  });
});

test("descriptors: init's pidfd first, then those asked for, after those that are preserved", () => {
  const { program } = compile(plainSpec(), { terminal: true }, {}, { pidfdSocket: true, preserve: 4 });
  expect(program.fds.map(({ from }) => from.kind)).toEqual([
    "sync",
    "container-init",
    "pidfd-socket",
    "console-socket",
  ]);
  expect(program.firstFd).toBe(7);
  expect(compile().program.fds.map(({ from }) => from.kind)).toEqual(["sync", "container-init"]);
});

const EXPECTED = [
  "reset_signals prctl prctl setns close fork umask keyctl openat part",
  "setsid close prctl prlimit64 umask chdir drop_bounding prctl own_streams setgroups setresgid setresuid expect chdir check_cwd prctl capset prctl part",
  "home lookpath fcntl close_range execve",
].flatMap((line) => line.split(" "));
