/** What single fields of config.json and single options of the command become in the program. Needs no build. */
import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import type { LinuxDevice, Spec } from "../oci/config.ts";
import { NAMESPACES } from "./context.ts";
import { makeDev } from "./devices.ts";
import { cloneFlag } from "./namespaces.ts";
import type { Op, Slot, Struct } from "./program.ts";
import { type Compiled, compile, FILTER, find, joinedSpec, only, plainSpec, userSpec } from "./testing.ts";

function changed(change: (spec: Spec) => void): Compiled {
  const spec = plainSpec();
  change(spec);
  return compile(spec);
}

function bytesOf(arg: unknown): string {
  return new TextDecoder().decode(arg as Uint8Array);
}

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

  test("labels are opened in the host's /proc, by the process that writes them when all of the image is there", () => {
    const compiled = changed((spec) => {
      spec.process!.apparmorProfile = "profile";
      spec.process!.selinuxLabel = "label";
    });
    const procfs = find(compiled, abi.SYS_openat).find((op) => op.args[1] === "/proc")!;
    expect(compiled.parts[0]!.ops).toContain(procfs);
    const opened = find(compiled, abi.SYS_openat).filter(
      (op) => (op.args[0] as Slot).name === "/proc of the host",
    );
    expect(opened.map((op) => op.args[1])).toEqual(["self/attr/apparmor/exec", "self/attr/exec"]);
    const forks = find(compiled, abi.BUNC_OP_FORK).map((op) => compiled.ops.indexOf(op));
    expect(compiled.ops.indexOf(opened[0]!)).toBeGreaterThan(Math.max(0, ...forks));
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
  test("new ones: that of pids at birth, the others by init, the cgroup's last", () => {
    const plain = compile(plainSpec());
    expect(plain.launch.plan.birth).toEqual({ flags: abi.CLONE_NEWPID, pidns: undefined });
    const made = (compiled: Compiled) => find(compiled, abi.SYS_unshare).map((op) => Number(op.args[0]));
    const first = abi.CLONE_NEWNS | abi.CLONE_NEWUTS | abi.CLONE_NEWIPC | abi.CLONE_NEWNET;
    expect(made(plain)).toEqual([first, abi.CLONE_NEWCGROUP]);
    const spec = plainSpec();
    spec.linux!.namespaces!.push({ type: "time" });
    expect(made(compile(spec))).toEqual([first | abi.CLONE_NEWTIME, abi.CLONE_NEWCGROUP]);
  });

  test("a new user namespace comes first, and the others belong to it", () => {
    const compiled = compile(userSpec());
    const at = (op: Op) => compiled.ops.indexOf(op);
    // Init is not born in it: before ids are mapped an execve there costs all rights.
    expect(compiled.launch.plan.birth).toEqual({ flags: 0, pidns: undefined });
    const user = only(compiled, abi.SYS_unshare, abi.CLONE_NEWUSER);
    const waits = compiled.ops.find((op) => op.call === abi.BUNC_OP_PART)!;
    const pids = only(compiled, abi.BUNC_OP_FORK, abi.CLONE_NEWPID);
    const rest = find(compiled, abi.SYS_unshare).filter((op) => op !== user);
    expect(rest.length).toBe(2);
    // The parent maps the ids between the two.
    expect(at(waits)).toBe(at(user) + 1);
    for (const op of [pids, ...rest]) expect(at(op)).toBeGreaterThan(at(waits));
    for (const op of rest) expect(at(op)).toBeGreaterThan(at(pids));
  });

  test.each(NAMESPACES)("a joined one of type %s is entered once, as such, by its descriptor", (type) => {
    const compiled = compile(joinedSpec([type]));
    const { birth, fds, firstFd } = compiled.launch.plan;
    const number = firstFd + fds.findIndex(({ name }) => name === `ns:${type}`);
    expect(number).toBeGreaterThan(firstFd);
    const entered = find(compiled, abi.SYS_setns).map((op) => op.args);
    if (type === "pid") expect([birth.pidns, entered]).toEqual(["ns:pid", []]);
    else expect([birth.pidns, entered]).toEqual([undefined, [[number, cloneFlag(type)]]]);
    // And none of that type is made.
    const made = find(compiled, abi.SYS_unshare).reduce((all, op) => all | Number(op.args[0]), birth.flags);
    expect(made & cloneFlag(type)).toBe(0);
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
    // Root of a user namespace may not write to the file when init has changed its id; nor, where the caller is an
    // ordinary user and the file then root's, when init is hidden.
    spec.linux!.namespaces!.push({ type: "user" });
    spec.linux!.uidMappings = spec.linux!.gidMappings = [{ containerID: 0, hostID: 100000, size: 1 }];
    const { ops } = compile(spec, { rootless: true });
    const last = ops.findLastIndex((op) => op.args[1] === "/proc/self/timens_offsets");
    expect(last).toBeGreaterThan(ops.findIndex((op) => op.call === abi.SYS_unshare));
    expect(last).toBeLessThan(ops.findIndex((op) => op.call === abi.SYS_setresgid));
    expect(last).toBeLessThan(
      ops.findIndex((op) => op.call === abi.SYS_prctl && op.args[0] === abi.PR_SET_DUMPABLE),
    );
  });

  test("init hides before it is in a user namespace, unless an ordinary user's ids have to be mapped first", () => {
    const first = (list: readonly Op[], call: number, arg: number) =>
      list.findIndex((op) => op.call === call && op.args[0] === arg);
    const hidden = (list: readonly Op[]) => first(list, abi.SYS_prctl, abi.PR_SET_DUMPABLE);
    const spec = plainSpec();
    spec.linux!.namespaces!.push({ type: "user" });
    spec.linux!.uidMappings = spec.linux!.gidMappings = [{ containerID: 0, hostID: 100000, size: 1 }];
    const roots = compile(spec).ops;
    expect(hidden(roots)).toBeGreaterThanOrEqual(0);
    expect(hidden(roots)).toBeLessThan(first(roots, abi.SYS_unshare, abi.CLONE_NEWUSER));
    const again = roots.findLastIndex(
      (op) => op.call === abi.SYS_prctl && op.args[0] === abi.PR_SET_DUMPABLE,
    );
    expect(again).toBeGreaterThan(first(roots, abi.SYS_setresuid, 0));
    const { ops } = compile(spec, { rootless: true });
    expect(hidden(ops)).toBeGreaterThan(first(ops, abi.SYS_setresuid, 0));
    const plain = compile(plainSpec()).ops.filter(
      (op) => op.call === abi.SYS_prctl && op.args[0] === abi.PR_SET_DUMPABLE,
    );
    expect(plain.length).toBe(1);
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
