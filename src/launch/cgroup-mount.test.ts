import { describe, expect, test } from "bun:test";
import { type Host, HYBRID, layoutOf, NESTED, NONE, SEPARATE, V2 } from "../cgroup/testing.ts";
import { abi, bunc_mount_ } from "../linux/abi.gen.ts";
import { callName } from "../linux/names.ts";
import type { Mount, Spec } from "../oci/config.ts";
import { compileCgroupMount } from "./cgroup-mount.ts";
import { Context, type HostFacts, type LaunchSettings } from "./context.ts";
import { parseMountOptions } from "./mount-options.ts";
import { type Op, Slot, Struct } from "./program.ts";

const M = bunc_mount_;
const NAMESPACES = [{ type: "mount" as const }, { type: "cgroup" as const }];

function compile(
  host: Host,
  mount: Partial<Mount>,
  linux: NonNullable<Spec["linux"]> = { namespaces: NAMESPACES },
) {
  const whole: Mount = { destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", ...mount };
  const spec: Spec = {
    ociVersion: "1.3.0",
    process: { user: { uid: 0, gid: 0 }, cwd: "/", args: ["x"] },
    linux,
  };
  const settings = { id: "c1", preserve: 0 } as LaunchSettings;
  const facts = { cgroup: layoutOf(host) } as HostFacts;
  const c = new Context(spec, settings, facts);
  compileCgroupMount(c, {
    index: 3,
    mount: whole,
    type: whole.type!,
    flags: parseMountOptions(whole.options, whole.type),
    target: whole.destination,
    about: "mounting it",
  });
  return c.part.ops;
}

const ATTRS: readonly (readonly [name: string, flag: number])[] = [
  ["rdonly", abi.MOUNT_ATTR_RDONLY],
  ["nosuid", abi.MOUNT_ATTR_NOSUID],
  ["nodev", abi.MOUNT_ATTR_NODEV],
  ["noexec", abi.MOUNT_ATTR_NOEXEC],
];

function attrs(struct: Struct, at: number): string {
  const value = struct.view.getUint32(at, true);
  return ATTRS.filter(([, flag]) => value & flag)
    .map(([name]) => name)
    .join("|");
}

function pointer(struct: Struct, at: number): string | undefined {
  const to = struct.pointers.find(({ offset }) => offset === at)?.to;
  return to instanceof Uint8Array ? new TextDecoder().decode(to) : (to as string | undefined);
}

/** "tmpfs on /a (mode=755) nosuid", or the call and its arguments. */
function line(op: Op): string {
  if (op.call !== abi.BUNC_OP_MOUNT) {
    const args = op.args.map((arg) =>
      arg instanceof Slot || arg instanceof Struct ? `<${arg.name}>` : String(arg),
    );
    return `${callName(op.call)} ${args.join(" ")}`;
  }
  const struct = op.args[2] as Struct;
  const type = pointer(struct, M.type);
  const params = (pointer(struct, M.params) ?? "").split("\0").filter((word) => word !== "");
  const what = type ? `${type}(${params.join(" ")})` : `bind ${pointer(struct, M.source)}`;
  const skip = op.options.okSkip ? ` ok+${op.options.okSkip}` : "";
  return `${what} on ${op.args[1]} ${attrs(struct, M.set)}${skip}`;
}

const lines = (...args: Parameters<typeof compile>) => compile(...args).map(line);
const SAFE = "nosuid|nodev|noexec";
const OPTIONS = ["nosuid", "noexec", "nodev", "relatime", "ro"];

describe("v1", () => {
  test("with a cgroup namespace: the hierarchies themselves, read-only, and links", () => {
    expect(lines(HYBRID, { options: OPTIONS })).toEqual([
      `tmpfs(smode 755 ssource tmpfs) on /sys/fs/cgroup ${SAFE}`,
      `cgroup(sname systemd ssource systemd) on /sys/fs/cgroup/systemd rdonly|${SAFE}`,
      `cgroup(fcpu fcpuacct ssource cgroup) on /sys/fs/cgroup/cpu,cpuacct rdonly|${SAFE}`,
      `cgroup(fdevices ssource cgroup) on /sys/fs/cgroup/devices rdonly|${SAFE}`,
      `cgroup(fmemory ssource cgroup) on /sys/fs/cgroup/memory rdonly|${SAFE}`,
      "openat2 <root> /sys/fs/cgroup <open_how> 24",
      "symlinkat cpu,cpuacct <cgroup tmpfs> cpu",
      "symlinkat cpu,cpuacct <cgroup tmpfs> cpuacct",
      "close <cgroup tmpfs>",
      `mount_attr <root> /sys/fs/cgroup ${abi.MOUNT_ATTR_RDONLY} 0`,
    ]);
  });

  test("writable: no attribute but those that are always set", () => {
    const ops = lines(SEPARATE, { options: ["rw"] });
    expect(ops.length).toBe(7);
    expect(ops.every((text) => text.endsWith(` ${SAFE}`))).toBeTrue();
  });

  test("rro is read-only, too", () => {
    expect(lines(SEPARATE, { options: ["rro"] }).at(-1)).toStartWith("mount_attr");
  });

  test("without one: the container's own directories are bound, with the mount's own flags", () => {
    const linux = { cgroupsPath: "/pods/p1", namespaces: [] };
    expect(lines(HYBRID, { options: ["ro", "nosuid"] }, linux).slice(0, 5)).toEqual([
      `tmpfs(smode 755 ssource tmpfs) on /sys/fs/cgroup ${SAFE}`,
      "bind /sys/fs/cgroup/systemd/pods/p1 on /sys/fs/cgroup/systemd rdonly|nosuid",
      "bind /sys/fs/cgroup/cpu,cpuacct/pods/p1 on /sys/fs/cgroup/cpu,cpuacct rdonly|nosuid",
      "bind /sys/fs/cgroup/devices/pods/p1 on /sys/fs/cgroup/devices rdonly|nosuid",
      "bind /sys/fs/cgroup/memory/pods/p1 on /sys/fs/cgroup/memory rdonly|nosuid",
    ]);
    expect(lines(NESTED, {}, { namespaces: [] })).toContain(
      "bind /sys/fs/cgroup/devices/sub/c1 on /sys/fs/cgroup/devices ",
    );
  });

  test("a hierarchy that containers do not join is shown where the caller is in it", () => {
    const host = {
      mountinfo: `${HYBRID.mountinfo}70 31 0:70 / /sys/fs/cgroup/elogind rw - cgroup cgroup rw,name=elogind\n`,
      self: `${HYBRID.self}9:name=elogind:/c2\n`,
    };
    expect(lines(host, {}, { namespaces: [] })).toContain(
      "bind /sys/fs/cgroup/elogind/c2 on /sys/fs/cgroup/elogind ",
    );
    expect(lines(host, {})).toContain(
      `cgroup(sname elogind ssource cgroup) on /sys/fs/cgroup/elogind ${SAFE}`,
    );
  });

  test("another destination, a label, propagation", () => {
    const ops = compile(
      SEPARATE,
      { destination: "/cg", options: ["rslave", "private"] },
      { namespaces: NAMESPACES, mountLabel: "system_u:object_r:container_file_t:s0" },
    );
    expect(line(ops[0]!)).toBe(
      `tmpfs(smode 755 ssource tmpfs scontext system_u:object_r:container_file_t:s0) on /cg ${SAFE}`,
    );
    const list = (ops[0]!.args[2] as Struct).pointers.find(({ offset }) => offset === M.propagation)
      ?.to as Struct;
    const words = [0, 8, 16].map((at) => list.view.getUint32(at, true));
    expect(words).toEqual([abi.MS_SLAVE | abi.MS_REC, abi.MS_PRIVATE, 0]);
    expect(line(ops[1]!)).toContain(" on /cg/cpu ");
  });
});

describe("v2", () => {
  test("with a cgroup namespace: a mount of its own, else the container's cgroup", () => {
    expect(
      lines(V2, { options: [...OPTIONS, "nsdelegate"] }, { cgroupsPath: "/a/b", namespaces: NAMESPACES }),
    ).toEqual([
      `cgroup2(fnsdelegate ssource cgroup) on /sys/fs/cgroup rdonly|${SAFE} ok+1`,
      `bind /sys/fs/cgroup/a/b on /sys/fs/cgroup rdonly|${SAFE}`,
    ]);
    const [first] = compile(V2, {});
    expect(first!.options.tolerate).toEqual([
      [abi.EPERM, 0],
      [abi.EBUSY, 0],
    ]);
  });

  test("without one the host's mount is bound: a new one would change its options", () => {
    expect(lines(V2, { options: ["ro"] }, { namespaces: [] })).toEqual([
      "bind /sys/fs/cgroup on /sys/fs/cgroup rdonly",
    ]);
  });

  test("a bind of the host's is private, as criu wants it, unless the bundle says otherwise", () => {
    const propagation = (options: string[]): number => {
      const struct = compile(V2, { options }, { namespaces: [{ type: "mount" }] })[0]!.args[2] as Struct;
      const list = struct.pointers.find(({ offset }) => offset === M.propagation)!.to as Struct;
      return list.view.getUint32(0, true);
    };
    expect(propagation(OPTIONS)).toBe(abi.MS_PRIVATE | abi.MS_REC);
    expect(propagation([...OPTIONS, "rslave"])).toBe(abi.MS_SLAVE | abi.MS_REC);
  });

  test("the type cgroup2 is that on any host", () => {
    expect(lines(SEPARATE, { type: "cgroup2" })).toEqual(["cgroup2(ssource cgroup) on /sys/fs/cgroup "]);
    expect(lines(NONE, { type: "cgroup2" })).toEqual(["cgroup2(ssource cgroup) on /sys/fs/cgroup "]);
    expect(lines(HYBRID, { type: "cgroup2" })).toEqual([
      "cgroup2(ssource cgroup) on /sys/fs/cgroup  ok+1",
      "bind /sys/fs/cgroup/unified on /sys/fs/cgroup ",
    ]);
  });
});

test("no cgroups on the host", () => {
  expect(() => compile(NONE, {})).toThrow("mounting it: this host has no cgroups mounted");
});

test("each operation is of its mount", () => {
  for (const host of [HYBRID, SEPARATE, V2]) {
    for (const op of compile(host, { options: ["ro"] })) {
      expect([op.phase, op.path]).toEqual(["mounts", "mounts[3]"]);
      expect(op.options.about ?? "close").toMatch(/^mounting it|^close/);
    }
  }
});
