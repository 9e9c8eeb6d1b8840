/** When an ordinary user's init executes its image anew, and what it holds from then on. Needs no build. */
import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import type { Spec } from "../oci/config.ts";
import type { LaunchSettings } from "./context.ts";
import { type Op, Slot, type Struct } from "./program.ts";
import {
  BUNDLES,
  type Compiled,
  compile,
  FILTER,
  find,
  joinedSpec,
  only,
  plainSpec,
  simulate,
  userSpec,
} from "./testing.ts";

const STATE = "/run/user/5/bunc/test";
const SECCOMP = { filter: FILTER, flags: 0, listener: false };
const USER: Partial<LaunchSettings> = { rootless: true, setgroups: false };
const CREATE = { ...USER, waitForStart: true, stateDir: STATE };

const renewal = (compiled: Compiled): Op | undefined => find(compiled, abi.SYS_execve, "/proc/self/exe")[0];
const indexOf = (compiled: Compiled, op: Op): number => compiled.ops.indexOf(op);

/** The part that ends in the new image. */
function renewalPart(compiled: Compiled): Op[] {
  return compiled.parts.find(({ ops }) => ops.includes(renewal(compiled)!))!.ops;
}

describe("init is renewed", () => {
  const hook = { path: "/hook" };
  const listener = { ...SECCOMP, listener: true };
  test.each<[string, boolean, Partial<LaunchSettings>, (spec: Spec) => void]>([
    ["for create", true, CREATE, () => {}],
    ["for a seccomp agent", true, { ...USER, seccomp: listener }, () => {}],
    ["for createRuntime hooks", true, USER, (spec) => (spec.hooks = { createRuntime: [hook] })],
    ["for prestart hooks", true, USER, (spec) => (spec.hooks = { prestart: [hook] })],
    ["not for run", false, { ...USER, seccomp: SECCOMP }, () => {}],
    ["not for root", false, { ...CREATE, rootless: false, seccomp: listener }, () => {}],
    [
      "not without a mount namespace",
      false,
      CREATE,
      (spec) => (spec.linux!.namespaces = [{ type: "user" }, { type: "pid" }]),
    ],
    [
      "not where it would hold the files of hooks",
      false,
      { ...CREATE, hookFiles: [{ stream: "stdout", file: "log", path: "/log" }] },
      (spec) => (spec.hooks = { startContainer: [hook] }),
    ],
  ])("%s", (_, wanted, settings, edit) => {
    const spec = userSpec();
    edit(spec);
    expect(renewal(compile(spec, settings)) !== undefined).toBe(wanted);
  });

  test("not in a joined user namespace, whose root could get hold of it", () => {
    expect(renewal(compile(joinedSpec(), CREATE))).toBeUndefined();
  });

  test("not without a user namespace", () => {
    expect(renewal(compile(plainSpec(), CREATE))).toBeUndefined();
  });
});

test("nothing changes for root, whatever the bundle", () => {
  for (const [, make] of BUNDLES) {
    const create = { waitForStart: true, seccomp: SECCOMP };
    const withPath = compile(make(), { ...create, stateDir: STATE });
    expect(withPath.ops).toEqual(compile(make(), create).ops);
    expect(find(withPath, abi.SYS_openat, undefined, "exec.fifo").length).toBe(1);
  }
});

describe("a renewed init", () => {
  const compiled = compile(userSpec(), { ...CREATE, seccomp: SECCOMP });
  const at = (op: Op) => indexOf(compiled, op);
  const exec = renewal(compiled)!;

  test("is bunc-init with the same socket, root of the user namespace, before anything of the container is there", () => {
    const argv = exec.args[1] as Struct;
    const sync = compiled.launch.context.fd("sync");
    expect(argv.pointers.map(({ to }) => to)).toEqual(["bunc-init", String(sync)]);
    const before = compiled.ops.slice(0, at(exec)).map(({ call }) => call);
    expect(before.slice(-2)).toEqual([abi.SYS_setresgid, abi.SYS_setresuid]);
    expect(before).not.toContain(abi.SYS_mount);
  });

  test("hides at once, and is given its signals and its name again", () => {
    const after = compiled.ops.slice(at(exec) + 1);
    expect(after[0]!.call).toBe(abi.BUNC_OP_PART);
    expect(after.slice(1, 3)).toMatchObject([
      { call: abi.BUNC_OP_RESET_SIGNALS, args: [1] },
      { call: abi.SYS_prctl, args: [abi.PR_SET_NAME, "bunc:[init]"] },
    ]);
    const hidden = at(only(compiled, abi.SYS_prctl, abi.PR_SET_DUMPABLE, 0, 0, 0, 0));
    expect(hidden).toBeGreaterThan(at(exec));
    const others = compiled.ops.findIndex(
      ({ call, phase }) => call === abi.SYS_mount || phase === "rootfs" || phase === "mounts",
    );
    expect(hidden).toBeLessThan(others);
  });

  test("uses no slot that was filled before", () => {
    const filled = new Set<number>();
    for (const op of compiled.ops.slice(at(exec) + 1)) {
      for (const arg of op.args) if (arg instanceof Slot) expect(filled).toContain(arg.index);
      if (op.options.slot) filled.add(op.options.slot.index);
    }
  });

  test("holds the fifo in the place of the state directory, and opens it by its own descriptors", () => {
    const number = compiled.launch.context.fd("state-dir")!;
    const flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC;
    const fifo = only(compiled, abi.SYS_open_tree, abi.AT_FDCWD, `${STATE}/exec.fifo`, flags);
    const place = only(compiled, abi.SYS_dup3, fifo.options.slot, number, 0);
    expect([at(place) > at(fifo), at(place) < at(exec)]).toEqual([true, true]);
    const own = only(compiled, abi.SYS_open_tree, abi.AT_FDCWD, "/proc/self/fd", flags);
    expect([at(own) > at(exec), at(own) < at(only(compiled, abi.SYS_pivot_root))]).toEqual([true, true]);
    expect(find(compiled, abi.SYS_openat, undefined, "exec.fifo")).toEqual([]);
    const opened = only(compiled, abi.SYS_openat, own.options.slot, String(number));
    expect(opened.args[2]).toBe(abi.O_WRONLY | abi.O_CLOEXEC);
    for (const held of [number, own.options.slot])
      expect(
        compiled.ops.findLastIndex((op) => op.call === abi.SYS_close && op.args[0] === held),
      ).toBeGreaterThan(at(opened));
    // Nothing that init clones and keeps is a directory of the host's.
    const named = find(compiled, abi.SYS_open_tree).map(({ args }) => args[1]);
    expect(named.filter((path) => String(path).startsWith(STATE))).toEqual([`${STATE}/exec.fifo`]);
  });

  test("is not made without the rights of root, and where it cannot be executed the old image goes on", () => {
    const ops = renewalPart(compiled);
    const part = ops.at(-1)!;
    expect(part.call).toBe(abi.BUNC_OP_PART);
    const run = (failing: number) => simulate(ops, (op) => (op.call === failing ? abi.EACCES : 0));
    expect(run(abi.SYS_execve)).toEqual({ executed: ops, failed: undefined });
    for (const call of [abi.SYS_open_tree, abi.SYS_dup3, abi.SYS_setresgid, abi.SYS_setresuid])
      expect(run(call).failed?.call).toBe(call);
  });

  test("gets the host's /proc for its labels anew, and kept none", () => {
    const spec = userSpec();
    spec.process!.apparmorProfile = "profile";
    const labelled = compile(spec, CREATE);
    const opens = find(labelled, abi.SYS_openat, abi.AT_FDCWD, "/proc");
    const renewed = indexOf(labelled, renewal(labelled)!);
    expect(opens.map((op) => indexOf(labelled, op) > renewed)).toEqual([false, true]);
    const closed = labelled.ops.findIndex(
      (op) => op.call === abi.SYS_close && op.args[0] === opens[0]!.options.slot,
    );
    expect(closed).toBeLessThan(renewed);
    const label = only(labelled, abi.SYS_openat, undefined, "self/attr/apparmor/exec");
    expect(label.args[0]).toBe(opens[1]!.options.slot);
  });

  /** Whether the filter is there while init waits. */
  const filteredAtWait = (settings: Partial<LaunchSettings>, denied: string[]): boolean => {
    const spec = userSpec();
    spec.process!.noNewPrivileges = true;
    spec.linux!.seccomp = {
      defaultAction: "SCMP_ACT_ALLOW",
      syscalls: denied.map((name) => ({ names: [name], action: "SCMP_ACT_ERRNO" })),
    };
    const waiting = compile(spec, { waitForStart: true, stateDir: STATE, seccomp: SECCOMP, ...settings });
    const loads = find(waiting, abi.SYS_seccomp);
    expect(loads.length).toBe(1);
    const told = waiting.ops.findIndex(({ call }) => call === abi.BUNC_OP_REPORT);
    return indexOf(waiting, loads[0]!) < told;
  };

  test("waits with the filter, if that lets it go on", () => {
    expect(filteredAtWait(USER, [])).toBe(true);
    expect(filteredAtWait(USER, ["mount"])).toBe(true);
    for (const call of ["write", "openat", "dup3", "close", "fcntl", "execve", "exit_group"])
      expect([call, filteredAtWait(USER, [call])]).toEqual([call, false]);
    expect(filteredAtWait({ rootless: false }, [])).toBe(false);
  });
});
