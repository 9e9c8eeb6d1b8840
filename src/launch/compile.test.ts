/**
 * What is true of every launch program, whatever the bundle: order, flow of descriptors, paths, skips. Claims, not
 * recorded programs, so that a new operation breaks only what it should not break. Needs no build.
 */
import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import { callName } from "../linux/names.ts";
import type { Spec } from "../oci/config.ts";
import { Field, type Op, Slot, Struct } from "./program.ts";
import {
  BUNDLES,
  type Compiled,
  compile,
  decodePart,
  encodeAll,
  FILTER,
  plainSpec,
  settings,
} from "./testing.ts";

const SECCOMP = { filter: FILTER, flags: 0, listener: false };

/** All bundles, each as `run` and as `create` with everything that create can be asked for. */
const ALL: [name: string, compiled: Compiled, spec: Spec][] = BUNDLES.flatMap(([name, make]) => [
  [`${name}, run`, compile(make(), { seccomp: SECCOMP }), make()],
  [
    `${name}, create`,
    compile(make(), {
      waitForStart: true,
      pidfdSocket: true,
      preserve: 3,
      seccomp: { ...SECCOMP, listener: true },
    }),
    make(),
  ],
  [`${name}, --no-pivot`, compile(make(), { noPivot: true, noNewKeyring: true, setgroups: false }), make()],
]);

/** Indexes of the operations of a call whose first arguments are these. */
function indexes({ ops }: Compiled, call: number, ...args: unknown[]): number[] {
  return ops.flatMap((op, i) => (op.call === call && args.every((arg, a) => op.args[a] === arg) ? [i] : []));
}

/** Says that all operations of the first kind come before all of the second, and that there are some of each. */
function expectBefore(first: number[], second: number[]): void {
  expect(first.length).toBeGreaterThan(0);
  expect(second.length).toBeGreaterThan(0);
  expect(Math.max(...first)).toBeLessThan(Math.min(...second));
}

const CHANGES_MOUNTS = new Set<number>([
  abi.SYS_mount,
  abi.SYS_move_mount,
  abi.SYS_mount_setattr,
  abi.BUNC_OP_MOUNT,
  abi.BUNC_OP_MOUNT_ATTR,
  abi.BUNC_OP_MASK,
  abi.BUNC_OP_READONLY,
]);

describe.each(ALL)("%s:", (_name, compiled, spec) => {
  const { ops, parts, launch } = compiled;
  const has = (type: string) => spec.linux!.namespaces!.some((namespace) => namespace.type === type);

  test("compiling is pure: twice the same bytes, and the bundle is not changed", () => {
    const { settings: given, spec: used, host } = launch.context;
    const again = compile(structuredClone(used), given, host);
    expect(encodeAll(again)).toEqual(encodeAll(compiled));
    expect(used).toEqual(spec);
  });

  test("parts end by asking for the next, the last in execve", () => {
    for (const part of parts.slice(0, -1)) expect(part.ops.at(-1)!.call).toBe(abi.BUNC_OP_PART);
    expect(ops.at(-1)!.call).toBe(abi.SYS_execve);
    expect(ops.filter((op) => op.call === abi.BUNC_OP_PART).length).toBe(parts.length - 1);
    expect(ops.filter((op) => op.call === abi.SYS_execve).length).toBe(1);
  });

  test("no skip leads over the end of its part", () => {
    for (const part of parts) {
      part.ops.forEach((op, i) => {
        const skips = [op.options.okSkip ?? 0, ...(op.options.tolerate ?? []).map(([, skip]) => skip)];
        for (const skip of skips) {
          expect(i + 1 + skip).toBeLessThanOrEqual(part.ops.length - (op === part.ops.at(-1) ? 0 : 1));
          expect(skip).toBeLessThanOrEqual(255);
        }
      });
    }
  });

  test("each slot holds what its reader expects, and nothing that was closed", () => {
    const holds = new Map<number, Slot | "closed">();
    for (const op of ops) {
      for (const arg of op.args)
        if (arg instanceof Slot) expect([arg.name, holds.get(arg.index)]).toEqual([arg.name, arg]);
      const { slot, log } = op.options;
      if (log) expect(holds.get(log.index)).toBe(log);
      const [first] = op.args;
      if (op.call === abi.SYS_close && first instanceof Slot) holds.set(first.index, "closed");
      if (slot) {
        expect(slot.index).toBeLessThan(abi.BUNC_SLOTS);
        holds.set(slot.index, slot);
      }
    }
  });

  test("no part uses the data of another", () => {
    const owner = new Map<object, number>();
    const visit = (arg: unknown, part: number): void => {
      if (arg instanceof Field) visit(arg.struct, part);
      else if (arg instanceof Struct || arg instanceof Uint8Array) {
        // The same bytes in two parts are two copies: what one of them is filled with, the other does not see.
        expect(owner.get(arg) ?? part).toBe(part);
        owner.set(arg, part);
        if (arg instanceof Struct) for (const { to } of arg.pointers) visit(to, part);
      }
    };
    const addresses = new Map<Slot, number>();
    parts.forEach((part, number) => {
      for (const op of part.ops) {
        for (const arg of op.args) {
          visit(arg, number);
          if (arg instanceof Slot && addresses.has(arg)) expect(addresses.get(arg)).toBe(number);
        }
        if (op.call === abi.BUNC_OP_LOOKPATH) addresses.set(op.options.slot!, number);
      }
    });
    expect(addresses.size).toBe(1);
  });

  test("HOME is written where the environment points to", () => {
    const [home] = ops.filter((op) => op.call === abi.BUNC_OP_HOME);
    const environment = ops.at(-1)!.args[2] as Struct;
    const given = spec.process!.env!.some((entry) => entry.startsWith("HOME="));
    expect(home === undefined).toBe(given);
    if (home) expect(environment.pointers.map(({ to }) => to)).toContain(home.args[2] as Uint8Array);
  });

  test("inherited descriptors have the numbers that the operations use", () => {
    const { plan, context } = launch;
    expect(plan.firstFd).toBe(3 + context.settings.preserve);
    expect(plan.fds[0]!.name).toBe("sync");
    const last = plan.firstFd + plan.fds.length - 1;
    const numbers = ops.flatMap((op) =>
      op.call === abi.SYS_setns && typeof op.args[0] === "number" ? [op.args[0]] : [],
    );
    for (const number of numbers) {
      expect(number).toBeGreaterThan(plan.firstFd);
      expect(number).toBeLessThanOrEqual(last);
    }
    expect(new Set(plan.fds.map(({ name }) => name)).size).toBe(plan.fds.length);
  });

  test("all descriptors above the socket are closed right before execve", () => {
    const [closes] = indexes(compiled, abi.SYS_close_range);
    const sync = launch.plan.firstFd;
    expect(ops[closes!]!.args).toEqual([sync + 1, 0xffffffff, 0]);
    expect(indexes(compiled, abi.SYS_fcntl, sync, abi.F_SETFD, abi.FD_CLOEXEC).length).toBe(1);
    // Only the seccomp filter may still come, and it needs no descriptor.
    for (const op of ops.slice(closes! + 1, -1)) expect(callName(op.call)).toBe("seccomp");
    for (const op of ops.slice(closes! + 1)) for (const arg of op.args) expect(isDescriptor(arg)).toBe(false);
  });

  test("rights go in the order in which they are needed", () => {
    const { user, capabilities = {}, noNewPrivileges } = spec.process!;
    const uid = indexes(compiled, abi.SYS_setresuid, user.uid, user.uid, user.uid).slice(-1);
    const gid = indexes(compiled, abi.SYS_setresgid, user.gid, user.gid, user.gid).slice(-1);
    const capset = indexes(compiled, abi.SYS_capset);
    expectBefore(gid, uid);
    if (launch.context.settings.setgroups) expectBefore(indexes(compiled, abi.SYS_setgroups), gid);
    else expect(indexes(compiled, abi.SYS_setgroups)).toEqual([]);
    expectBefore(uid, capset);
    expectBefore(indexes(compiled, abi.BUNC_OP_DROP_BOUNDING), uid);
    expectBefore(indexes(compiled, abi.SYS_prctl, abi.PR_SET_KEEPCAPS, 1), uid);
    expectBefore(uid, indexes(compiled, abi.SYS_prctl, abi.PR_SET_KEEPCAPS, 0));
    const ambient = indexes(compiled, abi.SYS_prctl, abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_RAISE);
    expect(ambient.length).toBe(capabilities.ambient?.length ?? 0);
    const clear = indexes(compiled, abi.SYS_prctl, abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_CLEAR_ALL);
    expectBefore(capset, clear);
    if (ambient.length) expectBefore(clear, ambient);
    const limits = indexes(compiled, abi.SYS_prlimit64);
    if (limits.length) expectBefore(limits, uid);
    const privileges = indexes(compiled, abi.SYS_prctl, abi.PR_SET_NO_NEW_PRIVS, 1);
    expect(privileges.length).toBe(noNewPrivileges ? 1 : 0);
    const seccomp = indexes(compiled, abi.SYS_seccomp);
    if (!seccomp.length) return;
    // Without no_new_privs loading the filter takes CAP_SYS_ADMIN, which is gone after setresuid and capset.
    if (noNewPrivileges) expectBefore(privileges, seccomp);
    else expectBefore(seccomp, indexes(compiled, abi.BUNC_OP_DROP_BOUNDING));
    if (noNewPrivileges && !launch.context.settings.seccomp!.listener) {
      expect(seccomp).toEqual([ops.length - 2]);
    }
  });

  test("the working directory is checked after it was changed for the last time", () => {
    const changes = [...indexes(compiled, abi.SYS_chdir), ...indexes(compiled, abi.SYS_fchdir)];
    expectBefore(changes, indexes(compiled, abi.BUNC_OP_CHECK_CWD));
    expectBefore(indexes(compiled, abi.SYS_setresuid), indexes(compiled, abi.BUNC_OP_CHECK_CWD));
  });

  test("the root changes once, and nothing of the old one stays", () => {
    const { noPivot } = launch.context.settings;
    const pivot = indexes(compiled, abi.SYS_pivot_root);
    const chroot = indexes(compiled, abi.SYS_chroot);
    expect(pivot.length + chroot.length).toBe(1);
    const [at] = [...pivot, ...chroot];
    const after = ops.slice(at! + 1).findIndex((op) => op.phase !== "pivot") + at! + 1;
    expect(ops[after - 1]).toMatchObject({ call: abi.SYS_chdir, args: ["/"] });
    if (noPivot) expect(indexes(compiled, abi.SYS_mount, ".", "/", 0, abi.MS_MOVE)).toEqual([at! - 1]);
    else expectBefore(pivot, indexes(compiled, abi.SYS_umount2, ".", abi.MNT_DETACH));
    // From here on every path is the image's: only these may be named, and only to read or to execute.
    const allowed = new Set([
      abi.SYS_chdir,
      abi.BUNC_OP_HOME,
      abi.BUNC_OP_LOOKPATH,
      abi.SYS_execve,
      abi.BUNC_OP_HOOK,
    ]);
    for (const op of ops.slice(after)) {
      const path = op.args.findIndex((arg) => typeof arg === "string" && arg.startsWith("/"));
      if (path < 0 || allowed.has(op.call) || op.call === abi.SYS_symlinkat) continue;
      if (op.call === abi.SYS_mount)
        expect(op).toMatchObject({ args: [0, "/"], path: "linux.rootfsPropagation" });
      else expect([callName(op.call), op.args[0]]).toEqual([callName(op.call), launch.context.root]);
    }
  });

  test("init cannot be looked into before anything of the container is there", () => {
    const dumpable = indexes(compiled, abi.SYS_prctl, abi.PR_SET_DUMPABLE, 0);
    expectBefore(dumpable, indexes(compiled, abi.SYS_setresuid, spec.process!.user.uid).slice(-1));
    if (has("mount")) expectBefore(dumpable, indexes(compiled, abi.SYS_open_tree));
    const enters = ops.flatMap((op, i) =>
      op.call === abi.SYS_setns && op.args[1] === abi.CLONE_NEWNS ? [i] : [],
    );
    if (enters.length) expectBefore(dumpable, enters);
  });

  test("the user namespace is joined first but for what may be the host's, the mount namespace last", () => {
    // What the kernel refuses to init before it is in the user namespace is tried again there.
    const joins = ops.filter((op) => op.call === abi.SYS_setns);
    const required = joins.filter((op) => op.options.tolerate === undefined).map((op) => op.args[1]);
    const joined = joins.map((op) => op.args[1]);
    const mount = joined.indexOf(abi.CLONE_NEWNS);
    const user = joined.indexOf(abi.CLONE_NEWUSER);
    if (user >= 0) expect(required[0]).toBe(abi.CLONE_NEWUSER);
    for (const op of joins.slice(0, Math.max(user, 0))) {
      expect(op.options.tolerate).toEqual([[abi.EPERM, 0]]);
      expect(required).toContain(op.args[1]!);
    }
    if (mount >= 0) expect(mount).toBe(joined.length - 1);
  });

  test("the cgroup namespace is made after the parent has placed init", () => {
    const made = indexes(compiled, abi.SYS_unshare, abi.CLONE_NEWCGROUP);
    if (made.length) expectBefore([parts[0]!.ops.length - 1], made);
  });

  test("nodes are made with a umask of 0, and the program gets its own", () => {
    const zero = indexes(compiled, abi.SYS_umask, 0);
    const devices = indexes(compiled, abi.BUNC_OP_DEVICE);
    if (devices.length) expectBefore(zero, devices);
    expect(indexes(compiled, abi.SYS_umask)).toEqual([...zero, ...indexes(compiled, abi.SYS_umask, 0o022)]);
  });

  test("the root becomes read-only after everything else", () => {
    if (!has("mount") || !spec.root!.readonly) return;
    const last = ops.findLast((op) => CHANGES_MOUNTS.has(op.call))!;
    expect(last).toMatchObject({ call: abi.BUNC_OP_MOUNT_ATTR, path: "root.readonly" });
    expect(last.args.slice(1)).toEqual(["/", abi.MOUNT_ATTR_RDONLY, 0]);
  });

  test("covered paths come after all mounts and the change of root", () => {
    const covered = [...indexes(compiled, abi.BUNC_OP_MASK), ...indexes(compiled, abi.BUNC_OP_READONLY)];
    if (!has("mount")) return;
    expectBefore(indexes(compiled, abi.BUNC_OP_MOUNT), covered);
    expectBefore([...indexes(compiled, abi.SYS_pivot_root), ...indexes(compiled, abi.SYS_chroot)], covered);
  });

  test("everything below the rootfs is reached through its descriptor", () => {
    const { root, settings: given } = launch.context;
    const derived = new Set<unknown>([root]);
    for (const op of ops) {
      const below = derived.has(op.args[0]);
      if (op.options.slot && (below || op.call === abi.BUNC_OP_MKPATH)) derived.add(op.options.slot);
      if (!["mounts", "devices", "paths", "terminal"].includes(op.phase)) continue;
      if (reachesPath(op)) expect([callName(op.call), below]).toEqual([callName(op.call), true]);
      for (const arg of op.args) if (typeof arg === "string") expect(arg).not.toContain(given.rootfs);
    }
    // By its path the rootfs is opened once; before that, the host's mount that it lies on is detached.
    const named = ops.filter((op) => op.args.includes(given.rootfs));
    expect(named.every((op) => op.phase === "rootfs")).toBe(true);
    expect(named.filter((op) => op.call !== abi.SYS_mount).map((op) => callName(op.call))).toEqual([
      "openat",
    ]);
  });

  test("operations say where in config.json they come from", () => {
    const prefix: Record<string, RegExp> = {
      mounts: /^mounts\[\d+\]/,
      paths: /^linux\.(maskedPaths|readonlyPaths)(\[\d+\])?$/,
      sysctl: /^linux\.sysctl\./,
      seccomp: /^linux\.seccomp/,
      hooks: /^hooks/,
      pivot: /^root\.path$/,
    };
    for (const op of ops) {
      const wanted = prefix[op.phase];
      if (wanted && op.call !== abi.SYS_fchdir && op.call !== abi.BUNC_OP_PART)
        expect(op.path).toMatch(wanted);
      for (const [, index] of op.path.matchAll(/^mounts\[(\d+)\]/g))
        expect(Number(index)).toBeLessThan(spec.mounts!.length);
      if (/^(mounts|linux\.\w+Paths)\[/.test(op.path) && !op.path.includes(".options"))
        expect(namesItsField(op, spec)).toBe(true);
    }
  });

  test("the encoded parts count on from each other", () => {
    let first = 0;
    for (const [i, bytes] of encodeAll(compiled).entries()) {
      const decoded = decodePart(bytes);
      expect(decoded.first).toBe(first);
      expect(decoded.ops.length).toBe(parts[i]!.ops.length);
      first += decoded.ops.length;
    }
  });
});

function isDescriptor(arg: unknown): boolean {
  return arg instanceof Slot && !arg.name.startsWith("path of");
}

/** Whether an operation resolves a path that is not only a name in a directory it holds. */
function reachesPath(op: Op): boolean {
  if (op.call === abi.SYS_symlinkat) return false;
  const takesPath = [abi.SYS_openat, abi.SYS_openat2, abi.BUNC_OP_MKPATH, abi.SYS_unlinkat, abi.SYS_mknodat];
  const composites = [abi.BUNC_OP_MOUNT, abi.BUNC_OP_MOUNT_ATTR, abi.BUNC_OP_DEVICE, abi.BUNC_OP_MASK];
  return [...takesPath, ...composites, abi.BUNC_OP_READONLY].includes(op.call);
}

/** Whether the path of an operation on a mount or covered path is that of the item it is about. */
function namesItsField(op: Op, spec: Spec): boolean {
  const index = Number(/\[(\d+)\]/.exec(op.path)![1]);
  if (op.path.startsWith("mounts"))
    return op.call !== abi.BUNC_OP_MOUNT || op.args[1] === spec.mounts![index]!.destination;
  const list = op.path.startsWith("linux.masked") ? spec.linux!.maskedPaths! : spec.linux!.readonlyPaths!;
  const isCover = op.call === abi.BUNC_OP_MASK || op.call === abi.BUNC_OP_READONLY;
  return !isCover || op.args[1] === list[index];
}

test("200 mounts and as many devices and covered paths need no more slots than there are", () => {
  const spec = plainSpec();
  const numbers = Array.from({ length: 200 }, (_, i) => i);
  spec.mounts!.push(
    ...numbers.map((i) => ({
      destination: `/m${i}`,
      type: "bind",
      source: "/srv",
      options: ["rbind", "ro", "rslave"],
    })),
    ...numbers.map((i) => ({ destination: `/t${i}`, type: "tmpfs", options: ["tmpcopyup", "ro"] })),
  );
  spec.linux!.devices = numbers.map((i) => ({ path: `/dev/dir${i}/node`, type: "c", major: 1, minor: 3 }));
  spec.linux!.maskedPaths = numbers.map((i) => `/masked${i}`);
  spec.linux!.readonlyPaths = numbers.map((i) => `/readonly${i}`);
  const { ops } = compile(spec, { waitForStart: true, pidfdSocket: true });
  const highest = Math.max(...ops.map((op) => op.options.slot?.index ?? 0));
  expect(highest).toBeLessThan(abi.BUNC_SLOTS / 2);
});

test("a launch without process is refused", () => {
  const spec = plainSpec();
  delete spec.process;
  expect(() => compile(spec, settings())).toThrow("process");
});
