/**
 * What single fields of config.json and single options of the command become in the program, and where control goes
 * when an operation fails: the simulator of testing.ts follows the skips. Needs no build.
 */
import { describe, expect, test } from "bun:test";
import { parseLayout } from "../cgroup/layout.ts";
import * as abi from "../linux/abi.gen.ts";
import type { LinuxDevice, Spec } from "../oci/config.ts";
import { makeDev } from "./devices.ts";
import type { Op, Slot, Struct } from "./program.ts";
import {
  type Compiled,
  compile,
  FILTER,
  HOST,
  joinedSpec,
  plainSpec,
  simulate,
  userSpec,
} from "./testing.ts";

function find({ ops }: Compiled, call: number, ...args: unknown[]): Op[] {
  return ops.filter(
    (op) => op.call === call && args.every((arg, i) => arg === undefined || op.args[i] === arg),
  );
}

/** The only operation of a call, with these first arguments (undefined for any). */
function only(compiled: Compiled, call: number, ...args: unknown[]): Op {
  const found = find(compiled, call, ...args);
  expect(found.length).toBe(1);
  return found[0]!;
}

function changed(change: (spec: Spec) => void): Compiled {
  const spec = plainSpec();
  change(spec);
  return compile(spec);
}

function bytesOf(arg: unknown): string {
  return new TextDecoder().decode(arg as Uint8Array);
}

/** Simulates the operations of one phase (or about one field), and gives those that were executed. */
function follow(compiled: Compiled, of: (op: Op) => boolean, outcome: (op: Op) => number) {
  const ops = compiled.ops.filter(of);
  const { executed, failed } = simulate(ops, outcome);
  return { ops, executed, failed, passed: ops.filter((op) => !executed.includes(op)) };
}

describe("control flow", () => {
  const keyring = (op: Op) => op.call === abi.SYS_keyctl;

  test("without keyrings in the kernel none gets permissions", () => {
    const compiled = compile(plainSpec());
    const without = follow(compiled, keyring, (op) =>
      op.args[0] === abi.KEYCTL_JOIN_SESSION_KEYRING ? abi.ENOSYS : 0,
    );
    expect(without).toMatchObject({ failed: undefined, executed: { length: 1 } });
    const foreign = follow(compiled, keyring, (op) => (op.args[0] === abi.KEYCTL_SETPERM ? abi.EACCES : 0));
    expect(foreign).toMatchObject({ failed: undefined, executed: { length: 2 } });
    expect(follow(compiled, keyring, () => abi.EDQUOT).failed).toBe(foreign.ops[0]!);
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

  test.each([0, 1, 2, 3])("a shared root: the nearest mount point is made private, %d levels up", (level) => {
    const compiled = changed((spec) => {
      spec.linux!.rootfsPropagation = "shared";
    });
    const isAncestor = (op: Op) => op.call === abi.SYS_mount && op.args[3] === abi.MS_PRIVATE;
    const ancestors = ["/bundle/rootfs", "/bundle", "/", "/"].slice(0, 3);
    const { executed, failed } = follow(compiled, isAncestor, (op) =>
      ancestors.indexOf(String(op.args[1])) >= level ? 0 : abi.EINVAL,
    );
    expect(executed.map((op) => op.args[1])).toEqual(ancestors.slice(0, level + 1));
    expect(failed).toBe(level < 3 ? undefined : executed.at(-1));
  });

  test("a shared root below hundreds of directories", () => {
    const spec = plainSpec();
    spec.linux!.rootfsPropagation = "rshared";
    const rootfs = "/d".repeat(300);
    const isAncestor = (op: Op) => op.call === abi.SYS_mount && op.args[3] === abi.MS_PRIVATE;
    const compiled = compile(spec, { rootfs });
    const { executed, failed } = follow(compiled, isAncestor, () => 0);
    expect([executed.length, failed]).toEqual([1, undefined]);
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

describe("covered paths", () => {
  test("twice the same path is covered once, and each operation names its own place", () => {
    const compiled = changed((spec) => {
      spec.linux!.maskedPaths = ["/a", "/b", "/a", "/c"];
    });
    const covered = find(compiled, abi.BUNC_OP_MASK).map((op) => [op.args[1], op.path]);
    expect(covered).toEqual([
      ["/a", "linux.maskedPaths[0]"],
      ["/b", "linux.maskedPaths[1]"],
      ["/c", "linux.maskedPaths[3]"],
    ]);
  });

  test("without any there is no tmpfs for them", () => {
    const compiled = changed((spec) => {
      spec.linux!.maskedPaths = [];
    });
    expect(find(compiled, abi.SYS_fsopen)).toEqual([]);
  });

  test("the tmpfs for them is empty, read-only, labelled, and closed at the end", () => {
    const compiled = changed((spec) => {
      spec.linux!.mountLabel = "system_u:object_r:container_file_t:s0";
    });
    const mounted = only(compiled, abi.SYS_fsmount);
    expect(mounted.args[2]).toBe(abi.MOUNT_ATTR_RDONLY);
    const options = find(compiled, abi.SYS_fsconfig, undefined, abi.FSCONFIG_SET_STRING).map((op) =>
      op.args.slice(2, 4),
    );
    expect(options).toContainEqual(["context", "system_u:object_r:container_file_t:s0"]);
    expect(find(compiled, abi.SYS_close, mounted.options.slot).length).toBe(1);
    for (const op of find(compiled, abi.BUNC_OP_MASK)) expect(op.args[2]).toBe(mounted.options.slot!);
  });
});

describe("devices", () => {
  const device = (spec: Spec, given: LinuxDevice): Struct => {
    spec.linux!.devices = [given];
    const name = given.path.slice(given.path.lastIndexOf("/") + 1);
    return only(compile(spec), abi.BUNC_OP_DEVICE, undefined, name).args[2] as Struct;
  };
  const at = abi.bunc_device_;
  const mode = (struct: Struct) => struct.view.getUint32(at.mode, true);

  test("have type, mode, number and owner", () => {
    const fuse = device(plainSpec(), {
      path: "/dev/fuse",
      type: "c",
      major: 10,
      minor: 229,
      fileMode: 0o640,
      uid: 5,
      gid: 6,
    });
    expect(mode(fuse)).toBe(abi.S_IFCHR | 0o640);
    expect(fuse.view.getUint32(at.dev, true)).toBe((10 << 8) | 229);
    expect([fuse.view.getUint32(at.uid, true), fuse.view.getUint32(at.gid, true)]).toEqual([5, 6]);
    expect(fuse.pointers).toEqual([{ offset: at.host, to: "/dev/fuse" }]);
    const disk = device(plainSpec(), { path: "/dev/disk", type: "b", major: 259, minor: 0x12345 });
    expect(mode(disk)).toBe(abi.S_IFBLK | 0o666);
    // new_encode_dev of <linux/kdev_t.h>.
    expect(disk.view.getUint32(at.dev, true)).toBe(0x45 | (259 << 8) | (0x123 << 20));
    expect(mode(device(plainSpec(), { path: "/dev/u", type: "u", major: 1, minor: 3 }))).toBe(
      abi.S_IFCHR | 0o666,
    );
    expect(
      mode(device(plainSpec(), { path: "/dev/x", type: "c", major: 1, minor: 3, fileMode: 0o100644 })),
    ).toBe(abi.S_IFCHR | 0o644);
  });

  test("of the greatest numbers", () => {
    expect(makeDev(4095, 1048575) >>> 0).toBe(0xffffffff);
    expect(makeDev(0, 0)).toBe(0);
  });

  test("that are fifos have no number and no node of the host", () => {
    for (const spec of [plainSpec(), userSpec()]) {
      const fifo = device(spec, { path: "/dev/pipe", type: "p", fileMode: 0o600 });
      // Everybody may make a fifo, in a user namespace too.
      expect(mode(fifo)).toBe(abi.S_IFIFO | 0o600);
      expect(fifo.pointers).toEqual([]);
    }
  });

  test("in a user namespace are the host's, bound", () => {
    const node = device(userSpec(), { path: "/dev/fuse", type: "c", major: 10, minor: 229 });
    expect(mode(node)).toBe(0);
    expect(node.pointers).toEqual([{ offset: at.host, to: "/dev/fuse" }]);
  });

  test("of the bundle take the place of those that every container has", () => {
    const compiled = changed((spec) => {
      spec.linux!.devices = [{ path: "/dev/./null", type: "c", major: 1, minor: 3, fileMode: 0o600 }];
    });
    const struct = only(compiled, abi.BUNC_OP_DEVICE, undefined, "null").args[2] as Struct;
    expect(mode(struct) & 0o777).toBe(0o600);
    expect(find(compiled, abi.BUNC_OP_DEVICE).length).toBe(6);
  });

  test("outside of /dev lie below a directory that is made", () => {
    const compiled = changed((spec) => {
      spec.linux!.devices = [{ path: "/dev/net/tun", type: "c", major: 10, minor: 200 }];
    });
    const made = only(compiled, abi.BUNC_OP_MKPATH, undefined, "/dev/net");
    expect(only(compiled, abi.BUNC_OP_DEVICE, undefined, "tun").args[0]).toBe(made.options.slot!);
  });

  test("are left to a bind mount over /dev", () => {
    const compiled = changed((spec) => {
      spec.mounts!.push({ destination: "/dev/", type: "bind", source: "/dev", options: ["rbind"] });
    });
    expect(find(compiled, abi.BUNC_OP_DEVICE)).toEqual([]);
    expect(find(compiled, abi.BUNC_OP_NULL_STREAMS)).toEqual([]);
  });
});

describe("process", () => {
  test("sysctl with dots and with slashes", () => {
    const compiled = changed((spec) => {
      spec.linux!.sysctl = {
        "net.ipv4.ip_forward": "1",
        "net/ipv4/conf/eth0.1/forwarding": "0",
        "net.ipv4.conf.eth0/1.rp_filter": "2",
      };
    });
    const written = find(compiled, abi.BUNC_OP_WRITE_AT).map((op) => [op.args[1], bytesOf(op.args[3])]);
    expect(written).toEqual([
      ["/proc/sys/net/ipv4/ip_forward", "1"],
      ["/proc/sys/net/ipv4/conf/eth0.1/forwarding", "0"],
      ["/proc/sys/net/ipv4/conf/eth0.1/rp_filter", "2"],
    ]);
  });

  test("limits up to infinity, exactly", () => {
    const compiled = changed((spec) => {
      spec.process!.rlimits = [{ type: "RLIMIT_CORE", soft: 0, hard: 18446744073709551615n }];
    });
    const limit = only(compiled, abi.SYS_prlimit64, 0, abi.RLIMIT_CORE).args[2] as Struct;
    expect([limit.view.getBigUint64(0, true), limit.view.getBigUint64(8, true)]).toEqual([
      0n,
      0xffffffffffffffffn,
    ]);
  });

  test("scheduler, I/O priority, personality, memory policy", () => {
    const compiled = changed((spec) => {
      spec.process!.scheduler = {
        policy: "SCHED_DEADLINE",
        flags: ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"],
        nice: -5,
        runtime: 1e6,
        deadline: 5e9,
        period: 5000000001,
      };
      spec.process!.ioPriority = { class: "IOPRIO_CLASS_BE", priority: 4 };
      spec.linux!.personality = { domain: "LINUX32" };
      spec.linux!.memoryPolicy = { mode: "MPOL_BIND", nodes: "0-1,64", flags: ["MPOL_F_STATIC_NODES"] };
    });
    const attr = only(compiled, abi.SYS_sched_setattr, 0).args[1] as Struct;
    expect(attr.view.getUint32(0, true)).toBe(48);
    expect(attr.view.getUint32(4, true)).toBe(abi.SCHED_DEADLINE);
    expect(attr.view.getUint32(8, true)).toBe(abi.SCHED_FLAG_RESET_ON_FORK | abi.SCHED_FLAG_RECLAIM);
    expect(attr.view.getInt32(16, true)).toBe(-5);
    expect(attr.view.getBigUint64(40, true)).toBe(5000000001n);
    expect(only(compiled, abi.SYS_ioprio_set).args[2]).toBe((2 << 13) | 4);
    expect(only(compiled, abi.SYS_personality).args).toEqual([abi.PER_LINUX32]);
    const [mode, mask, bits] = only(compiled, abi.SYS_set_mempolicy).args;
    expect(mode).toBe(abi.MPOL_BIND | abi.MPOL_F_STATIC_NODES);
    expect([...(mask as Uint8Array)]).toEqual([3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    expect(bits).toBe(129);
  });

  test("labels are opened before and written after everything of the image is there", () => {
    const compiled = changed((spec) => {
      spec.process!.apparmorProfile = "profile";
      spec.process!.selinuxLabel = "label";
    });
    const opened = find(compiled, abi.SYS_openat).filter((op) =>
      String(op.args[1]).startsWith("/proc/self/attr"),
    );
    expect(opened.map((op) => compiled.parts[0]!.ops.includes(op))).toEqual([true, true]);
    const written = find(compiled, abi.BUNC_OP_WRITE).map((op) => [
      (op.args[0] as Slot).name,
      bytesOf(op.args[1]),
    ]);
    expect(written).toEqual([
      ["apparmor label", "exec profile"],
      ["selinux label", "label"],
    ]);
    const at = (op: Op) => compiled.ops.indexOf(op);
    expect(at(find(compiled, abi.BUNC_OP_WRITE)[0]!)).toBeGreaterThan(
      at(only(compiled, abi.BUNC_OP_LOOKPATH)),
    );
  });

  test("the environment: the last of a name counts, an empty HOME is looked up", () => {
    const compiled = changed((spec) => {
      spec.process!.env = ["A=1", "PATH=/x", "A=2", "HOME=", "PATH=/one:relative::/two", "EMPTY="];
      spec.process!.args = ["prog"];
    });
    const environment = compiled.ops.at(-1)!.args[2] as Struct;
    const strings = environment.pointers.map(({ to }) => to).filter((to) => typeof to === "string");
    expect(strings.sort()).toEqual(["A=2", "EMPTY=", "PATH=/one:relative::/two"]);
    expect(environment.size).toBe((3 + 1 + 1) * 8);
    expect(bytesOf(only(compiled, abi.BUNC_OP_LOOKPATH).args[0])).toBe("/one/prog\0/two/prog\0\0");
    expect(find(compiled, abi.BUNC_OP_HOME).length).toBe(1);
  });

  test.each([["A"], ["=x"], ["A=b\0c"]])("an environment with %p is refused", (entry) => {
    expect(() =>
      changed((spec) => {
        spec.process!.env = [entry];
      }),
    ).toThrow("invalid environment variable");
  });

  test("a program given by path is not searched for", () => {
    for (const name of ["/bin/x", "./x", "dir/x"]) {
      const compiled = changed((spec) => {
        spec.process!.args = [name];
      });
      expect(bytesOf(only(compiled, abi.BUNC_OP_LOOKPATH).args[0])).toBe(`${name}\0\0`);
    }
  });

  test("hooks get their state, and a deadline in milliseconds", () => {
    const spec = plainSpec();
    spec.annotations = { key: "value" };
    spec.hooks = {
      createContainer: [{ path: "/h", timeout: 3 }],
      startContainer: [{ path: "/s", args: ["s", "x"] }],
    };
    const compiled = compile(spec, { innerPid: 7 });
    const [create, start] = find(compiled, abi.BUNC_OP_HOOK).map((op) => op.args[0] as Struct);
    const at = abi.bunc_hook_;
    const to = (struct: Struct, offset: number) =>
      struct.pointers.find((pointer) => pointer.offset === offset)!.to;
    expect(create!.view.getBigInt64(at.timeout_ms, true)).toBe(3000n);
    expect(start!.view.getBigInt64(at.timeout_ms, true)).toBe(-1n);
    const state = JSON.parse(bytesOf(to(create!, at.input)));
    expect(state).toMatchObject({
      id: "test",
      status: "creating",
      pid: 7,
      bundle: "/bundle",
      annotations: { key: "value" },
    });
    expect(JSON.parse(bytesOf(to(start!, at.input))).status).toBe("created");
    expect((to(start!, at.argv) as Struct).pointers.map((pointer) => pointer.to)).toEqual(["s", "x"]);
    expect((to(create!, at.argv) as Struct).pointers.map((pointer) => pointer.to)).toEqual(["/h"]);
  });
});

describe("namespaces", () => {
  test("new ones: pid and user at birth, the others by init, the cgroup's last", () => {
    const spec = userSpec();
    spec.linux!.namespaces!.push({ type: "time" });
    const compiled = compile(spec);
    expect(compiled.launch.plan.birth).toEqual({
      flags: abi.CLONE_NEWUSER | abi.CLONE_NEWPID,
      pidns: undefined,
    });
    const made = find(compiled, abi.SYS_unshare).map((op) => Number(op.args[0]));
    const first =
      abi.CLONE_NEWNS | abi.CLONE_NEWUTS | abi.CLONE_NEWIPC | abi.CLONE_NEWNET | abi.CLONE_NEWTIME;
    expect(made).toEqual([first, abi.CLONE_NEWCGROUP]);
  });

  test("a joined pid namespace is entered by birth, below a joined user namespace by a fork", () => {
    const plain = compile(joinedSpec(["pid"]));
    expect(plain.launch.plan.birth).toEqual({ flags: 0, pidns: "ns:pid" });
    expect(find(plain, abi.BUNC_OP_FORK)).toEqual([]);
    const below = compile(joinedSpec(["user", "pid"]));
    expect(below.launch.plan.birth).toEqual({ flags: 0, pidns: undefined });
    expect(only(below, abi.BUNC_OP_FORK).args).toEqual([0]);
    const fresh = compile(joinedSpec(["user"]));
    expect(only(fresh, abi.BUNC_OP_FORK).args).toEqual([abi.CLONE_NEWPID]);
  });

  test("time offsets are written before the namespace is entered", () => {
    const spec = plainSpec();
    spec.linux!.namespaces!.push({ type: "time" });
    spec.linux!.timeOffsets = { monotonic: { secs: -5, nanosecs: 7 }, boottime: { secs: 9 } };
    const compiled = compile(spec);
    const lines = find(compiled, abi.BUNC_OP_WRITE_AT, abi.AT_FDCWD, "/proc/self/timens_offsets").map((op) =>
      bytesOf(op.args[3]),
    );
    expect(lines).toEqual(["monotonic -5 7\n", "boottime 9 0\n"]);
    const enters = compiled.ops.findIndex(
      (op) => op.call === abi.SYS_setns && op.args[1] === abi.CLONE_NEWTIME,
    );
    expect(enters).toBeGreaterThan(compiled.ops.findLastIndex((op) => op.call === abi.BUNC_OP_WRITE_AT));
  });

  test("without a mount namespace the root is only changed", () => {
    const spec = plainSpec();
    spec.linux!.namespaces = spec.linux!.namespaces!.filter(({ type }) => type !== "mount");
    const compiled = compile(spec);
    expect(only(compiled, abi.SYS_chroot).args).toEqual(["."]);
    for (const call of [abi.BUNC_OP_MOUNT, abi.BUNC_OP_MASK, abi.SYS_mount, abi.SYS_pivot_root]) {
      expect(find(compiled, call)).toEqual([]);
    }
  });
});

test("create waits at the exec fifo, after everything that can fail and before the program", () => {
  const compiled = compile(plainSpec(), {
    waitForStart: true,
    seccomp: { filter: FILTER, flags: 0, listener: false },
  });
  const at = (op: Op) => compiled.ops.indexOf(op);
  const opened = only(compiled, abi.SYS_openat, compiled.launch.context.fd("state-dir"), "exec.fifo");
  expect(opened.args[2]).toBe(abi.O_WRONLY | abi.O_CLOEXEC);
  expect(at(opened)).toBeGreaterThan(at(only(compiled, abi.BUNC_OP_LOOKPATH)));
  expect(at(only(compiled, abi.BUNC_OP_ERRORS_TO))).toBeGreaterThan(at(opened));
  expect(bytesOf(only(compiled, abi.BUNC_OP_WRITE).args[1])).toBe("0");
});
