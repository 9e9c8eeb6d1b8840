/**
 * Where control goes in a launch program when operations fail: the simulator of testing.ts follows the skips, as C does
 * (interp.test.ts). Needs no build.
 */
import { describe, expect, test } from "bun:test";
import { parseLayout } from "../cgroup/layout.ts";
import * as abi from "../linux/abi.gen.ts";
import type { Op } from "./program.ts";
import { type Compiled, compile, HOST, plainSpec, simulate, userSpec } from "./testing.ts";

/** Simulates the operations of one phase (or about one field), and gives those that were executed. */
function follow(compiled: Compiled, of: (op: Op) => boolean, outcome: (op: Op) => number) {
  const ops = compiled.ops.filter(of);
  const { executed, failed } = simulate(ops, outcome);
  return { ops, executed, failed, passed: ops.filter((op) => !executed.includes(op)) };
}

describe("control flow", () => {
  test("without keyrings in the kernel none gets permissions", () => {
    const { ops } = compile(plainSpec());
    const at = ops.findIndex((op) => op.call === abi.SYS_keyctl);
    const [join, permit, next] = ops.slice(at, at + 3);
    expect([join!.args[0], permit!.args[0]]).toEqual([abi.KEYCTL_JOIN_SESSION_KEYRING, abi.KEYCTL_SETPERM]);
    expect(next!.call).not.toBe(abi.SYS_keyctl);
    const around = [join!, permit!, next!];
    const executed = (errnos: Map<Op, number>) => simulate(around, (op) => errnos.get(op) ?? 0).executed;
    expect(executed(new Map([[join!, abi.ENOSYS]]))).toEqual([join!, next!]);
    expect(executed(new Map([[permit!, abi.EACCES]]))).toEqual(around);
    expect(simulate(around, () => abi.EDQUOT).failed).toBe(join);
  });

  test("a working directory that init may not look at is neither made nor closed", () => {
    const spec = plainSpec();
    spec.process!.cwd = "/work";
    const compiled = compile(spec);
    const isMade = (op: Op) => op.call === abi.BUNC_OP_MKPATH && op.args[1] === "/work";
    const part = compiled.parts.find(({ ops }) => ops.some(isMade))!;
    const at = part.ops.findIndex(isMade);
    const pair = part.ops.slice(at, at + 3);
    expect(pair[1]).toMatchObject({ call: abi.SYS_close, args: [pair[0]!.options.slot] });
    const denied = simulate(pair, (op) => (isMade(op) ? abi.EACCES : 0));
    expect(denied).toEqual({ executed: [pair[0]!, pair[2]!], failed: undefined });
    expect(simulate(pair, () => 0).executed).toEqual(pair);
    expect(simulate(pair, () => abi.ENOTDIR).failed).toBe(pair[0]!);
  });

  test("the working directory is entered again as the user, if it was refused before, and only then", () => {
    const compiled = compile(plainSpec());
    const about = (op: Op) =>
      op.path === "process.cwd" && op.call !== abi.BUNC_OP_MKPATH && op.call !== abi.SYS_close;
    /** How both attempts end; EXPECT answers as the interpreter would. */
    const attempts = (first: number, second: number) => {
      let tried = 0;
      const { executed, failed } = follow(compiled, about, (op) => {
        if (op.call === abi.BUNC_OP_EXPECT) return first === 0 ? 0 : abi.EACCES;
        if (op.call === abi.SYS_chdir) return tried++ === 0 ? first : second;
        return 0;
      });
      return {
        tried,
        checked: executed.some((op) => op.call === abi.BUNC_OP_CHECK_CWD),
        failed: failed?.call,
      };
    };
    expect(attempts(0, abi.EIO)).toEqual({ tried: 1, checked: true, failed: undefined });
    expect(attempts(abi.EACCES, 0)).toEqual({ tried: 2, checked: true, failed: undefined });
    expect(attempts(abi.EACCES, abi.EACCES)).toEqual({ tried: 2, checked: false, failed: abi.SYS_chdir });
    expect(attempts(abi.ENOENT, 0)).toEqual({ tried: 1, checked: false, failed: abi.SYS_chdir });
  });

  test("links of /dev that are there stay; ptmx is replaced, or made where there is none", () => {
    const compiled = compile(plainSpec());
    const links = (op: Op) =>
      op.phase === "devices" && (op.call === abi.SYS_symlinkat || op.call === abi.SYS_unlinkat);
    const isPtmx = (op: Op) => op.args[2] === "ptmx";
    const there = follow(compiled, links, (op) =>
      op.call === abi.SYS_symlinkat && !isPtmx(op) ? abi.EEXIST : 0,
    );
    expect(there).toMatchObject({ failed: undefined, passed: [] });
    const none = follow(compiled, links, (op) => (op.call === abi.SYS_unlinkat ? abi.ENOENT : 0));
    expect(none).toMatchObject({ failed: undefined, passed: [] });
    // An image with a directory there would otherwise choose what /dev/ptmx is.
    expect(
      follow(compiled, links, (op) => (op.call === abi.SYS_unlinkat ? abi.EISDIR : 0)).failed,
    ).toBeDefined();
    expect(follow(compiled, links, (op) => (isPtmx(op) ? abi.EEXIST : 0)).failed).toBeDefined();
  });

  /** The attempts to detach the mount that the rootfs lies on: whichever of the directories above is its mount point. */
  const detaches = (op: Op) => op.phase === "rootfs" && op.call === abi.SYS_mount;

  test.each([0, 1, 2, 3])(
    "the mount of the rootfs is detached at the nearest mount point, %d levels up",
    (level) => {
      const ancestors = ["/bundle/rootfs", "/bundle", "/"];
      const compiled = compile(plainSpec());
      const attempts = compiled.ops
        .filter((op) => detaches(op) && ancestors.includes(String(op.args[1])))
        .slice(-3);
      expect(attempts.map((op) => op.args[1])).toEqual(ancestors);
      const { executed, failed } = simulate(attempts, (op) =>
        attempts.indexOf(op) >= level ? 0 : abi.EINVAL,
      );
      expect(executed).toEqual(attempts.slice(0, level + 1));
      expect(failed).toBe(level < 3 ? undefined : executed.at(-1));
    },
  );

  test("the mount of a rootfs below hundreds of directories", () => {
    const rootfs = "/d".repeat(300);
    const compiled = compile(plainSpec(), { rootfs });
    const attempts = compiled.ops.filter((op) => detaches(op) && String(op.args[1]).startsWith("/d"));
    expect(attempts.length).toBe(300);
    expect(simulate(attempts, () => 0).failed).toBeUndefined();
    expect(simulate(attempts, (op) => (attempts.indexOf(op) < 299 ? abi.EINVAL : 0)).executed).toEqual(
      attempts,
    );
    for (const op of compiled.ops) expect(op.options.okSkip ?? 0).toBeLessThanOrEqual(255);
  });

  test("--no-pivot: a proc that cannot be unmounted is covered", () => {
    const compiled = compile(
      plainSpec(),
      { noPivot: true },
      { ...HOST, fullProcMounts: ["/proc", "/x/sys"] },
    );
    const covers = (op: Op) =>
      op.call === abi.SYS_umount2 || (op.call === abi.SYS_mount && op.args[0] === "tmpfs");
    const paths = (outcome: (op: Op) => number) =>
      follow(compiled, covers, outcome).executed.map((op) => [
        op.call === abi.SYS_mount,
        op.args[op.call === abi.SYS_mount ? 1 : 0],
      ]);
    expect(paths(() => 0)).toEqual([
      [false, "/proc"],
      [false, "/x/sys"],
    ]);
    expect(paths((op) => (op.call === abi.SYS_umount2 ? abi.EINVAL : 0))).toEqual([
      [false, "/proc"],
      [true, "/proc"],
      [false, "/x/sys"],
      [true, "/x/sys"],
    ]);
    expect(follow(compiled, covers, () => abi.EPERM).failed).toBeUndefined();
  });

  test("ids that the user namespace does not map are no failure yet", () => {
    const compiled = compile(userSpec());
    const ids = (op: Op) => op.phase === "ids";
    expect(follow(compiled, ids, () => abi.EINVAL)).toMatchObject({ failed: undefined, passed: [] });
    expect(follow(compiled, ids, () => abi.EPERM).failed).toBeDefined();
  });

  test("cgroup2 is mounted, and where that is refused the host's is bound", () => {
    const spec = plainSpec();
    spec.mounts = [{ destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["ro"] }];
    const mountinfo = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
    const host = { ...HOST, cgroup: parseLayout(mountinfo, () => "") };
    const compiled = compile(spec, {}, host);
    const mounts = (op: Op) => op.call === abi.BUNC_OP_MOUNT;
    const [first, second] = compiled.ops.filter(mounts);
    expect(follow(compiled, mounts, () => 0).executed).toEqual([first!]);
    for (const errno of [abi.EPERM, abi.EBUSY]) {
      expect(follow(compiled, mounts, (op) => (op === first ? errno : 0)).executed).toEqual([
        first!,
        second!,
      ]);
    }
    expect(follow(compiled, mounts, () => abi.ENODEV).failed).toBe(first);
    expect(follow(compiled, mounts, () => abi.EPERM).failed).toBe(second);
  });
});
